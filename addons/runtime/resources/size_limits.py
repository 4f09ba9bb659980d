"""Size limits: how much memory the data of one client, and of all clients in total, may take.

mitmproxy reads headers, and what a client sends before its answer has come, into memory without a limit: one connection
could use up all of it. And it keeps bodies to their end even where the headers have already decided: a few dozen
connections could do the same, with or without a key. The layers in ``layers.py`` enforce these limits.

Upstream connections are mitmproxy's own: what it keeps of an answer is limited by a row of ``patches.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import h11
from h11._readers import ContentLengthReader
from mitmproxy import http
from mitmproxy.proxy import events
from mitmproxy.utils import human

from flow import call_of, connection_of, deny, source_of
from runtime.informational import skipping_informational
from sluicegate.providers.requests.reading import LARGE_BODY_BYTES
from sluicegate.storage.content_store import MAX_REFUSED_BYTES
from sluicegate.values import Deny, Reason

MAX_HEAD_BYTES = 256 << 10
"""Bytes of a message's first line and headers, or of what frames its chunks; servers take from 16 KB to 1 MB."""

MAX_READ_AHEAD_BYTES = 1 << 20
"""Bytes a client may send before it has its answer; clients that pipeline send small requests, and most send none."""

MAX_DISCARDED_BYTES = 64 << 20
"""Bytes of a body that is not kept which are read before the connection is ended; no body may have more."""

MAX_CLIENT_HELLO_BYTES = 64 << 10
"""Bytes of a TLS connection's first message; clients send one or two thousand. mitmproxy parses it again with each packet."""

MAX_HELD_BYTES = 512 << 20
"""Bytes of large bodies that may be in memory at one moment, over all callers."""

MAX_HELD_BYTES_PER_CALLER = 128 << 20
"""How many of them may be one caller's; two bodies of the largest size fit."""

MEAN_CHUNK_BYTES = 64
"""Bytes that the chunks of a request's body have on average at least; each costs some twenty microseconds, however small."""

SMALL_CHUNKS = 2000
"""Chunks of no length that may come beyond that average; they cost forty milliseconds."""

large_bodies: WeakKeyDictionary[http.HTTPFlow, int] = WeakKeyDictionary()
"""Bytes of each large body, for as long as its flow is there: until it has been answered."""

_bytes_of = lru_cache(maxsize=8)(human.parse_size)


def concerns_options(options: Any, size_bytes: int) -> bool:
    """Return whether mitmproxy's own options may have it do something about a body of this size."""
    limit = options.body_size_limit
    return bool(options.stream_large_bodies) or (bool(limit) and size_bytes > (_bytes_of(limit) or 0))


def refusal_of_body(flow: http.HTTPFlow, size_bytes: int) -> Callable[[http.HTTPFlow], None] | None:
    """Return what refuses the flow because its body, now of this size, is too large to be kept; None while it may grow."""
    # No entry: mitmproxy's own body_size_limit holds.
    max_bytes, too_large = getattr(flow, "sluicegate_body_limit", (None, refuse_for_now))
    if max_bytes is not None and size_bytes > max_bytes:
        return too_large
    if size_bytes > LARGE_BODY_BYTES:
        large_bodies[flow] = size_bytes
        if held_by(caller_of(flow)) > MAX_HELD_BYTES_PER_CALLER:
            del large_bodies[flow]
            return refuse_share
        if sum(large_bodies.values()) > MAX_HELD_BYTES:
            del large_bodies[flow]
            return refuse_for_now
    return None


def caller_of(flow: http.HTTPFlow) -> str:
    """Return whose a large body is: the virtual key's, or where none is known that of the address it comes from."""
    call = call_of(flow)
    key = (call.virtual_key_id if call else None) or getattr(connection_of(flow.client_conn).key, "id", None)
    return f"key {key}" if key else f"address {source_of(flow)}"


