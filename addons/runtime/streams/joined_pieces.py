"""Joined pieces: chunks of an answer that were read together are handed on together, and not one by one.

mitmproxy takes each chunk of a body apart and sends each on by itself, as an event with a write of its own: 80 us for a word
of an answer. Here one event carries all that a read has of them, with the bytes that framed it; a client that gets chunks too
gets these very bytes. Nothing waits for anything: what has come of a chunk goes on, as a chunk of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import HttpStream, ReceiveHttp, ResponseData, SendHttp

from runtime.streams.chunk_framing import read_pieces, stock_reader

Commands = layer.CommandGenerator[None]


@dataclass
class ResponsePieces(ResponseData):
    """The payload of whole chunks, and how they were framed."""

    framed: bytes = b""


def joining(
    readers: Mapping[str, Callable[..., Any]], is_on: Callable[[], bool], after_read: Callable[[Any], None]
) -> Mapping[str, Callable[..., Any]]:
    """Return the readers of mitmproxy's ``Http1Client``, that of a body made to hand on together what was read together.

    ``after_read`` is called once after the read in which an answer has begun to stream.
    """
    read_body = readers["read_body"]

    def read_joined(self: Any, event: Any) -> Commands:
        found = None
        if is_on() and isinstance(event, events.DataReceived):
            data = bytes(self.buf)
            if (found := read_pieces(stock_reader(self.body_reader), data)) is not None:
                self.buf.maybe_extract_at_most(found.end)
                yield ReceiveHttp(ResponsePieces(self.stream_id, found.payload, found.framed))
        if found is None or self.buf:
            yield from read_body(self, event)
        if self.__dict__.get("streams_to") is not None:
            after_read(self)

    return {**readers, "read_body": read_joined}


def pass_on(stream: HttpStream, event: ResponsePieces, stock: Callable[[ResponseData], Commands]) -> Commands:
    """Show the pieces of a streamed answer to the callback that reads it, and send them on as they were framed.

    Only for a callback that says of itself that it changes nothing; any other, and an answer that is kept, is mitmproxy's.
    """
    assert stream.flow.response is not None
    read = stream.flow.response.stream
    if not getattr(read, "passes_unchanged", False) or stream.context.options.store_streamed_bodies:
        yield from stock(ResponseData(event.stream_id, event.data))
        return
    if callable(read):
        read(event.data)
    yield SendHttp(event, stream.context.client)


def send_framed(server: Any, event: ResponsePieces, stock: Callable[[ResponseData], Commands]) -> Commands:
    """Send pieces to a client of HTTP/1: as they were framed where it gets chunks, else as mitmproxy does."""
    if "chunked" in server.response.headers.get("transfer-encoding", "").lower():
        yield commands.SendData(server.conn, event.framed)
    else:
        yield from stock(ResponseData(event.stream_id, event.data))
