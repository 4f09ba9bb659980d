"""Exchanges: a request that has been sent and its answer, as mitmproxy's layers on either side know of them.

Here is asked whether all about them is as usual, so that the answer can be handled in a straight line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.layers import GatewayHttp1Server, GatewayHttpLayer, GatewayHttpStream
from runtime.streams.plain_heads import body_size, has_body, keeps_connection

METHODS = (b"POST", b"GET")
"""The methods of a request whose answer may come in a straight line; that to a HEAD has no body, and that to a CONNECT no end."""


@dataclass(slots=True)
class Exchange:
    """A request that has been sent, whose answer is read: mitmproxy's layers that know of it."""

    http: Any
    stream: Any
    client: Any
    """Its ``Http1Client`` of the provider."""
    server: Any
    """Our side of the client's connection."""
    flow: Any
    fields: Any = None
    """Those of the answer's head, by which it was found plain."""
    size: int | None = None
    """The size of the answer's body by them: see plain_heads."""


def exchange_of(client: Any) -> Exchange | None:
    """Return the exchange that a provider's connection is used for; None where anything about it is not as usual."""
    for http in reversed(client.context.layers):
        if type(http) is GatewayHttpLayer:
            break
    else:
        return None
    stream, server, request = http.streams.get(client.stream_id), http.connections.get(http.context.client), client.request
    if type(stream) is not GatewayHttpStream or stream._paused is not None or stream._paused_event_queue:
        return None
    if (
        type(server) is not GatewayHttp1Server
        # What a client has sent after this request would be read within its answer: see hooks_at_once.is_alone.
        or server.buf
        or server.request is not request
        or stream.flow.request is not request
        or not (client.request_done and server.request_done)
        or stream.client_state != stream.state_done
        or stream.context.layers[-1] is not stream
        or request.data.method not in METHODS
        or stream.context.options.store_streamed_bodies
    ):
        return None
    return Exchange(http, stream, client, server, stream.flow)


def is_tapped(at: Exchange) -> bool:
    """Return whether an answer is read by a tap that changes nothing, as it is sent on or until it is whole."""
    read = at.flow.response.stream
    return getattr(read, "passes_unchanged", False) if read else getattr(at.flow, "sluicegate_tap", None) is not None


def ends_plainly(at: Exchange) -> bool:
    """Return whether an answer whose last hook has been called ends as it began, and both connections are kept after it."""
    flow, response, request = at.flow, at.client.response, at.client.request
    fields = response.data.headers.fields
    return (
        flow.error is None
        and flow.response is response
        and flow.request is request
        and flow.websocket is None
        and response.data.trailers is None
        and (fields is at.fields or body_size(fields) == at.size)
        and has_body(response)
        and request.data.http_version == b"HTTP/1.1"
        and request.data.method in METHODS
        and not request.asks_to_close
        and keeps_connection(request.data.headers.fields)
    )
