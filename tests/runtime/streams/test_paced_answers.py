"""Kept answers given at a pace, on mitmproxy's own layers without sockets: what is sent at each moment, and every way it may end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, StreamEnded
from mitmproxy import http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.test import tflow

from runtime import layers
from runtime.requests import addressing, whole_requests
from runtime.resources import release_memory
from runtime.streams import paced_answers
from sluicegate.caching.pacing import PieceTimes, Replay

BODY = b"one two three "


class Wire:
    """A client's connection: what is sent to it is gathered, time passes as told, and hooks are answered at once."""

    def __init__(self, alpn: bytes) -> None:
        options = Options()
        Proxyserver().load(options)
        client = tflow.tclient_conn()
        client.alpn = alpn
        context = Context(client, options)
        modes.HttpProxy(context)
        self.client, self.now = client, 10.0
        self.top = layers.GatewayHttpLayer(context, HTTPMode.regular)
        self.sent, self.hooks, self.flows = b"", list[str](), list[http.HTTPFlow]()
        self.woken: list[commands.RequestWakeup] = []
        self.give(events.Start())

    def give(self, event: events.Event) -> None:
        """Hand an event to the layers, and do what they ask for."""
        for command in list(self.top.handle_event(event)):
            if isinstance(command, commands.SendData):
                self.sent += command.data
            elif isinstance(command, commands.RequestWakeup):
                self.woken.append(command)
            elif isinstance(command, commands.StartHook):
                self.hooks.append(command.name)
                if command.name == "request":
                    self.answer(*command.args())
                self.give(events.HookCompleted(command, None))
            else:
                assert isinstance(command, commands.Log | commands.CloseConnection), command

    def answer(self, flow: http.HTTPFlow) -> None:
        times = PieceTimes(0.0)
        for at, size in ((0.0, 4), (0.5, 8), (3.0, 14)):
            times.note(at, size)
        flow.response = http.Response.make(200, BODY, {"content-type": "text/event-stream"})
        flow.sluicegate_replay = Replay(BODY, times.packed(), lambda: self.now)
        self.flows.append(flow)

    def receive(self, data: bytes) -> None:
        self.give(events.DataReceived(self.client, data))

    def pass_time(self, seconds: float | None = None) -> float:
        """Let time pass, as much as is asked for by default, and wake what waits for that; return how much it was."""
        wakeup = self.woken.pop(0)
        self.now += wakeup.delay if seconds is None else seconds
        self.give(events.Wakeup(wakeup))
        return wakeup.delay

    def taken(self) -> bytes:
        """Return what has been sent since this was asked last."""
        sent, self.sent = self.sent, b""
        return sent


@pytest.fixture
def state(monkeypatch):
    """Whether the gateway stops, and how many bytes wait for the client."""
    found = SimpleNamespace(draining=False, unsent=0)
    transport = SimpleNamespace(get_write_buffer_size=lambda: found.unsent, get_write_buffer_limits=lambda: (0, 100))
    monkeypatch.setattr(paced_answers, "services", lambda: found)
    monkeypatch.setattr(addressing, "note_source", lambda request, client: None)
    monkeypatch.setattr(whole_requests, "count", id)
    monkeypatch.setattr(paced_answers, "connection_handlers", dict)
    monkeypatch.setattr(paced_answers, "client_writer", lambda handler: SimpleNamespace(transport=transport))
    yield found
    release_memory.http_layers.clear()


REQUEST = b"POST http://a.test/ HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\n\r\n{}"


def test_each_piece_is_sent_in_its_time_and_the_next_request_is_answered(state):
    wire = Wire(b"")
    wire.receive(REQUEST)
    assert wire.hooks == ["requestheaders", "request", "responseheaders"]
    head, _, first = wire.taken().partition(b"\r\n\r\n")
    assert b"content-length: 14" in head
    assert first == b"one "
    assert [wire.pass_time(), wire.taken()] == [0.5, b"two "]
    # Woken too early, it sends nothing and goes on waiting.
    assert [wire.pass_time(1.5), wire.taken()] == [2.0, b""]
    assert [wire.pass_time(), wire.taken()] == [0.5, b"three "]
    assert wire.hooks[-1] == "response"
    assert (wire.woken, wire.flows[0].live, wire.flows[0].error) == ([], False, None)
    wire.receive(REQUEST)
    assert wire.taken().endswith(b"one ")


