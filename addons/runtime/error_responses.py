"""mitmproxy's own errors (provider unreachable, body too large) as JSON that agents can show, instead of its HTML page."""

from __future__ import annotations

from typing import NamedTuple

from mitmproxy import http
from mitmproxy.net.http.http1 import assemble_response
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import HttpLayer
from mitmproxy.proxy.layers.http import ResponseProtocolError

from flow import call_of, connection_of
from runtime.console.log_redaction import without_bytes
from sluicegate.calls.refusal import BLOCKED, answer_for, one_line, reason_of_failure
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.base import ProtocolName
from sluicegate.values import Reason

SWITCHED = "it switched protocols"
"""The beginning of the reason why a call failed whose answer would have left HTTP."""

WHAT = {
    408: "The request took too long",
    413: "The request is too large",
    502: "The provider cannot be reached",
}
"""What each status says happened."""


class Audience(NamedTuple):
    """For whom an error is written: the protocol in whose envelope it is expected, and the client."""

    protocol: ProtocolName = "anthropic"
    client: str = "other"


UNKNOWN = Audience()


def explain(status: int, message: str) -> str:
    """Return mitmproxy's error message, worded for the person who made the call."""
    if BLOCKED in message:
        return "Blocked by policy: " + message.rpartition(BLOCKED)[2][:400]
    what = WHAT.get(status, "The request failed")
    if message.startswith(SWITCHED):
        what = "The provider's answer cannot be passed on"
    return f"{what}: {without_bytes(message)}"[:500]


def reason_for(status: int, message: str) -> Reason:
    """Return the value of ``x-sluicegate-reason``."""
    return reason_of_failure(message) if status == 502 or BLOCKED in message else Reason.INVALID_REQUEST


def error_response(status: int, message: str, audience: Audience = UNKNOWN) -> http.Response:
    """Return the answer to a request that mitmproxy gave up on, in the protocol's own envelope and as its client takes it best."""
    # A message may quote what a client has sent, such as a scheme that is not UTF-8.
    reason = reason_for(status, message)
    kind = reason.family if reason is Reason.PROVIDER_UNREACHABLE else "api_error"
    line, answer = one_line(explain(status, message)), answer_for(audience.client, reason)
    status = status if answer is None or reason is not Reason.PROVIDER_UNREACHABLE else answer.status
    body = PROTOCOLS[audience.protocol].error_body(kind, line, status)
    headers = {
        "content-type": "application/json",
        "x-should-retry": "false",
        "x-sluicegate-reason": reason.value,
    }
    return http.Response.make(status, body, headers)


def error_bytes(status_code: int, message: str = "", audience: Audience = UNKNOWN) -> bytes:
    """Return such an answer as HTTP/1.1, after which the connection is closed."""
    response = error_response(status_code, message, audience)
    response.headers["connection"] = "close"
    raw: bytes = assemble_response(response)
    return raw


def audience_of(context: Context, stream_id: int) -> Audience:
    """Return for whom an error is written; in Anthropic's envelope where none is known."""
    flow = _flow_of(context, stream_id)
    call = None if flow is None else call_of(flow)
    return Audience(connection_of(context.client).envelope) if call is None else Audience(call.protocol, call.audience)


def asks_for_head(context: Context, stream_id: int) -> bool:
    """Return whether a request is a HEAD, whose answer has no body."""
    flow = _flow_of(context, stream_id)
    return flow is not None and flow.request.method == "HEAD"


def _flow_of(context: Context, stream_id: int) -> http.HTTPFlow | None:
    for above in reversed(context.layers):
        if isinstance(above, HttpLayer) and (stream := above.streams.get(stream_id)) is not None:
            return getattr(stream, "flow", None)
    return None


def status_of(event: ResponseProtocolError) -> int | None:
    """Return the status in which an error is told; None for one that is not."""
    # mitmproxy has no code of its own for what takes too long.
    return getattr(event, "status", None) or event.code.http_status_code()
