"""Our own protocol layers, which stand in the place of mitmproxy's, see ``layer_choice``.

They remember how a request was addressed, limit what a client can make us keep in memory, answer errors as JSON and
free a call once it has ended. Everything else they leave to their base classes; upstream connections are mitmproxy's
own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from mitmproxy import flow
from mitmproxy.connection import ConnectionState
from mitmproxy.net.http.http1 import connection_close
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import HttpLayer
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    Http1Server,
    Http2Server,
    HttpErrorHook,
    HttpEvent,
    HTTPMode,
    HttpStream,
    ReceiveHttp,
    RequestData,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
    SendHttp,
)

from flow import mark_as_left
from runtime import handing_on, hooks_at_once, trailers
from runtime.error_responses import SWITCHED, asks_for_head, audience_of, error_bytes, error_response, status_of
from runtime.requests import addressing, arriving_bodies, body_pieces, known_ways, straight_line, whole_requests
from runtime.requests.body_buffer import BodyBuffer
from runtime.resources import frame_limits, release_memory, size_limits
from runtime.streams import fast_streams, held_answers, joined_writes, paced_answers
from runtime.streams.entry import Entry
from runtime.streams.flow_control import FlowControl
from runtime.streams.joined_pieces import ResponsePieces, pass_on, send_framed

Commands = layer.CommandGenerator[None]

STRAIGHT: dict[type, Callable[[Any, Any], Commands]] = {
    whole_requests.ArrivedRequest: straight_line.serve,
    whole_requests.BodyEnd: straight_line.serve_end,
    hooks_at_once.GoOn: hooks_at_once.go_on,
    # Nothing follows a body that was judged.
    RequestTrailers: trailers.drop,
    ResponseTrailers: trailers.drop,
}
"""The events of a stream that mitmproxy's own states do not see, and what it does with each."""


class GatewayHttp1Server(Http1Server):
    """Our side of a client's HTTP/1 connection."""

    known_names: Any = None
    """What is known of its last request by the names of its headers."""

    if known_ways.FITS:
        handle_event = handing_on.handle_event

    def send(self, event: HttpEvent) -> Commands:
        """Send an event to the client; an error becomes JSON. Not a generator of its own, because it is called for each chunk."""
        if type(event) is ResponsePieces:
            return send_framed(self, event, super().send)
        if isinstance(event, ResponseProtocolError):
            return self.send_error(event)
        return super().send(event)

    def send_error(self, event: ResponseProtocolError) -> Commands:
        """Send an error as JSON where no answer has begun; mitmproxy closes the connection after it."""
        status = status_of(event)
        # A "100 Continue" invites the body and begins no answer, though mitmproxy takes it for one.
        has_begun = self.response is not None and self.response.status_code != 100
        if status is None or has_begun or not self.conn.state & ConnectionState.CAN_WRITE:
            yield from super().send(event)
            return
        yield commands.SendData(self.conn, error_bytes(status, event.message, audience_of(self.context, event.stream_id)))
        yield commands.CloseConnection(self.conn)

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        """Read a request's head, of at most ``MAX_HEAD_BYTES``, and its body with it where all of it has come."""
        found = whole_requests.take(self, event)
        if not isinstance(found, str):
            self.request, self.state = found.request, self.read_body
            yield ReceiveHttp(found)
            if found.is_whole:
                yield from self.mark_request_done()
            return
        number = self.stream_id
        yield from super().read_headers(event)
        if self.request is not None or self.stream_id != number:
            whole_requests.count(found)
        # Still in this state: what has arrived does not contain the whole head.
        if self.state == self.read_headers and len(self.buf) > size_limits.MAX_HEAD_BYTES:
            self.state = self.done
            yield commands.SendData(self.conn, error_bytes(431, f"Headers end within {size_limits.MAX_HEAD_BYTES} bytes."))
            yield commands.CloseConnection(self.conn)

    def read_body(self, event: events.Event) -> Commands:
        """Read a request's body; where what frames its chunks has no end, its call ends as if the client had left."""
        if (end := whole_requests.take_end(self, event)) is not None:
            yield ReceiveHttp(end)
            yield from self.mark_request_done()
            return
        if (data := body_pieces.take(self, event)) is not None:
            yield ReceiveHttp(RequestData(self.stream_id, data))
            return
        self.body_reader = size_limits.counting_chunks(self.body_reader)
        yield from super().read_body(event)
        # The body's bytes have been passed on by now: what is left is the size line of a chunk, or trailers.
        if self.state == self.read_body and len(self.buf) > size_limits.MAX_HEAD_BYTES:
            self.state = self.done
            yield from super().read_body(events.ConnectionClosed(self.conn))

    def mark_request_done(self) -> Commands:
        """Note that all of a request has come; wait for its answer, unless it has been given already."""
        if self.response_done:
            yield from self.mark_done(request=True)
        else:
            self.request_done, self.state = True, self.wait

    def wait(self, event: events.Event) -> Commands:
        """Buffer what a client sends before it has its answer; beyond the limit its call ends as if it had left."""
        if len(self.buf) > size_limits.MAX_READ_AHEAD_BYTES:
            self.state = self.done
            event = events.ConnectionClosed(self.conn)
        return super().wait(event)

    def mark_done(self, *, request: bool = False, response: bool = False) -> Commands:
        """Note that one side is done, and end the connection after both if the client asked for that."""
        if response and self.request is not None and getattr(self.request, "asks_to_close", False):
            # It was removed from what is sent on, and mitmproxy looks for it there.
            self.request.headers["connection"] = "close"
        yield from super().mark_done(request=request, response=response)


