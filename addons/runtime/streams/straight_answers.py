"""Straight answers: what a read brings of a provider's answer is handled in a straight line, from its head to its end.

mitmproxy makes an event of the head, of each part of the body and of the end, and takes each up and down through all its layers,
where the same headers are looked at again and again: a fifth of a call. Here what those layers do is done one after the
other: the head is read by mitmproxy's function, the hooks are called, the tap reads what has come of the body, head and body leave
together, and at the answer's end both connections wait for the next request.

That is for an answer in the plainest form, on connections of HTTP/1 where nothing else is under way. At whatever else comes (a
hook that waits, half a chunk, a body that is changed, a connection that ends) mitmproxy's layers go on, from the state they
would be in by then. ``--set fast_streams=false`` leaves all answers to them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from h11._readers import ChunkedReader, ContentLengthReader
from mitmproxy.http import Headers, Response
from mitmproxy.net.http import validate
from mitmproxy.net.http.http1 import assemble, read
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import (
    Http1Client,
    HttpResponseHeadersHook,
    HttpResponseHook,
    HttpStream,
    ReceiveHttp,
    _http1,
)

from runtime import handing_on, hooks_at_once
from runtime.resources import release_memory, size_limits
from runtime.streams import fast_streams, held_answers
from runtime.streams.chunk_framing import read_pieces, stock_reader
from runtime.streams.exchanges import Exchange, ends_plainly, exchange_of, is_tapped
from runtime.streams.plain_heads import CHUNKED, HEAD_END, body_size, read_response, write_head
from runtime.streams.used_names import digest_of_names

Commands = layer.CommandGenerator[None]

LAST_CHUNK = b"0\r\n\r\n"

WAYS = (
    *(_http1.Http1Connection._handle_event, _http1.Http1Connection.read_body, _http1.Http1Connection.mark_done),
    *(_http1.Http1Server.send, _http1.Http1Server.mark_done, Http1Client.read_headers, HttpStream._handle_event),
    *(HttpStream.state_wait_for_response_headers, HttpStream.start_response_stream, HttpStream.state_stream_response_body),
    *(HttpStream.state_consume_response_body, HttpStream.send_response, HttpStream.flow_done, HttpStream.check_body_size),
    *(HttpStream.check_invalid, HttpStream.check_killed, Http1Client.handle_event, validate.validate_headers),
    *(read.expected_http_body_size, read.connection_close, read.read_response_head, read._read_response_line, read._read_headers),
    *(assemble.assemble_response_head, assemble._assemble_response_line, assemble._assemble_response_headers, Headers.__bytes__),
    *(Headers.__init__, Response.__init__),
)
"""The methods whose work is done here in their place, or that would have done what is left out."""

FITS = digest_of_names(WAYS) == "235bf33a0a5136d9"
"""Whether this mitmproxy does what is known here, as 12.2 and 12.3 do; otherwise all answers are left to it."""

logger = logging.getLogger("sluicegate")
_connections_log = logging.getLogger("mitmproxy.proxy.server")


def reading(readers: Mapping[str, Callable[..., Any]]) -> Mapping[str, Callable[..., Any]]:
    """Return the readers of mitmproxy's ``Http1Client``, made to handle what is plain in a straight line."""
    if not FITS:
        logger.warning("Answers are handled the general, slower way, because this mitmproxy handles them otherwise than is known")
        return readers
    read_head, read_body = readers["read_headers"], readers["read_body"]

    def read_headers_straight(self: Any, event: Any) -> Commands:
        found = None if type(event) is not events.DataReceived else straight(begin, self, event)
        return read_head(self, event) if found is None else found

    def read_body_straight(self: Any, event: Any) -> Commands:
        found = None if type(event) is not events.DataReceived else straight(go_on, self, event)
        return read_body(self, event) if found is None else found

    return {
        **readers,
        "handle_event": handing_on.handle_event,
        "read_headers": read_headers_straight,
        "read_body": read_body_straight,
    }


def straight(handle: Callable[[Any, Any], Commands | None], client: Any, event: events.DataReceived) -> Commands | None:
    """Return how a read is handled in a straight line; None if mitmproxy's layers have to handle it."""
    # What an earlier read has left is the beginning of something that was not plain.
    if not fast_streams.is_on() or len(client.buf) != len(event.data):
        return None
    try:
        return handle(client, event)
    except Exception:
        fast_streams.FastStreams.is_on = False
        logger.exception("Answers take the general, slower way from now on, because the straight one failed")
        return None


