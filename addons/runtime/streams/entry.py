"""The entry to mitmproxy's layers: what comes on a connection is handed to them where it comes, past mitmproxy's reader.

mitmproxy puts what comes into a buffer, wakes a task to take it out again in another turn of the event loop, and after each piece
asks every connection of a client whether it takes what has been sent. Here mitmproxy gets the same event within the read itself,
where its reader waits for just that; while it is busy, its reader takes what comes. Before it is read on, whoever does not take
what has been sent is waited for, as mitmproxy does. ``--set fast_streams=false`` leaves all to mitmproxy's reader.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import events
from mitmproxy.proxy.server import ConnectionHandler

from runtime.connections import client_writer, reset, writer_to
from runtime.streams import handled_events
from runtime.streams.handled_events import handle as handle_event
from runtime.streams.handled_events import layer_below
from runtime.streams.used_names import changed_function, missing_name

logger = logging.getLogger("sluicegate")

MAX_EVENT_BYTES = 65535
"""Bytes that one event of mitmproxy's brings at most: so many as its own reader takes at once."""

unfinished: set[asyncio.Task[None]] = set()
"""What waits for its turn, or for somebody slow; asyncio itself would let the garbage collector take them."""

_NAMES_OF_READER = frozenset(
    (
        *("CAN_READ", "CAN_WRITE", "CLOSED", "CancelledError", "ConnectionClosed", "ConnectionState", "DataReceived", "Event"),
        *("OSError", "asyncio", "close", "drain_writers", "events", "pop", "read", "reader", "server_event", "state"),
        *("transport_protocol", "transports", "wait", "writer"),
    )
)
"""Every name in how mitmproxy reads a connection: it reads, handles an event, and waits for whoever does not take what was sent."""


class ShortWay(Protocol):
    """What takes a part of what comes past mitmproxy's layers as well: an answer on its way, or a request's body."""

    def carry(self, data: bytes) -> bytes:
        """Take what can be taken; return the rest, which is mitmproxy's."""


