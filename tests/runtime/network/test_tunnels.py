"""A tunnel's first message is waited for, within limits."""

from __future__ import annotations

import pytest
from mitmproxy import options
from mitmproxy.connection import Client, Server
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context

from runtime.network import tunnels
from runtime.network.tunnels import FirstMessage, Refused


class Child(layer.Layer):
    """Remembers what it is given."""

    def __init__(self, context):
        super().__init__(context)
        self.events = []

    def _handle_event(self, event):
        self.events.append(event)
        yield from ()


@pytest.fixture
def made():
    """A layer that waits for a line, what it has given up for, and how to send it events."""
    context = Context(Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2)), options.Options())
    context.server = Server(address=("a.test", 443))
    given_up = []

    def choose(received):
        if received.startswith(b"bad"):
            raise Refused
        return Child(context) if received.endswith(b"\n") else None

    waiting = FirstMessage(context, choose, given_up.append)
    return waiting, given_up, lambda event: list(waiting.handle_event(event))


def data(layer_, content):
    return events.DataReceived(layer_.context.client, content)


def test_what_has_arrived_is_handed_on_at_once_and_in_order(made):
    waiting, given_up, send = made
    (timer,) = send(events.Start())
    assert (type(timer), timer.delay) == (commands.RequestWakeup, 10.0)
    assert send(data(waiting, b"a")) == send(data(waiting, b"b\n")) == []
    send(data(waiting, b"c"))
    send(events.Wakeup(timer))
    assert [getattr(e, "data", None) for e in waiting.child.events] == [None, b"ab\n", b"c"]
    assert given_up == []


def test_too_slow_too_long_or_in_too_many_pieces_is_the_end(made):
    for end in ("time", "size", "pieces"):
        waiting, given_up, send = made
        given_up.clear()
        waiting.is_over, waiting.pieces = False, 0
        (timer,) = send(events.Start())
        if end == "time":
            out = send(events.Wakeup(timer))
        elif end == "size":
            out = send(data(waiting, bytes(tunnels.MAX_FIRST_MESSAGE_BYTES + 1)))
        else:
            out = [c for _ in range(tunnels.MAX_PIECES + 1) for c in send(data(waiting, b"a"))]
        assert [type(c) for c in out] == [commands.CloseConnection]
        assert len(given_up) == 1
        assert send(data(waiting, b"more\n")) == []
        assert waiting.child is None


def test_a_refused_message_ends_the_connection(made):
    waiting, given_up, send = made
    send(events.Start())
    assert [type(c) for c in send(data(waiting, b"bad\n"))] == [commands.CloseConnection]
    assert send(data(waiting, b"more\n")) == given_up == []


def test_a_client_that_leaves_is_let_go(made):
    waiting, given_up, send = made
    (timer,) = send(events.Start())
    assert [type(c) for c in send(events.ConnectionClosed(waiting.context.client))] == [commands.CloseConnection]
    assert send(events.Wakeup(timer)) == given_up == []
