"""A trusted proxy's header is waited for, within limits, and leaves no trace in what follows."""

from __future__ import annotations

import pytest
from mitmproxy import options
from mitmproxy.connection import Client
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.modes import HttpProxy

from flow import connection_of
from runtime.network.port import ProxyHeader, is_same_machine


@pytest.fixture
def made():
    context = Context(Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2)), options.Options())
    HttpProxy(context)
    waiting = ProxyHeader(context)
    return context, lambda event: list(waiting.handle_event(event))


def test_what_follows_is_asked_for_as_if_the_client_had_come_by_itself(made):
    context, send = made
    send(events.Start())
    assert send(events.DataReceived(context.client, b"PROXY TCP4 10.1.2.3 10.0.0.1 47")) == []
    assert send(events.DataReceived(context.client, b"11 80\r\n")) == []
    assert context.client.peername == ("10.1.2.3", 4711)
    assert [type(x) for x in context.layers] == [HttpProxy]
    (hook,) = send(events.DataReceived(context.client, b"GET / HTTP/1.1\r\n"))
    assert isinstance(hook, layer.NextLayerHook)
    assert hook.data.data_client() == b"GET / HTTP/1.1\r\n"
    # It has crossed no network, whoever is at the other end of it.
    assert is_same_machine(context.client)
    assert connection_of(context.client).has_begun


@pytest.mark.parametrize("how", ["late", "long", "malformed"])
def test_a_header_that_cannot_be_waited_for_ends_the_connection(made, caplog, how):
    context, send = made
    (timer,) = send(events.Start())
    assert isinstance(timer, commands.RequestWakeup)
    if how == "late":
        assert send(events.DataReceived(context.client, b"PROXY TCP4 10.")) == []
        out = send(events.Wakeup(timer))
    else:
        out = send(
            events.DataReceived(context.client, b"PROXY UNKNOWN" + b"x" * 200 if how == "long" else b"PROXY /x HTTP/1.1\r\n")
        )
    assert [(type(c), c.connection) for c in out] == [(commands.CloseConnection, context.client)]
    assert "A connection from 127.0.0.1 is ended by its PROXY header" in caplog.text
    assert send(events.DataReceived(context.client, b"GET / HTTP/1.1\r\n\r\n")) == []


def test_the_same_machine_is_told_by_the_connection_itself():
    def client(peer, ours):
        return Client(peername=(peer, 1), sockname=(ours, 2))

    assert is_same_machine(client("127.0.0.1", "127.0.0.1"))
    assert is_same_machine(client("10.0.0.1", "10.0.0.1"))
    assert not is_same_machine(client("10.0.0.2", "10.0.0.1"))
    from_afar = client("127.0.0.1", "10.0.0.1")
    connection_of(from_afar).proxy = "10.0.0.2"
    assert not is_same_machine(from_afar)
