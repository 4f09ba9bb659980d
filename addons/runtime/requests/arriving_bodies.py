"""Arriving bodies: the pieces of a request's body go from its socket to where they are kept, past mitmproxy's event path.

mitmproxy takes each 64 KB through a reader, an event, its layers and back: half of what a body of a megabyte costs. Here only
what a piece needs is done: it is counted, held against the limits and kept. The first piece and the last byte, a body of
unknown length, one that is refused, a client that encrypts and whatever else comes go mitmproxy's own way, which is in the same
state as if the pieces had come by it. ``--set fast_streams=false`` leaves all of them to it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from h11._readers import ContentLengthReader
from mitmproxy.proxy import layer
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import Http1Server

from runtime.connections import connection_handlers
from runtime.resources import size_limits
from runtime.streams import fast_streams
from runtime.streams.entry import entry_of

Commands = layer.CommandGenerator[None]

logger = logging.getLogger("sluicegate")


@dataclass(slots=True)
class ArrivingBody:
    """The body of one request, for as long as it arrives."""

    stream: Any
    server: Any
    """Our side of the client's connection."""
    handler: Any
    """mitmproxy's handler of it."""
    states: tuple[Any, Any] = field(init=False)
    framing: Any = field(init=False)
    """h11's reader of the body."""
    reader: Any = field(init=False)
    """The reader in which mitmproxy waits for the client."""
    waits: bool = True
    """Whether more of it may come this way."""

    def __post_init__(self) -> None:
        self.states = self.stream.client_state, self.server.state
        self.framing = self.server.body_reader
        self.reader = self.handler.transports[self.stream.context.client].reader

    def carry(self, data: bytes) -> bytes:
        """Keep a piece of the body, and return what of it has not been kept, which is mitmproxy's."""
        waiter = self.reader._waiter
        if waiter is None or waiter.done():
            # mitmproxy is not done with what came before.
            return data
        rest = data[self.keep(data) :]
        if not self.waits:
            end(self.stream)
        return rest

    def keep(self, data: bytes | bytearray) -> int:
        """Keep a piece of the body, up to its last byte, with which mitmproxy goes on; return how many bytes those are."""
        stream, server, framing = self.stream, self.server, self.framing
        consuming, reading = self.states
        kept = stream.request_body_buf
        size = max(0, min(len(data), int(framing._remaining) - 1))
        self.waits = (
            stream.client_state is consuming
            and server.state is reading
            and server.body_reader is framing
            and stream._paused is None
            and not stream._paused_event_queue
            and stream.flow.response is None
            and not server.buf
            and size_limits.refusal_of_body(stream.flow, len(kept) + size) is None
        )
        if not self.waits or not size:
            return 0
        with memoryview(data) as view:
            kept += view[:size]
        framing._remaining -= size
        self.waits = framing._remaining > 1
        self.handler.timeout_watchdog.register_activity()
        return size

    def keep_what_was_read(self) -> None:
        """Keep what has come by now and waits for mitmproxy to read it: a read of the socket is four of its own."""
        if asyncio.current_task() is not self.handler.transports[self.stream.context.client].handler:
            # Whoever reads may have the next piece already, and wait for its turn with it.
            return
        waiting = self.reader._buffer
        size = self.keep(waiting)
        del waiting[:size]
        self.reader._maybe_resume_transport()


def begin(stream: Any, stock: Commands) -> Commands:
    """Keep the first piece of a body, which is ``stock``; let the rest take the short way, if all about it is what that knows."""
    yield from stock
    if not fast_streams.is_on():
        return
    try:
        start(stream)
    except Exception:
        fast_streams.FastStreams.is_on = False
        logger.exception("Requests and answers take the general, slower way from now on, because the short way failed")


def start(stream: Any) -> None:
    """Put the rest of a body on the short way, where that can be taken."""
    context = stream.context
    *above, http, last = context.layers
    if last is not stream or stream._paused_event_queue or not all(isinstance(x, modes.HttpProxy) for x in above):
        return
    server = http.connections[context.client]
    handler = connection_handlers().get(context.client.id)
    if handler is None or not isinstance(server, Http1Server) or type(server.body_reader) is not ContentLengthReader:
        return
    if stream.client_state != stream.state_consume_request_body or not server.body_reader._remaining:
        # All of it has come with its first piece, or it has been refused.
        return
    entry = entry_of(handler, context.client)
    if entry is None:
        return
    stream.request_body_buf.expect(len(stream.request_body_buf) + server.body_reader._remaining)
    body = ArrivingBody(stream, server, handler)
    body.keep_what_was_read()
    if body.waits:
        entry.way, stream.incoming = body, entry


def end(stream: Any) -> None:
    """Forget a body that has come, or will not: the client's connection may stay, and would keep the request in memory."""
    if stream.incoming is not None:
        stream.incoming.way = stream.incoming = None
