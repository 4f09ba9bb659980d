"""Flow control: a provider is not read faster than its HTTP/2 client takes the answer.

mitmproxy keeps all that a client's window has no room for, however much it becomes, since the socket itself is never full.
A client of HTTP/1 needs none of this: what it does not read fills its socket, and mitmproxy waits for that.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from mitmproxy.proxy import layer

from runtime.connections import connection_handlers

Commands = layer.CommandGenerator[None]

MAX_UNSENT_BYTES = 1 << 20
"""Bytes of an answer that may wait for its client's window before its provider is no longer read."""

RESUMED_AT_BYTES = MAX_UNSENT_BYTES // 4
"""Bytes that may still wait when its provider is read again."""


class FlowControl:
    """Pauses the providers whose answers one HTTP/2 connection of a client does not take.

    A provider that speaks HTTP/2 too is paused with all of the client's answers from it: they share a connection.
    """

    def __init__(self, server: Any) -> None:
        self.server = server
        """mitmproxy's side of the client's connection, an ``Http2Server``."""
        self.unsent: dict[int, int] = {}
        """By stream: at most so many bytes wait, counted since they were last measured."""
        self.paused: dict[int, tuple[Any, Any]] = {}
        """By stream: the transport of its provider, and the reader that mitmproxy has on it."""

    def add(self, stream: int, size: int) -> None:
        """Note that a piece of an answer is about to be given to mitmproxy, after others have been sent or wait."""
        if stream in self.paused:
            # What had been read already still comes, and mitmproxy's reader reads on by itself once it has room again.
            self.paused[stream][0].pause_reading()
            return
        if stream not in self.server.h2_conn.stream_buffers:
            self.unsent.pop(stream, None)
            return
        unsent = self.unsent.get(stream, 0) + size
        if unsent > MAX_UNSENT_BYTES:
            # What was sent meanwhile was not counted off. Measured at most once for each half of what may wait.
            unsent = sum(self.waiting(stream)) + size
            if unsent > MAX_UNSENT_BYTES // 2:
                self.pause(stream)
        self.unsent[stream] = unsent

    def waiting(self, stream: int) -> Iterable[int]:
        """Return the sizes in bytes of the pieces that wait for a stream's window."""
        return (len(piece.data) for piece in self.server.h2_conn.stream_buffers.get(stream, ()))

    def pause(self, stream: int) -> None:
        """Read no more from the provider that answers on a stream."""
        http = self.server.context.layers[-2]
        server = http.streams[stream].context.server if stream in http.streams else None
        handler = connection_handlers().get(self.server.conn.id)
        held = getattr(handler, "transports", {}).get(server)
        if held is not None and held.writer is not None and not held.writer.transport.is_closing():
            held.writer.transport.pause_reading()
            self.paused[stream] = held.writer.transport, held.reader

    def resume_after(self, handled: Commands) -> Commands:
        """Return how to handle an event, which may make room for an answer. The same where nothing is paused."""
        return self.handle_and_resume(handled) if self.paused else handled

    def handle_and_resume(self, handled: Commands) -> Commands:
        """Handle an event, and read on from providers for whose answers it has made room."""
        yield from handled
        self.resume()

    def resume(self) -> None:
        """Read on from providers whose answers have mostly been taken, or whose streams have ended."""
        for stream, (transport, reader) in list(self.paused.items()):
            if any(unsent > RESUMED_AT_BYTES for unsent in accumulate(self.waiting(stream))):
                continue
            del self.paused[stream], self.unsent[stream]
            # A reader that is full has paused the transport as well, and lets it go on by itself.
            if not transport.is_closing() and not getattr(reader, "_paused", False):
                transport.resume_reading()