class Entry(asyncio.Protocol):
    """The protocol of a client's connection, or of one to a server, that hands what comes to whoever it is for."""

    way: ShortWay | None = None
    """The short way of the message that is under way; None between them, and where all goes through mitmproxy's layers."""
    below: Any = None
    """mitmproxy's layer that events are for, once all above it only hand them on; None before."""
    is_draining = False
    """Whether somebody is waited for before this connection is read on."""

    def __init__(self, stock: Any, handler: Any, connection: Any, slow: set[Any], ended: set[Any]) -> None:
        """Stand before ``stock``; ``handler`` is mitmproxy's of the client's connection, which also has those to servers.

        ``slow`` are those of all these connections that have more unsent than they may, or have been lost; ``ended`` those
        whose end has come and mitmproxy may not know of yet.
        """
        self.stock, self.handler, self.connection, self.slow, self.ended = stock, handler, connection, slow, ended
        io = handler.transports[connection]
        self.reader, self.transport = io.reader, io.writer.transport
        self.lock = handler._server_event_lock

    def data_received(self, data: bytes) -> None:
        """Hand on what has come."""
        try:
            if self.way is not None and not (data := self.way.carry(data)):
                return
            if len(data) <= MAX_EVENT_BYTES and self.is_waited_for():
                self.handle(data)
            else:
                self.hand_over(data)
        except Exception:
            # Whether this piece has gone on is not known, so nobody may take what is there for the whole. Left to asyncio, the
            # error would end mitmproxy's reader without a word to its layers, and the client would wait for ever.
            logger.exception("A connection was cut off, because the short way failed")
            self.way = None
            if (writer := client_writer(self.handler)) is not None:
                reset(writer.transport)

    def hand_over(self, data: bytes) -> None:
        """Hand on what is too much for one event, and what mitmproxy's reader has to take."""
        while data:
            if not self.is_waited_for():
                self.stock.data_received(data)
                return
            self.handle(data[:MAX_EVENT_BYTES])
            data = data[MAX_EVENT_BYTES:]
            if data and self.way is not None:
                data = self.way.carry(data)

    def is_waited_for(self) -> bool:
        """Return whether mitmproxy's reader waits for what comes next, and nothing comes before that."""
        waiter, lock = self.reader._waiter, self.lock
        if waiter is None or waiter.done() or lock._locked or lock._waiters or self.is_draining:
            return False
        return not self.ended or not self.is_end_unknown()

    def is_end_unknown(self) -> bool:
        """Return whether mitmproxy has not been told yet that one of the connections has ended.

        A request that overtook this would be sent to a provider that has closed, where mitmproxy opens another connection.
        """
        self.ended.intersection_update([c for c in self.ended if c.state & ConnectionState.CAN_READ])
        return bool(self.ended)

    def handle(self, data: bytes) -> None:
        """Do what mitmproxy's reader does with what it has read."""
        below = self.below
        if below is None:
            below = self.below = layer_below(self.handler.layer)
        handle_event(self.handler, below or self.handler.layer, events.DataReceived(self.connection, data))
        if self.slow:
            # To those that mitmproxy has closed meanwhile nothing is sent.
            self.slow.intersection_update(self.handler.transports)
            if self.slow:
                self.drain()

    def drain(self) -> None:
        """Read no more until everybody takes what has been sent, or has left."""
        self.is_draining = True
        self.transport.pause_reading()
        _finish(self.read_on_when_drained())

    async def read_on_when_drained(self) -> None:
        """Wait as mitmproxy does after each event, and read on."""
        try:
            await self.handler.drain_writers()
        finally:
            self.is_draining = False
            # A reader that is full has paused it as well, and lets it go on by itself.
            if not self.transport.is_closing() and not self.reader._paused:
                self.transport.resume_reading()

    def find_rest(self) -> None:
        """Have mitmproxy find what its layers have got past their events, when its turn comes."""
        if self.is_waited_for():
            self.handle(b"")
        else:
            _finish(self.handler.server_event(events.DataReceived(self.connection, b"")))

    def pause_writing(self) -> None:
        """Note that it has more unsent than it may."""
        self.slow.add(self.connection)
        self.stock.pause_writing()

    def resume_writing(self) -> None:
        """Note that it takes what it is sent."""
        self.slow.discard(self.connection)
        self.stock.resume_writing()

    def eof_received(self) -> bool | None:
        """Note that it has ended, of which mitmproxy's reader hears in its turn."""
        self.ended.add(self.connection)
        return self.stock.eof_received()  # type: ignore[no-any-return]

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it is lost: whoever sends to it ends it."""
        self.way = None
        self.slow.add(self.connection)
        self.stock.connection_lost(exc)


def _finish(rest: Any) -> None:
    task = asyncio.get_running_loop().create_task(rest)
    if not task.done():
        unfinished.add(task)
        task.add_done_callback(unfinished.discard)


def put_before(handler: Any, connection: Any) -> None:
    """Put an entry in front of mitmproxy's protocol of a client's connection, or of one to a server of that client."""
    client = entry_of(handler, handler.client)
    writer = writer_to(handler, connection)
    if type(writer) is not asyncio.StreamWriter:
        if client is not None:
            # Not a connection over TCP. Whether it takes what it is sent has to be asked each time.
            client.slow.add(connection)
    elif connection is handler.client:
        writer.transport.set_protocol(Entry(writer.transport.get_protocol(), handler, connection, set(), set()))
    elif client is not None:
        writer.transport.set_protocol(Entry(writer.transport.get_protocol(), handler, connection, client.slow, client.ended))


def entry_of(handler: Any, connection: Any) -> Entry | None:
    """Return the entry of a client's connection, or of one to a server; None if it has none."""
    writer = writer_to(handler, connection)
    entry = writer.transport.get_protocol() if type(writer) is asyncio.StreamWriter else None
    return entry if isinstance(entry, Entry) else None


def lacking() -> str | None:
    """Return what is used here of mitmproxy or asyncio and cannot be found; None if all is there."""
    changed = changed_function(ConnectionHandler.handle_connection, _NAMES_OF_READER) or handled_events.lacking()
    if changed is not None:
        return changed
    loop = asyncio.new_event_loop()
    try:
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        missing = missing_name(
            [
                (reader, ["_waiter", "_paused"]),
                (protocol, ["_paused"]),
                (asyncio.Lock(), ["_locked", "_waiters"]),
            ]
        )
    finally:
        loop.close()
    if missing is None and "_protocol" not in asyncio.StreamWriter.__init__.__code__.co_names:
        return "asyncio.StreamWriter._protocol"
    return missing