class GatewayHttp2Server(Http2Server):
    """Our side of a client's HTTP/2 connection."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.frame_credit = frame_limits.FrameCredit()
        self.flow_control = FlowControl(self)

    def _handle_event(self, event: events.Event) -> Commands:
        """Handle an event; an error becomes JSON. Not a generator of its own, because it is called for each chunk."""
        if isinstance(event, events.DataReceived):
            if not self.frame_credit.admits(event.data):
                return frame_limits.end(self)
        elif isinstance(event, ResponseProtocolError):
            return self.send_error(event)
        else:
            self.frame_credit.earn(len(event.data) if isinstance(event, ResponseData) else 0)
        if isinstance(event, ResponseData):
            self.flow_control.add(event.stream_id, len(event.data))
        return self.flow_control.resume_after(super()._handle_event(event))

    def send_error(self, event: ResponseProtocolError) -> Commands:
        """Send an error as a whole JSON answer where none has begun, else reset the stream as mitmproxy does."""
        status, number = status_of(event), event.stream_id
        if status is None or not self.is_open_for_us(number) or self.h2_conn.streams[number].state_machine.headers_sent:
            yield from super()._handle_event(event)
            return
        response = error_response(status, event.message, audience_of(self.context, event.stream_id))
        yield from super()._handle_event(ResponseHeaders(event.stream_id, response, end_stream=False))
        if not asks_for_head(self.context, number):
            yield from super()._handle_event(ResponseData(event.stream_id, response.raw_content or b""))
        yield from super()._handle_event(ResponseEndOfMessage(event.stream_id))


def without_body(answer: Commands) -> Commands:
    """Send an answer to a HEAD, which has the length of a body and no body: a client would take one for its next answer."""
    reply: Any = None
    with contextlib.suppress(StopIteration):
        while True:
            command = answer.send(reply)
            is_body = isinstance(command, SendHttp) and isinstance(command.event, ResponseData)
            reply = None if is_body else (yield command)


class GatewayHttpStream(HttpStream):
    """One request and its answer."""

    discarded_bytes = 0
    """Bytes of the request's body that have been read and not kept, because the request has been refused."""
    incoming: Entry | None = None
    """The connection on which the request's body takes its short way."""
    upstream: Entry | None = None
    """The connection on which the answer takes its short way."""

    def __init__(self, context: Context, stream_id: int) -> None:
        super().__init__(context, stream_id)
        self.request_body_buf = BodyBuffer()  # type: ignore[assignment]

    def _handle_event(self, event: events.Event) -> Commands:
        """Handle an event; hooks that wait for nothing are over at once."""
        if (own := STRAIGHT.get(type(event))) is not None:
            return own(self, event)
        return hooks_at_once.shorten(self, super()._handle_event(event))

    def state_wait_for_request_headers(self, event: RequestHeaders) -> Commands:
        """Remember how the request was addressed: mitmproxy forgets that before any hook runs."""
        request = event.request
        addressing.note_addressing(request, self.context.client, connection_close(request.http_version, request.headers))
        return super().state_wait_for_request_headers(event)  # type: ignore[no-any-return]

    def state_consume_request_body(self, event: events.Event) -> Commands:
        """Keep a body that will be read; discard one whose request was answered at its headers, or that is too large.

        The client may still send it to its end and gets its answer then: a client that is cut off while it sends often
        never sees why.
        """
        stock: Commands = super().state_consume_request_body(event)
        if not isinstance(event, RequestData):
            arriving_bodies.end(self)
            return stock
        if self.flow.response is None:
            refuse = size_limits.refusal_of_body(self.flow, len(self.request_body_buf) + len(event.data))
            if refuse is None:
                return stock if self.request_body_buf else arriving_bodies.begin(self, stock)
            self.request_body_buf.clear()
            # This sets the response, so every later chunk is discarded as well.
            refuse(self.flow)
        return self.discard(event.data)

    def discard(self, data: bytes) -> Commands:
        """Count a chunk of a refused body, and keep what content storage may need of it."""
        self.request_body_buf += size_limits.bytes_to_keep(self.flow, len(self.request_body_buf), data)
        self.discarded_bytes += len(data)
        if self.discarded_bytes > size_limits.MAX_DISCARDED_BYTES:
            # The same steps as mitmproxy takes for a body larger than body_size_limit.
            self.flow.error = flow.Error(f"a body may have {size_limits.MAX_DISCARDED_BYTES} bytes")
            yield HttpErrorHook(self.flow)
            too_large = ResponseProtocolError(self.stream_id, self.flow.error.msg, ErrorCode.REQUEST_TOO_LARGE)
            yield SendHttp(too_large, self.context.client)
            self.client_state, self.flow.live = self.state_errored, False

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> Commands:
        """End a call whose answer would leave HTTP: mitmproxy would relay whatever follows, in both directions."""
        if event.response.status_code == 101 and self.flow.metadata.get("sluicegate") != "egress":
            return self.end_switched()
        return super().state_wait_for_response_headers(event)  # type: ignore[no-any-return]

    def end_switched(self) -> Commands:
        """Close the upstream connection, and answer the client with an error."""
        yield commands.CloseConnection(self.context.server)
        why = f"{SWITCHED} (101), which nobody asked for"
        yield from self.handle_protocol_error(ResponseProtocolError(self.stream_id, why, ErrorCode.RESPONSE_VALIDATION_FAILED))

    def start_response_stream(self) -> Commands:
        """Begin to stream the answer, by the short way if it can take that."""
        yield from super().start_response_stream()
        fast_streams.begin(self)

    def state_stream_response_body(self, event: events.Event) -> Commands:
        """Stream a part of the answer."""
        stock = super().state_stream_response_body
        return pass_on(self, event, stock) if type(event) is ResponsePieces else stock(event)

    def state_consume_response_body(self, event: events.Event) -> Commands:
        """Hold an answer that is marked to be held; mitmproxy keeps all others that are not streamed."""
        return held_answers.hold(self, event, super().state_consume_response_body(event))

    def send_response(self, already_streamed: bool = False) -> Commands:
        """Send an answer that an addon has set, piece by piece where it has a pace."""
        stock: Commands = super().send_response(already_streamed)
        if already_streamed:
            return stock
        return without_body(stock) if self.flow.request.method == "HEAD" else paced_answers.give(self, stock)

    def check_body_size(self, request: bool) -> layer.CommandGenerator[bool]:
        """Refuse a body that is larger than any may be, and keep nothing of it."""
        is_refused: bool = yield from super().check_body_size(request)
        if is_refused:
            size_limits.forget_body(self)
        return is_refused

    def flow_done(self) -> Commands:
        """Finish the stream, then free its memory."""
        yield from super().flow_done()
        fast_streams.end(self)
        release_memory.release(self)

    def handle_protocol_error(self, event: Any) -> Commands:
        """End the stream after an error, then free its memory."""
        if isinstance(event, RequestProtocolError) and event.code is ErrorCode.CANCEL:
            mark_as_left(self.flow)
        arriving_bodies.end(self)
        yield from super().handle_protocol_error(event)
        size_limits.forget_body(self)
        fast_streams.end(self)
        release_memory.release(self)


