"""An HTTP layer of ours does with each command of its children what mitmproxy's does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.connection import Server
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    DropStream,
    GetHttpConnection,
    HttpLayer,
    HTTPMode,
    HttpRequestHook,
    ReceiveHttp,
    RegisterHttpConnection,
    RequestData,
    RequestHeaders,
    SendHttp,
)
from mitmproxy.test import tflow

from runtime import handing_on
from runtime.resources import release_memory
from support.memory_wire import MemoryWire, options, settle

KINDS = ("data", "receive", "begin", "receive late", "send", "drop", "get", "register", "open", "hook", "wake", "log", "close")


class Stub:
    """A child that answers its first events with these commands."""

    def __init__(self, http: Any, plan: list[str], told: list[str]) -> None:
        self.http, self.plan, self.told = http, plan, told

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        self.told.append(f"event {type(event).__name__}")
        while self.plan:
            yield self.command(self.plan.pop(0))

    def command(self, kind: str) -> commands.Command:
        client, server = self.http.context.client, self.http.context.server
        made = {
            "data": lambda: commands.SendData(client, b"x"),
            "receive": lambda: ReceiveHttp(RequestData(1, b"x")),
            "begin": lambda: ReceiveHttp(RequestHeaders(3, tflow.tflow().request, True)),
            "receive late": lambda: ReceiveHttp(RequestData(99, b"x")),
            "send": lambda: SendHttp(RequestData(1, b"x"), client),
            "drop": lambda: DropStream(1),
            "get": lambda: GetHttpConnection(("localhost", 80), False, None),
            "register": lambda: RegisterHttpConnection(server, None),
            "open": lambda: commands.OpenConnection(server),
            "hook": lambda: HttpRequestHook(tflow.tflow()),
            "wake": lambda: commands.RequestWakeup(1),
            "log": lambda: commands.Log("x"),
            "close": lambda: commands.CloseConnection(client),
        }
        return made[kind]()


def handle(plan: list[str], own: bool) -> tuple[list[str], list[str], list[str], list[int], list[str]]:
    """Return the commands that come out, what children and the layer were told, and what it keeps then."""
    context = Context(tflow.tclient_conn(), options())
    context.server = Server(address=("localhost", 80))
    http: Any = HttpLayer(context, HTTPMode.regular)
    told: list[str] = []
    child, other = Stub(http, list(plan), told), Stub(http, ["data", "log"], told)
    http.connections = {context.client: other}
    http.streams = {1: Stub(http, ["data"], told)}

    def noted(name: str) -> Any:
        def note(*arguments: Any) -> Any:
            told.append(name)
            yield commands.Log(name)

        return note

    for name in ("make_stream", "get_connection", "register_connection"):
        setattr(http, name, noted(name))
    event = events.Start()
    handed = handing_on.event_to_child(http, child, event) if own else HttpLayer.event_to_child(http, child, event)
    out = [type(c).__name__ for c in handed]
    sources = [f"{type(c).__name__} {'child' if of is child else 'other'}" for c, of in http.command_sources.items()]
    connections = [f"{type(c).__name__} {'child' if of is child else 'other'}" for c, of in http.connections.items()]
    return out, told, sources, list(http.streams), connections


@given(st.lists(st.sampled_from(KINDS), max_size=8))
def test_commands_are_handed_on_as_mitmproxy_does(plan):
    assert handle(plan, True) == handle(plan, False)


def test_a_context_is_forked_as_mitmproxy_does():
    context = Context(tflow.tclient_conn(), options())
    layer.Layer.__init__(object.__new__(HttpLayer), context)
    own, stock = handing_on.fork(context), context.fork()
    assert type(own) is type(stock)
    assert vars(own) == vars(stock)
    assert own.layers is not context.layers


def test_it_is_taken_where_mitmproxy_is_as_known():
    assert handing_on.FITS


def test_with_another_mitmproxy_contexts_are_its_own(monkeypatch):
    monkeypatch.setattr(handing_on, "FITS", False)
    context = Context(tflow.tclient_conn(), options())
    monkeypatch.setattr(Context, "fork", lambda self: "stock")
    assert handing_on.fork(context) == "stock"


class InFront(layer.Layer):
    """A layer in front of HTTP that is in no context, as that which has read a PROXY header."""

    def __init__(self, context: Context, below: layer.Layer) -> None:
        super().__init__(context)
        context.layers.remove(self)
        self.below = below

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield from self.below.handle_event(event)


@pytest.mark.parametrize("is_alone", [True, False])
def test_events_come_first_to_http_where_no_other_layer_waits_for_some(monkeypatch, is_alone):
    async def scene() -> None:
        none: Any = None
        wire = MemoryWire({}, server=none, trust=none, server_files="")
        top = wire.handler.layer
        if not is_alone:
            top = wire.handler.layer = InFront(top.context, top)
        monkeypatch.setattr(handing_on, "connection_handlers", lambda: {wire.handler.client.id: wire.handler})
        wire.start()
        try:
            await settle()
            wire.client.arrive("data", b"GET http://localhost/ HTTP/1.1\r\n")
            await settle()
            (http,) = release_memory.http_layers.pop(wire.handler.client.id)
            assert wire.handler.layer is (http if is_alone else top)
        finally:
            await wire.end()

    asyncio.run(scene())
