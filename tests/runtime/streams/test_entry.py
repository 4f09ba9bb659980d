"""What comes on a connection reaches mitmproxy's layers within the read, in its order, and never faster than it goes on.

That nothing else is different for clients, servers and hooks is what the tests of both ways show (``test_short_way.py``).
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.proxy.server import ConnectionHandler

from runtime import hooks_at_once
from runtime.requests import addressing, arriving_bodies, whole_requests
from runtime.streams import entry, fast_streams
from runtime.streams.entry import MAX_EVENT_BYTES, Entry
from runtime.streams.fast_streams import FastStreams
from support.memory_wire import MemoryWire, settle

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n"


class Dispatch:
    """Ends all hooks where they are asked for."""

    def begin(self, event: Any) -> None:
        """Let a request go where it says, and an answer as it comes."""
        if event.name == "responseheaders":
            event.flow.response.stream = True


@pytest.fixture
def play(monkeypatch):
    """Return what plays a scene on a connection on which one call has been made, its answer's head and a part have come."""

    async def scene(then: Any) -> None:
        none: Any = None
        wire: Any = MemoryWire({}, server=none, trust=none, server_files="")
        wire.sizes = []
        handle = entry.handle_event

        def handle_event(handler: Any, below: Any, event: Any) -> None:
            wire.sizes.append(len(event.data))
            handle(handler, below, event)

        monkeypatch.setattr(entry, "handle_event", handle_event)
        monkeypatch.setattr(asyncio, "open_connection", wire.open_connection)
        for module in (fast_streams, arriving_bodies):
            monkeypatch.setattr(module, "connection_handlers", lambda: {wire.handler.client.id: wire.handler})
        wire.start()
        try:
            await settle()
            wire.ask(0)
            await settle()
            assert wire.provider is not None
            wire.provider.arrive("data", HEAD + b"a part")
            await settle()
            wire.sizes.clear()
            wire.raw.clear()
            await then(wire, wire.provider)
        finally:
            await wire.end()

    monkeypatch.setattr(FastStreams, "is_on", True)
    monkeypatch.setattr(hooks_at_once, "dispatch", [Dispatch()])
    monkeypatch.setattr(addressing, "note_source", lambda request, client: None)
    monkeypatch.setattr(whole_requests, "count", id)
    monkeypatch.setattr(fast_streams, "services", lambda: SimpleNamespace(streams={("general", "off"): 0}, stream_reads={}))
    return lambda then: asyncio.run(scene(then))


def test_what_comes_has_gone_on_when_its_read_is_over(play):
    async def then(wire, provider):
        provider.arrive("data", b"one")
        assert wire.raw == b"one"

    play(then)


def test_mitmproxys_reader_takes_what_comes_while_it_is_busy(play):
    """Also what comes after that, until it waits again."""

    async def then(wire, provider):
        async with wire.handler._server_event_lock:
            provider.arrive("data", b"one")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            provider.arrive("data", b"two")
        provider.arrive("data", b"three")
        assert wire.raw == b""
        await settle()
        assert wire.raw == b"onetwothree"
        provider.arrive("data", b"four")
        assert wire.raw == b"onetwothreefour"

    play(then)


def test_an_event_brings_no_more_than_mitmproxys_reader_takes_at_once(play):
    async def then(wire, provider):
        provider.arrive("data", bytes(2 * MAX_EVENT_BYTES + 1))
        assert wire.sizes == [MAX_EVENT_BYTES, MAX_EVENT_BYTES, 1]
        assert len(wire.raw) == 2 * MAX_EVENT_BYTES + 1

    play(then)


def test_nothing_is_read_for_a_client_that_does_not_take_what_it_is_sent(play):
    async def then(wire, provider):
        wire.client.stall(True)
        provider.arrive("data", b"x" * 2 * MAX_EVENT_BYTES + b"y")
        await settle()
        assert provider.paused
        provider.arrive("data", b"z")
        await settle()
        # What has been read already mitmproxy's reader takes, and waits after that in its turn.
        assert wire.sizes == [MAX_EVENT_BYTES]
        assert len(wire.raw) == 2 * MAX_EVENT_BYTES
        wire.client.stall(False)
        await settle()
        assert wire.raw.endswith(b"xyz")
        pauses = provider.pauses
        provider.arrive("data", b"!")
        assert wire.raw.endswith(b"xyz!")
        assert provider.pauses == pauses

    play(then)


def test_whoever_is_sent_to_after_it_has_been_lost_is_ended(play):
    """A client of which no more is read: nothing but what is sent to it shows that it has been lost."""

    async def then(wire, provider):
        io = wire.handler.transports[wire.handler.client]
        io.reader._wakeup_waiter = lambda: None
        wire.client.arrive("lost", None)
        await settle()
        assert not wire.task.done()
        provider.arrive("data", b"one")
        await settle()
        assert wire.task.done()

    play(then)


def test_nobody_waits_for_a_server_that_has_been_closed(play):
    async def then(wire, provider):
        provider.arrive("data", bytes(200_000 - len(b"a part")))
        provider.arrive("lost", None)
        await settle()
        wire.sizes.clear()
        pauses = wire.client.pauses
        wire.client.arrive("data", b"GET http://localhost/ HTTP/1.1\r\n")
        assert wire.sizes == [32]
        assert wire.client.pauses == pauses

    play(then)


def test_a_request_does_not_overtake_the_end_of_its_provider(play):
    """Both come in one turn of the event loop: as ever, mitmproxy opens another connection and nobody gets an error."""

    async def then(wire, provider):
        provider.arrive("data", bytes(200_000 - len(b"a part")))
        await settle()
        wire.requests.clear()
        wire.raw.clear()
        provider.arrive("eof")
        wire.ask(1)
        await settle()
        assert wire.provider is not provider
        assert wire.requests.startswith(b"POST /1 ")
        wire.provider.arrive("data", HEAD)
        assert wire.raw.startswith(b"HTTP/1.1 200 ")

    play(then)


def test_a_fault_cuts_the_client_off(play, caplog, monkeypatch):
    async def then(wire, provider):
        monkeypatch.setattr(entry, "layer_below", None)
        monkeypatch.setattr(entry, "handle_event", None)
        provider.arrive("data", b"one")
        assert wire.client.was_aborted
        assert "because the short way failed" in caplog.text

    play(then)


def test_where_it_is_turned_off_mitmproxys_reader_takes_all(play, monkeypatch):
    monkeypatch.setattr(FastStreams, "is_on", False)

    async def then(wire, provider):
        assert not isinstance(provider.protocol, Entry)
        assert not isinstance(wire.client.protocol, Entry)
        provider.arrive("data", b"one")
        assert wire.raw == b""
        await settle()
        assert wire.raw == b"one"

    play(then)


@pytest.mark.parametrize("method", ["server_event", "handle_connection"])
def test_it_is_lacking_where_mitmproxy_handles_what_comes_in_another_way(monkeypatch, method):
    assert entry.lacking() is None

    async def other(self: Any) -> None:
        self.somehow()

    monkeypatch.setattr(ConnectionHandler, method, other)
    assert entry.lacking() is not None


@pytest.mark.parametrize("name", ["_waiter", "_paused", "_locked", "_protocol"])
def test_it_is_lacking_without_a_name_of_asyncios(monkeypatch, name):
    kind = {"_waiter": asyncio.StreamReader, "_locked": asyncio.Lock, "_protocol": asyncio.StreamWriter}.get(
        name, asyncio.StreamReaderProtocol
    )

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        """Make nothing."""

    monkeypatch.setattr(kind, "__init__", init)
    assert name in (entry.lacking() or "")