def test_pieces_whose_time_has_passed_are_sent_at_once(state):
    wire = Wire(b"")
    wire.receive(REQUEST)
    wire.pass_time(60)
    assert wire.taken().endswith(b"one two three ")
    assert wire.hooks[-1] == "response"


def test_the_rest_is_sent_at_once_when_the_gateway_stops(state):
    wire = Wire(b"")
    wire.receive(REQUEST)
    state.draining, state.unsent = True, 10_000
    wire.pass_time()
    assert wire.taken().endswith(b"one two three ")
    assert (wire.hooks[-1], wire.flows[0].live) == ("response", False)


def test_a_client_that_reads_slowly_is_waited_for(state):
    wire = Wire(b"")
    wire.receive(REQUEST)
    wire.taken()
    state.unsent = 101
    wire.pass_time()
    assert [wire.pass_time(5), wire.taken()] == [paced_answers.SLOW_CLIENT_S, b""]
    state.unsent = 100
    wire.pass_time()
    assert wire.taken() == b"two three "


def test_a_client_that_reads_nothing_is_not_waited_for_without_end(state):
    wire = Wire(b"")
    wire.receive(REQUEST)
    state.unsent, count = 101, 0
    while wire.woken:
        wire.pass_time(30)
        count += 1
    assert count == 5
    assert wire.taken().endswith(b"one two three ")
    assert wire.hooks[-1] == "response"


@pytest.mark.parametrize("is_woken", [True, False])
def test_a_client_that_leaves_ends_its_call_once(state, is_woken):
    wire = Wire(b"")
    wire.receive(REQUEST)
    flow = wire.flows[0]
    wire.client.state = wire.client.state.CLOSED
    wire.give(events.ConnectionClosed(wire.client))
    assert wire.hooks == ["requestheaders", "request", "responseheaders", "error"]
    assert (flow.live, flow.sluicegate_replay.given_bytes) == (False, 4)
    wire.taken()
    if is_woken:
        wire.pass_time()
    assert wire.taken() == b""
    assert wire.hooks[-1] == "error"


def ask(client: H2Connection, number: int) -> None:
    head = [(":method", "POST"), (":scheme", "https"), (":authority", "a.test"), (":path", "/")]
    client.send_headers(number, head)
    client.send_data(number, b"{}", end_stream=True)


def seen(client: H2Connection, wire: Wire) -> list[Any]:
    return [e for e in client.receive_data(wire.taken()) if isinstance(e, DataReceived | StreamEnded)]


def test_streams_of_one_connection_have_each_their_own_pace_and_one_may_be_reset(state):
    wire, client = Wire(b"h2"), H2Connection(H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    ask(client, 1)
    ask(client, 3)
    wire.receive(client.data_to_send())
    assert [(e.stream_id, e.data) for e in seen(client, wire)] == [(1, b"one "), (3, b"one ")]
    client.reset_stream(1, ErrorCodes.CANCEL)
    wire.receive(client.data_to_send())
    assert (wire.hooks.count("error"), wire.flows[0].live, wire.flows[1].live) == (1, False, True)
    for _ in range(4):
        if wire.woken:
            wire.pass_time()
    found = seen(client, wire)
    assert {e.stream_id for e in found} == {3}
    assert b"".join(e.data for e in found if isinstance(e, DataReceived)) == b"two three "
    assert isinstance(found[-1], StreamEnded)
    assert (wire.hooks.count("response"), wire.hooks.count("error"), wire.woken) == (1, 1, [])


def test_an_answer_without_a_pace_is_sent_as_ever(state, monkeypatch):
    monkeypatch.setattr(Wire, "answer", lambda self, flow: setattr(flow, "response", http.Response.make(200, BODY)))
    wire = Wire(b"")
    wire.receive(REQUEST)
    assert wire.hooks == ["requestheaders", "request", "responseheaders", "response"]
    assert wire.taken().endswith(b"\r\n\r\n" + BODY)
