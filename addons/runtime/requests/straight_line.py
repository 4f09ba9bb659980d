"""The straight line: a request that has come whole goes to its provider in one go.

mitmproxy takes it through seven events of a stream, each handed through its layers, finds the connection to the provider by a
command of its own, and hands head, body and end on one after the other. Here the same is done in the same order, with the same
hooks, limits and checks, and leaves every layer in the state that mitmproxy would leave it in. Whatever is not in the plainest form
is handed over to mitmproxy's own states where it shows: an answer or an error that an addon has set, a body that is refused, a
connection that has to be opened. A counter says how many, and why.
"""

from __future__ import annotations

import time
from typing import Any

from mitmproxy.connection import Server
from mitmproxy.http import HTTPFlow, Request, Response
from mitmproxy.net.http.http1 import assemble_request_head
from mitmproxy.proxy import commands, layer
from mitmproxy.proxy.layers import ServerTLSLayer
from mitmproxy.proxy.layers.http import (
    Http1Client,
    HttpClient,
    HTTPMode,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    SendHttp,
)
from mitmproxy.proxy.mode_specs import ReverseMode
from mitmproxy.proxy.tunnel import TunnelState

from runtime import hooks_at_once
from runtime.requests import arriving_bodies, whole_requests
from runtime.requests.addressing import note_addressing
from runtime.requests.whole_requests import VERSION, ArrivedRequest, BodyEnd, Names
from runtime.resources import size_limits
from runtime.streams.joined_writes import MAX_JOINED_BYTES

Commands = layer.CommandGenerator[None]
Way = layer.CommandGenerator[str]


def serve(stream: Any, event: ArrivedRequest) -> Commands:
    """Take a request to its provider, or as far as it has come, and count which way it went."""
    why = yield from begin(stream, event)
    whole_requests.count(why)


def serve_end(stream: Any, event: BodyEnd) -> Commands:
    """Take a request to its provider whose body has come with this piece."""
    kept = stream.request_body_buf
    if stream.client_state != stream.state_consume_request_body or not may_be_kept(stream.flow, len(kept) + len(event.data)):
        yield from hooks_at_once.shorten(stream, in_two(stream, event.data, is_whole=True))
        return
    kept += event.data
    arriving_bodies.end(stream)
    content = bytes(kept)
    kept.clear()
    yield from finish(stream, content, event.server)


def begin(stream: Any, event: ArrivedRequest) -> Way:
    """Take a request from its first byte to its provider; return why some of it was left to mitmproxy, empty for nothing."""
    context, request, content = stream.context, event.request, event.content
    note_addressing(request, context.client, event.known.asks_to_close)
    if not point(request, event.known, context):
        yield from hooks_at_once.shorten(stream, in_three(stream, event))
        return "target"
    stream.flow = flow = HTTPFlow(context.client, context.server)
    flow.request = request
    flow.live = True
    size = event.size
    if size and size_limits.concerns_options(context.options, size) and (yield from stream.check_body_size(True)):
        return "too_large"
    hook = hooks_at_once.hook_of(HttpRequestHeadersHook, flow)
    if not hooks_at_once.is_over(hook):
        yield hook
    if (flow.error is not None or stream._paused_event_queue) and (yield from stream.check_killed(True)):
        return "killed"
    request = flow.request
    if (request.stream and size) or expects(request):
        yield from begin_unusual(stream, size)
        why = "streamed"
    else:
        stream.server_state = stream.state_wait_for_response_headers
        if not event.is_whole:
            why = "parts"
        elif not size or may_be_kept(flow, size):
            return (yield from finish(stream, content, event.server))
        else:
            why = "refused"
        stream.client_state = stream.state_consume_request_body
    yield from hooks_at_once.shorten(stream, in_two(stream, content, event.is_whole))
    return why


def point(request: Request, known: Names, context: Any) -> bool:
    """Point a request at the server it names, or at the one that its connection is for; return whether it is known which."""
    data, mode = request.data, context.layers[-2].mode
    if mode is HTTPMode.upstream or isinstance(context.client.proxy_mode, ReverseMode):
        return False
    if mode is HTTPMode.transparent:
        server = context.server
        data.host, data.port = server.address[:2]
        data.scheme = b"https" if server.tls else b"http"
        return True
    if not data.host:
        if known.destination is None:
            return False
        is_tls = context.client.tls
        data.host, port = known.destination
        data.port = (443 if is_tls else 80) if port is None else port
        data.scheme = b"https" if is_tls else b"http"
    data.authority = b""
    return True


def expects(request: Request) -> bool:
    """Return whether a request asks to be invited to send its body: it did not when it came, but an addon may have changed that."""
    return b"expect" in map(bytes.lower, dict(request.data.headers.fields))


def may_be_kept(flow: HTTPFlow, size_bytes: int) -> bool:
    """Return whether a body of this size is to be kept, because its request has not been answered, and it is not too large."""
    return flow.response is None and size_limits.refusal_of_body(flow, size_bytes) is None


def in_three(stream: Any, event: ArrivedRequest) -> Commands:
    """Take a request through mitmproxy's own states, from its beginning."""
    head = RequestHeaders(event.stream_id, event.request, event.end_stream)
    yield from HttpStream.state_wait_for_request_headers(stream, head)
    yield from in_two(stream, event.content, event.is_whole)