def held_by(caller: str) -> int:
    """Return how many bytes of large bodies are held for one caller."""
    return sum(size for flow, size in large_bodies.items() if caller_of(flow) == caller)


def refuse_for_now(flow: http.HTTPFlow) -> None:
    """Refuse a body for which there is no memory left at this moment."""
    refuse(flow, f"The gateway holds {MAX_HELD_BYTES >> 20} MB of large requests and takes no more at this moment; try again")


def refuse_share(flow: http.HTTPFlow) -> None:
    """Refuse a body whose caller has filled its share of the memory."""
    held = MAX_HELD_BYTES_PER_CALLER >> 20
    refuse(flow, f"The gateway holds {held} MB of this caller's large requests and takes no more at this moment; try again")


def refuse(flow: http.HTTPFlow, message: str) -> None:
    """Answer a request that may be tried again in a moment."""
    if call_of(flow) is not None:
        deny(flow, Deny(Reason.GATEWAY_ERROR, message, retry_after=2, final=False))
    else:
        flow.response = http.Response.make(503, message, {"retry-after": "2"})


class RequestChunks:
    """A reader of a request's chunked body, which ends a body whose chunks are too small.

    Chunks of one byte each would stop all other calls for a minute, in a body of twenty megabytes.
    """

    def __init__(self, reader: Any) -> None:
        self.read_eof = reader.read_eof
        self._reader = reader
        self._most_bytes = self._left_bytes = SMALL_CHUNKS * MEAN_CHUNK_BYTES

    def __call__(self, buffer: Any) -> Any:
        """Return the next event in the buffer; None if it holds no whole one yet. Raises RemoteProtocolError."""
        event = self._reader(buffer)
        if isinstance(event, h11.Data):
            costs = MEAN_CHUNK_BYTES if event.chunk_start else 0
            self._left_bytes = min(self._most_bytes, self._left_bytes + len(event.data) - costs)
            if self._left_bytes < 0:
                raise h11.RemoteProtocolError(f"a body's chunks have at least {MEAN_CHUNK_BYTES} bytes on average")
        return event


def counting_chunks(reader: Any) -> Any:
    """Return the reader of a request's body, made to count its chunks if it comes in such."""
    return reader if type(reader) in (RequestChunks, ContentLengthReader) else RequestChunks(reader)


def forget_body(stream: Any) -> None:
    """Free the request's body of a stream that has failed: otherwise it would wait for the garbage collector."""
    stream.request_body_buf.clear()
    if hasattr(stream, "flow") and not stream.flow.live:
        large_bodies.pop(stream.flow, None)
        stream.flow.request.data.content = None


def bytes_to_keep(flow: http.HTTPFlow, kept_bytes: int, data: bytes) -> bytes:
    """Return the part of a refused body's chunk that is kept as content, and count the rest as received."""
    call = call_of(flow)
    if call is None or call.principal is None:
        return b""
    kept = data[: max(0, MAX_REFUSED_BYTES + 1 - kept_bytes)]
    call.request_bytes += len(data) - len(kept)
    return kept


def limited_answer(client: Any) -> Mapping[str, Callable[..., Any]]:
    """Return the readers of mitmproxy's ``Http1Client``, made to end a connection whose answer is all head or framing.

    Any host that agents may reach could fill the memory with one, also with informational answers, which are skipped here.
    Plain functions, for they are called for each chunk.
    """

    def limited(read: Callable[..., Any]) -> Callable[..., Any]:
        def read_limited(self: Any, event: Any) -> Any:
            # Of a body, nothing is left here from one event to the next but what frames its chunks.
            if len(self.buf) > MAX_HEAD_BYTES:
                self.buf.maybe_extract_at_most(len(self.buf))
                self.state = self.done
                event = events.ConnectionClosed(self.conn)
            return read(self, event)

        return read_limited

    return {"read_headers": limited(skipping_informational(client.read_headers)), "read_body": limited(client.read_body)}