def begin(client: Any, event: events.DataReceived) -> Commands | None:
    """Return how a read is handled that begins with the whole head of an answer; None if that or its exchange is not plain."""
    data = bytes(event.data)
    end = data.find(HEAD_END)
    if end < 0 or len(data) > size_limits.MAX_HEAD_BYTES or not hooks_at_once.dispatch or (at := exchange_of(client)) is None:
        return None
    stream = at.stream
    if stream.server_state != stream.state_wait_for_response_headers or (response := read_response(data, end)) is None:
        return None
    size = body_size(response.data.headers.fields)
    body = data[end + len(HEAD_END) :]
    if size is None or (size != CHUNKED and (len(body) > size or size_limits.concerns_options(stream.context.options, size))):
        return None
    return handle_head(at, event, response, size, body)


def handle_head(at: Exchange, event: events.DataReceived, response: Response, size: int, body: bytes) -> Commands:
    """Handle an answer's head, and what has come with it."""
    client, stream, flow = at.client, at.stream, at.flow
    client.response = flow.response = response
    hook = hooks_at_once.hook_of(HttpResponseHeadersHook, flow)
    fits = (
        hooks_at_once.is_over(hook)
        and flow.error is None
        and flow.response is response
        and body_size(fields := response.data.headers.fields) == size
    )
    client.body_reader = _http1.make_body_reader(None if size == CHUNKED else size)
    client.buf = type(client.buf)()
    if not fits or not is_tapped(at):
        # From here on mitmproxy's layers handle the event, for whom the hook has been called already.
        client.buf += body
        yield ReceiveHttp(hooks_at_once.GoOn(client.stream_id, after_head(stream, hook)))
        client.state = client.read_body
        yield from client.state(event)
        return
    client.state, at.fields, at.size = client.read_body, fields, size
    if not response.stream:
        stream.server_state = stream.state_consume_response_body
        yield from hold(at, event, take(client.body_reader, body))
        return
    at.server.response = response
    stream.server_state = stream.state_stream_response_body
    if _connections_log.isEnabledFor(logging.INFO):
        yield commands.Log(f"Streaming response from {flow.request.host}.")
    part = take(client.body_reader, body)
    yield from send(at, event, part, write_head(response))
    if part.is_end:
        fast_streams.note_fast()
    else:
        fast_streams.choose(stream)


def after_head(stream: Any, hook: Any) -> Commands:
    """Do what a stream does at an answer's head after its hook, which has been called."""
    yield from hooks_at_once.waiting(hook)
    if (yield from stream.check_killed(True)):
        return
    if stream.flow.response.stream:
        yield from stream.start_response_stream()
    else:
        stream.server_state = stream.state_consume_response_body


def go_on(client: Any, event: events.DataReceived) -> Commands | None:
    """Return how a read is handled that ends an answer; None if that or its exchange is not plain, or more is to come."""
    data, reader = bytes(event.data), stock_reader(client.body_reader)
    is_chunked = type(reader) is ChunkedReader
    if not data.endswith(LAST_CHUNK) if is_chunked else type(reader) is not ContentLengthReader or len(data) != reader._remaining:
        return None
    at = exchange_of(client)
    if at is None or at.flow.response is not client.response or not is_tapped(at) or not hooks_at_once.dispatch:
        return None
    stream, response = at.stream, client.response
    at.fields = response.data.headers.fields
    at.size = body_size(at.fields)
    if at.size is None or (at.size == CHUNKED) != is_chunked:
        return None
    handle: Callable[..., Commands]
    if stream.server_state == stream.state_stream_response_body:
        handle = send
    elif stream.server_state == stream.state_consume_response_body and not response.stream:
        if len(stream.response_body_buf) + len(data) > held_answers.MAX_HELD_BYTES:
            return None
        handle = hold
    else:
        return None
    part = take(reader, data)
    if not part.is_end and len(part.rest) == len(data):
        return None
    client.buf = type(client.buf)()
    return handle(at, event, part)


