"""SizeLimits: what is kept of a client that sends and sends is bounded.

mitmproxy reads headers until they end, and what a client sends ahead while its answer is on the way, into memory
without a limit: one connection could take all there is. And it keeps a body to its end also where the headers have said
enough: a few dozen connections of strangers could, and of people with a key who open many at once.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any
from weakref import WeakKeyDictionary

from mitmproxy import flow, http
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers import tls
from mitmproxy.proxy.layers.http import ErrorCode, HttpErrorHook, HttpStream, RequestData, ResponseProtocolError, SendHttp, _http1

from flow import Addon, call_of, deny
from sluicegate.storage.content_store import MAX_REFUSED_BYTES
from sluicegate.values import Deny, Reason

logger = logging.getLogger("sluicegate")

MOST_HEAD = 256 << 10
"""Bytes of a request's line and headers; servers take from 16 KB to 1 MB."""

MOST_AHEAD = 1 << 20
"""Bytes a client may send before it has its answer; clients that pipeline send small requests, and most send none."""

MOST_PASSED_OVER = 64 << 20
"""Bytes of a body that is not kept which are read before the connection is ended; no body may have more."""

MOST_HELLO = 64 << 10
"""Bytes of a TLS connection's first message; clients send one or two thousand. mitmproxy reads it anew with each piece."""

LARGE = 1 << 20
"""Bytes from which a body counts among the large ones; an agent's turn has a tenth of that."""

MOST_HELD = 512 << 20
"""Bytes of large bodies that are held at one moment, all callers' together."""

held: WeakKeyDictionary[flow.Flow, int] = WeakKeyDictionary()
"""Bytes of each large body, for as long as its flow is there: until it has been answered."""

Steps = Generator[commands.Command, Any, Any]


class SizeLimits(Addon):
    """Ends the connections of clients that go on beyond them."""

    def running(self) -> None:
        """mitmproxy: the proxy is up."""
        super().running()
        server = getattr(_http1, "Http1Server", None)
        stock = getattr(server, "read_headers", None), getattr(server, "wait", None)
        if None in stock:
            logger.warning("mitmproxy reads requests elsewhere: their headers are not bounded")
        elif not hasattr(server, "bounded"):
            bound(server, *stock)
        greet = getattr(tls.ClientTLSLayer, "receive_handshake_data", None)
        if greet is None:
            logger.warning("mitmproxy greets TLS clients elsewhere: their first message is not bounded")
        elif not hasattr(tls.ClientTLSLayer, "bounded"):
            bound_hello(tls.ClientTLSLayer, greet)
        consume = getattr(HttpStream, "state_consume_request_body", None)
        if consume is None:
            logger.warning("mitmproxy reads bodies elsewhere: those of refused requests take memory")
        elif not hasattr(HttpStream, "bounded"):
            bound_bodies(HttpStream, consume)


def bound(server: Any, read_headers: Any, wait: Any) -> None:
    """Put bounds on mitmproxy's reader of HTTP/1 requests."""

    def bounded_headers(self: Any, event: events.Event) -> Steps:
        yield from read_headers(self, event)
        if self.state == self.read_headers and len(self.buf) > MOST_HEAD:
            self.state = self.done
            yield commands.SendData(self.conn, _http1.make_error_response(431, f"Headers end within {MOST_HEAD} bytes."))
            yield commands.CloseConnection(self.conn)

    def bounded_wait(self: Any, event: events.Event) -> Steps:
        if len(self.buf) <= MOST_AHEAD:
            yield from wait(self, event)
        else:
            # Its call ends as if it had left.
            self.state = self.done
            yield from wait(self, events.ConnectionClosed(self.conn))

    server.read_headers, server.wait, server.bounded = bounded_headers, bounded_wait, True


def bound_hello(layer: Any, greet: Any) -> None:
    """Put a bound on the message with which a TLS client begins."""

    def bounded_greet(self: Any, data: bytes) -> Steps:
        if not self.client_hello_parsed and len(self.recv_buffer) + len(data) > MOST_HELLO:
            return False, f"a ClientHello may have {MOST_HELLO} bytes"
        return (yield from greet(self, data))

    layer.receive_handshake_data, layer.bounded = bounded_greet, True


def bound_bodies(stream: Any, consume: Any) -> None:
    """Let mitmproxy keep no body that nobody will read: its request was answered at its headers, or it is too large.

    The client may send it to its end all the same, and gets its answer then: one that is cut off while it sends often
    never sees why.
    """

    def bounded_consume(self: Any, event: events.Event) -> Steps:
        if not isinstance(event, RequestData):
            yield from consume(self, event)
            return
        if self.flow.response is None:
            most, refuse = getattr(self.flow, "sluicegate_body_limit", NO_BOUND)
            size = len(self.request_body_buf) + len(event.data)
            if size > LARGE and size <= most:
                held[self.flow] = size
                if sum(held.values()) > MOST_HELD:
                    del held[self.flow]
                    most, refuse = 0, have_no_room
            if size <= most:
                yield from consume(self, event)
                return
            self.request_body_buf.clear()
            refuse(self.flow)
        yield from pass_over(self, event.data)

    stream.state_consume_request_body, stream.bounded = bounded_consume, True


def have_no_room(flow: http.HTTPFlow) -> None:
    """Refuse a body, for now, for which there is no room beside all the others."""
    words = f"The gateway holds {MOST_HELD >> 20} MB of large requests and takes no more at this moment; try again"
    if call_of(flow) is not None:
        deny(flow, Deny(Reason.GATEWAY_ERROR, words, retry_after=2, final=False))
    else:
        flow.response = http.Response.make(503, words, {"retry-after": "2"})


NO_BOUND = float("inf"), have_no_room
"""Of a body of which nobody has said how large it may be: mitmproxy's own bound holds."""


def pass_over(stream: Any, data: bytes) -> Steps:
    """Count a piece of a refused body, and keep of it what may be wanted as content."""
    call = call_of(stream.flow)
    if call is not None and call.principal is not None:
        kept = data[: max(0, MAX_REFUSED_BYTES + 1 - len(stream.request_body_buf))]
        if kept:
            stream.request_body_buf += kept
        call.request_bytes += len(data) - len(kept)
    stream.passed_over = getattr(stream, "passed_over", 0) + len(data)
    if stream.passed_over > MOST_PASSED_OVER:
        # As mitmproxy does where a body is larger than body_size_limit.
        stream.flow.error = flow.Error(f"a body may have {MOST_PASSED_OVER} bytes")
        yield HttpErrorHook(stream.flow)
        too_large = ResponseProtocolError(stream.stream_id, stream.flow.error.msg, ErrorCode.REQUEST_TOO_LARGE)
        yield SendHttp(too_large, stream.context.client)
        stream.client_state, stream.flow.live = stream.state_errored, False


addons = [SizeLimits()]