class GatewayHttpLayer(HttpLayer):
    """HTTP on a client connection, whichever version it speaks: makes our streams and our side of the connection."""

    def __init__(self, context: Context, mode: HTTPMode) -> None:
        super().__init__(context, mode)
        release_memory.http_layers.setdefault(context.client.id, []).append(self)

    def _handle_event(self, event: events.Event) -> Commands:
        """Set our side of the client's connection before the first event; mitmproxy keeps one that is already set."""
        server = GatewayHttp2Server if self.context.client.alpn == b"h2" else GatewayHttp1Server
        self.connections[self.context.client] = server(self.context.fork())
        stock = super()._handle_event
        is_known = known_ways.FITS and handing_on.FITS and self.debug is None
        enter = handing_on.entering(self, stock) if is_known else stock
        # All later events go straight on: to look each time would be a cost per chunk.
        self._handle_event = lambda event: joined_writes.join(enter(event))  # type: ignore[method-assign]
        if is_known:
            # This layer itself waits for nothing, so there is never an event to be held back.
            self.handle_event = self._handle_event  # type: ignore[method-assign]
            handing_on.go_first(self)
        return stock(event)  # type: ignore[no-any-return]

    def make_stream(self, stream_id: int) -> Commands:
        """Make our stream for a request."""
        stream = self.streams[stream_id] = GatewayHttpStream(handing_on.fork(self.context), stream_id)
        if known_ways.FITS:
            # This is all that a stream does at its start.
            stream.client_state = stream.state_wait_for_request_headers
        else:
            yield from self.event_to_child(stream, events.Start())

    if handing_on.FITS:

        def event_to_child(self, child: Any, event: events.Event) -> Commands:
            """Hand an event to a child, and on what comes of it."""
            return handing_on.event_to_child(self, child, event)