def in_two(stream: Any, content: bytes, is_whole: bool) -> Commands:
    """Take what has come after a request's head through mitmproxy's own states."""
    if content:
        yield from stream.client_state(RequestData(stream.stream_id, content))
    if is_whole:
        yield from stream.client_state(RequestEndOfMessage(stream.stream_id))


def begin_unusual(stream: Any, size_bytes: int) -> Commands:
    """Begin a request that waits to be invited, or whose body an addon streams."""
    request = stream.flow.request
    if request.headers.get("expect", "").lower() == "100-continue":
        invitation = Response.make(100)
        invitation.headers.clear()
        yield SendHttp(ResponseHeaders(stream.stream_id, invitation), stream.context.client)
        request.headers.pop("expect")
    if request.stream and size_bytes:
        yield from stream.start_request_stream()
    else:
        stream.client_state = stream.state_consume_request_body
    stream.server_state = stream.state_wait_for_response_headers


def finish(stream: Any, content: bytes, server: Any) -> Way:
    """Take a request to its provider of which all is there; return why some of it was left to mitmproxy."""
    flow = stream.flow
    data = flow.request.data
    data.timestamp_end, data.content = time.time(), content
    stream.client_state = stream.state_done
    hook = hooks_at_once.hook_of(HttpRequestHook, flow)
    # A client that has sent more after it waits for its turn, see ``hooks_at_once.is_alone``.
    if server.buf or not hooks_at_once.is_over(hook):
        yield hook
    if (flow.error is not None or stream._paused_event_queue) and (yield from stream.check_killed(True)):
        return "killed"
    if flow.response is not None:
        yield from hooks_at_once.shorten(stream, answer(stream))
        return "answered"
    found = upstream_for(stream, flow)
    if isinstance(found, str):
        yield from send_in_three(stream)
        return found
    connection, client, tls = found
    request = flow.request
    head, content = assemble_request_head(request), request.data.content or b""
    if not is_framed_by_length(request, head, len(content)):
        yield from send_in_three(stream)
        return "reframed"
    stream.context.server = flow.server_conn = connection
    client.stream_id, client.request, client.request_done = stream.stream_id, request, True
    pieces = (head + content,) if len(head) + len(content) <= MAX_JOINED_BYTES else (head, content)
    for piece in pieces:
        if tls is None:
            yield commands.SendData(connection, piece)
        else:
            yield from tls.send_data(piece)
    return ""


def answer(stream: Any) -> Commands:
    """Give the answer that an addon has set."""
    stream.flow.response.timestamp_start = time.time()
    yield HttpResponseHeadersHook(stream.flow)
    if not (yield from stream.check_killed(True)):
        yield from stream.send_response()


def send_in_three(stream: Any) -> Commands:
    """Send a request by mitmproxy's own way."""
    if not (yield from stream.make_server_connection()):
        return
    request, server, number = stream.flow.request, stream.context.server, stream.stream_id
    content = request.raw_content
    yield SendHttp(RequestHeaders(number, request, not (content or request.trailers)), server)
    if content:
        yield SendHttp(RequestData(number, content), server)
    if request.trailers:
        yield SendHttp(RequestTrailers(number, request.trailers), server)
    yield SendHttp(RequestEndOfMessage(number), server)


def upstream_for(stream: Any, flow: HTTPFlow) -> tuple[Server, Any, Any] | str:
    """Return the open connection that a request goes to, mitmproxy's ``Http1Client`` on it and its TLS, None for none.

    Where it is not free, or not as known, or has to be opened first, return why: the rules are those of mitmproxy's own pool.
    """
    context, data = stream.context, flow.request.data
    http = context.layers[-2]
    address, is_tls, known = (data.host, data.port), data.scheme == b"https", flow.server_conn
    for connection, below in http.connections.items():
        if not isinstance(connection, Server) or address != connection.address or is_tls != connection.tls:
            continue
        if connection.via != known.via or connection.transport_protocol != known.transport_protocol:
            continue
        if connection in http.waiting_for_establishment or connection.error:
            break
        if not connection.connected:
            # mitmproxy looks for another one.
            continue
        above = below.context.layers[len(context.layers) - 1 :]
        tls = above.pop(0) if len(above) == 3 else None
        if tls is not None and (type(tls) is not ServerTLSLayer or tls.tunnel_state is not TunnelState.OPEN):
            return "layers"
        if len(above) != 2 or type(above[0]) is not HttpClient or type(client := above[1]) is not Http1Client:
            return "layers"
        is_free = client.stream_id is None and client.request is None and not client.buf and client.state == client.read_headers
        return (connection, client, tls) if is_free else "layers"
    return "new_connection"


def is_framed_by_length(request: Request, head: bytes, size_bytes: int) -> bool:
    """Return whether a head, after all that addons have done to it, says how long its body is, and nothing else about it."""
    if request.data.http_version != VERSION or request.data.trailers:
        return False
    lowered = head.lower()
    if b"\r\ntransfer-encoding:" in lowered:
        return False
    lengths = lowered.count(b"\r\ncontent-length:")
    return lengths == lowered.count(b"\r\ncontent-length: %d\r\n" % size_bytes) == 1 or (not lengths and not size_bytes)