class Part(NamedTuple):
    """What was read of a body."""

    payload: bytes
    framed: bytes
    """The payload as it came, or in chunks of its own where a chunk has come in part."""
    rest: bytes
    """What has not been read: what is for h11, or the last chunk."""
    is_end: bool


def take(body_reader: Any, data: bytes) -> Part:
    """Take what is plain out of what has come of a body, which is not longer than the body, and move its reader on."""
    reader = stock_reader(body_reader)
    if type(reader) is not ChunkedReader:
        reader._remaining -= len(data)
        return Part(data, data, b"", not reader._remaining)
    payload, framed, end = read_pieces(reader, data) or (b"", b"", 0)
    rest = data[end:]
    if rest == LAST_CHUNK and not (reader._bytes_in_chunk or reader._bytes_to_discard or reader._reading_trailer):
        return Part(payload, framed, rest, is_end=True)
    return Part(payload, framed, rest, is_end=False)


def send(at: Exchange, event: events.DataReceived, part: Part, head: bytes = b"") -> Commands:
    """Let the tap read a part of a streamed answer, and send it on with the head that precedes it."""
    client, read, unsent = at.client, at.flow.response.stream, head
    client.buf += part.rest
    try:
        if part.payload:
            read(part.payload)
            unsent += part.framed
        if part.is_end:
            client.buf = type(client.buf)()
            read(b"")
    except Exception:
        # What came before the error is sent, as if it had been written at once.
        if unsent:
            yield commands.SendData(at.server.conn, unsent)
        raise
    if part.is_end:
        yield from end_streamed(at, unsent)
        return
    if unsent:
        yield commands.SendData(at.server.conn, unsent)
    if part.rest:
        yield from client.state(event)


def end_streamed(at: Exchange, unsent: bytes) -> Commands:
    """End a streamed answer, of which this is still to be sent."""
    at.flow.response.timestamp_end = time.time()
    hook = hooks_at_once.hook_of(HttpResponseHook, at.flow)
    if hooks_at_once.is_over(hook) and ends_plainly(at):
        yield from end(at, unsent + LAST_CHUNK if at.size == CHUNKED else unsent)
        return
    if unsent:
        yield commands.SendData(at.server.conn, unsent)
    rest = hooks_at_once.after(hook, at.stream.send_response(already_streamed=True))
    yield ReceiveHttp(hooks_at_once.GoOn(at.client.stream_id, rest))
    yield from at.client.mark_done(response=True)


def hold(at: Exchange, event: events.DataReceived, part: Part) -> Commands:
    """Let the tap read a part of an answer that is held until it is whole, and send it if it is now: see held_answers."""
    client, stream, flow, response = at.client, at.stream, at.flow, at.flow.response
    client.buf += part.rest
    tap, kept = flow.sluicegate_tap, stream.response_body_buf
    if part.payload:
        kept += tap(part.payload)
    if not part.is_end:
        if part.rest:
            yield from client.state(event)
        return
    client.buf = type(client.buf)()
    tap(b"")
    response.data.content = bytes(kept)
    kept.clear()
    response.timestamp_end = time.time()
    hook = hooks_at_once.hook_of(HttpResponseHook, flow)
    if hooks_at_once.is_over(hook) and ends_plainly(at) and (content := response.data.content) is not None:
        if at.size == CHUNKED:
            content = b"%x\r\n%b\r\n%b" % (len(content), content, LAST_CHUNK) if content else LAST_CHUNK
        yield from end(at, write_head(response) + content)
        response.data.content = None
        return
    rest = hooks_at_once.after(hook, held_answers.send(response, stream.send_response()))
    yield ReceiveHttp(hooks_at_once.GoOn(client.stream_id, rest))
    yield from client.mark_done(response=True)


def end(at: Exchange, unsent: bytes) -> Commands:
    """Send what is left of an answer, and let both connections wait for the next request."""
    client, server, stream = at.client, at.server, at.stream
    stream.server_state, at.flow.live = stream.state_done, False
    at.http.streams.pop(stream.stream_id, None)
    yield commands.SendData(server.conn, unsent)
    for connection in (server, client):
        connection.request_done = connection.response_done = False
        connection.request = connection.response = None
        connection.state = connection.read_headers
    server.stream_id += 2
    client.stream_id = None
    fast_streams.end(stream)
    release_memory.release(stream)
