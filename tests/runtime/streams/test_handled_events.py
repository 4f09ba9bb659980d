"""An event is handled as mitmproxy handles it, whatever a layer says to it, and however far it comes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.connection import Server
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import HttpRequestHook
from mitmproxy.proxy.server import ConnectionHandler, ConnectionIO
from mitmproxy.utils import asyncio_utils

from runtime.streams import handled_events
from runtime.streams.handled_events import handle, layer_below
from support.memory_wire import settle


class Unknown(commands.Command):
    """What nobody knows."""


class Handler:
    """Notes what mitmproxy's handler does."""

    def __init__(self) -> None:
        self.did: list[Any] = []
        self.client = SimpleNamespace(peername=("127.0.0.1", 1))
        self.wakeup_timer = set[Any]()
        self.timeout_watchdog = SimpleNamespace(last_activity=0.0, register_activity=self.note_activity)
        self._server_event_lock = asyncio.Lock()
        self.peers = [Server(address=("localhost", n)) for n in range(4)]
        # One is open, one is being closed, one is being opened, and one is not there.
        self.transports = {peer: ConnectionIO(writer=self.writer(n)) for n, peer in enumerate(self.peers[:2])}
        self.transports[self.peers[2]] = ConnectionIO()
        self.layer: Any = None

    def note_activity(self) -> None:
        self.timeout_watchdog.last_activity = 1.0

    def writer(self, number: int) -> Any:
        return SimpleNamespace(is_closing=lambda: number == 1, write=lambda data: self.did.append(("write", number, data)))

    def log(self, message: str, level: int = 20, exc_info: Any = None) -> None:
        self.did.append(("log", message, level, bool(exc_info)))

    def close_connection(self, connection: Any, half_close: bool = False) -> None:
        self.did.append(("close", self.peers.index(connection), half_close))

    def ran(self, what: str, command: Any) -> Any:
        async def run() -> None:
            task: Any = asyncio.current_task()
            self.did.append((what, type(command).__name__, self.is_locked()))
            if what != "hook":
                await asyncio.sleep(0)
            async with self._server_event_lock:
                self.did.append(("later", what, task.get_name(), task.client))

        return run()

    def open_connection(self, command: Any) -> Any:
        return self.ran("open", command)

    def wakeup(self, command: Any) -> Any:
        return self.ran("wake", command)

    def hook_task(self, command: Any) -> Any:
        return self.ran("hook", command)

    def is_locked(self) -> bool:
        return self._server_event_lock.locked()


def made(kind: str, peer: Any) -> Any:
    none: Any = None
    return {
        "send": lambda: commands.SendData(peer, b"data"),
        "open": lambda: commands.OpenConnection(peer),
        "close": lambda: commands.CloseConnection(peer),
        "close tcp": lambda: commands.CloseTcpConnection(peer),
        "half close": lambda: commands.CloseTcpConnection(peer, half_close=True),
        "wake": lambda: commands.RequestWakeup(0.5),
        "hook": lambda: HttpRequestHook(none),
        "log": lambda: commands.Log("a line", 30),
        "unknown": Unknown,
        "unknown of a connection": lambda: commands.ConnectionCommand(peer),
    }[kind]()


KINDS = ("send", "open", "close", "close tcp", "half close", "wake", "hook", "log", "unknown", "unknown of a connection", "raise")


async def play(said: list[tuple[str, int]], is_ours: bool) -> list[Any]:
    """Return what becomes of what a layer says."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    handler: Any = Handler()

    class Says:
        def handle_event(self, event: Any) -> Any:
            assert handler.is_locked()
            for kind, number in said:
                if kind == "raise":
                    raise ValueError("a fault")
                yield made(kind, handler.peers[number])

    handler.layer = Says()
    event = events.Start()
    if is_ours:
        handle(handler, handler.layer, event)
    else:
        await ConnectionHandler.server_event(handler, event)
    handler.did.append(
        (handler.is_locked(), handler.timeout_watchdog.last_activity > 0, len(handler.wakeup_timer), len(asyncio_utils._KEEP_ALIVE))
    )
    handler.did.append([(handler.peers.index(peer), io.handler is None) for peer, io in handler.transports.items()])
    await settle()
    return [*handler.did, handler.is_locked()]


@given(said=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3)), max_size=6))
def test_whatever_a_layer_says_becomes_the_same(said):
    assert asyncio.run(play(said, True)) == asyncio.run(play(said, False))


def test_events_are_for_the_layer_that_does_not_only_hand_them_on():
    context: Any = SimpleNamespace(layers=[], options=SimpleNamespace())
    top, following, last = modes.HttpProxy(context), layer.NextLayer(context), modes.ReverseProxy(context)
    assert layer_below(top) is None
    top._handle_event = following.handle_event  # type: ignore[method-assign, assignment]
    assert layer_below(top) is None
    following._handle = last.handle_event
    assert layer_below(top) is last
    following._paused_event_queue.append(events.Start())
    assert layer_below(top) is None
    assert layer_below(last) is last


@pytest.mark.parametrize("is_known", [True, False])
def test_it_is_lacking_where_mitmproxy_does_something_else(monkeypatch, is_known):
    async def other(self: Any, event: Any) -> None:
        self.somehow()

    if not is_known:
        monkeypatch.setattr(ConnectionHandler, "server_event", other)
    assert (handled_events.lacking() is None) is is_known
