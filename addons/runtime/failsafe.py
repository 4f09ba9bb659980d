"""The last gate: passes only what the chain has cleared. Whatever goes wrong before it, nothing ungoverned leaves.

It stands in mitmproxy's own list of addons, not in the script's, so it outlives a half-saved or deleted gateway.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mitmproxy import ctx, http
from mitmproxy.proxy import server_hooks
from mitmproxy.proxy.layers.http import _base, _http1

from flow import CREDENTIAL_HEADERS, call_of, connection_of, deny, services
from sluicegate.addresses import normalize_host
from sluicegate.providers import PROVIDERS
from sluicegate.values import Deny, Reason

logger = logging.getLogger("sluicegate")

ENDERS = ("shutdown", "meter", "ratelimit", "budget", "keys", "content", "audit", "live")
"""Who has a part in the end of a call, in the chain's order."""


class Failsafe:
    """Stands in mitmproxy's own chain, behind ours. Passes what was cleared or is known to be no call; refuses all else."""

    name = "failsafe"

    def __init__(self) -> None:
        self.enders: list[Any] = []

    def running(self) -> None:
        """mitmproxy: we have been added to a running proxy."""
        speak_json()
        self.enders = [addon for name in ENDERS if (addon := ctx.master.addons.get(name)) is not None]

    def request(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the request is about to leave."""
        if flow.response is not None or flow.error is not None:
            return
        call = call_of(flow)
        if call is not None and call.cleared and call.deny is None:
            return
        if call is None and flow.metadata.get("sluicegate") == "egress" and chain_stands():
            return
        if flow.metadata.get("sluicegate") == "admin" and (flow.request.host, flow.request.port) == services().web_address:
            return
        logger.error("a request was not cleared by the chain and is refused")
        self.refuse(flow)

    def response(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: an exchange is over."""
        self.conclude(flow, "response")

    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: an exchange broke off."""
        self.conclude(flow, "error")

    def conclude(self, flow: http.HTTPFlow, hook: str) -> None:
        """A call that ends while the chain is not loaded is settled and recorded all the same, and its slot is free."""
        if call_of(flow) is not None and not chain_stands():
            for addon in self.enders:
                if hasattr(addon, hook):
                    getattr(addon, hook)(flow)

    def http_connect(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a CONNECT is about to be accepted."""
        connection = connection_of(flow.client_conn)
        if flow.response is not None or (connection.target is not None and chain_stands()):
            return
        # A refused CONNECT is retried for minutes and its words are never shown: answer inside, where nothing is dialled.
        host = normalize_host(flow.request.host)
        provider = services().policy.provider_of_host(host, flow.request.port)
        if provider is None:
            self.refuse(flow)
        else:
            flow.request.headers.pop("proxy-authorization", None)
            connection.target, connection.provider = (host, flow.request.port), provider.name

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """mitmproxy: an address is about to be dialled."""
        if data.server.error is None and not chain_stands():
            data.server.error = "the gateway's chain is not loaded"

    def refuse(self, flow: http.HTTPFlow) -> None:
        """Answer 503 whatever state the chain is in."""
        for name in CREDENTIAL_HEADERS:
            flow.request.headers.pop(name, None)
        verdict = Deny(Reason.GATEWAY_ERROR, "The gateway is not able to judge calls right now; nothing was sent")
        try:
            deny(flow, verdict)
        finally:
            if flow.response is None:
                flow.response = http.Response.make(503, b'{"error":{"type":"gateway_error"}}', {"content-type": "application/json"})


def chain_stands() -> bool:
    """Whether the chain's addons are loaded at this moment."""
    return all(ctx.master.addons.get(name) is not None for name in ("identity", "egress", "budget", "keys", "audit"))


BLOCKED = "blocked by policy: "
"""How egress begins the reason for which an address was not dialled."""


def explained(status: int, message: str) -> str:
    """mitmproxy's error message in words for the person whose call it was."""
    if BLOCKED in message:
        return "Blocked by policy: " + message.rpartition(BLOCKED)[2][:400]
    what = {502: "The provider cannot be reached", 413: "The request is too large"}.get(status, "The request failed")
    return f"{what}: {message}"[:500]


def speak_json() -> None:
    """Let mitmproxy's own errors (provider unreachable, body too large) be JSON that agents can show, not HTML."""
    stock: Callable[[int, str], bytes] | None = getattr(_base, "format_error", None)
    make: Callable[..., bytes] | None = getattr(_http1, "make_error_response", None)
    if stock is None or make is None:
        logger.warning("mitmproxy's error pages are not where they were; its errors stay HTML")
        return

    def words(status: int, message: str) -> bytes:
        return PROVIDERS["anthropic"].error_body("api_error", explained(status, message), status)

    def answer(status_code: int, message: str = "") -> bytes:
        body = words(status_code, message)
        reason = "blocked_by_policy" if BLOCKED in message else "provider_unreachable" if status_code == 502 else "invalid_request"
        head = [
            f"HTTP/1.1 {status_code} {http.status_codes.RESPONSES.get(status_code, 'Error')}",
            "content-type: application/json",
            "x-should-retry: false",
            f"x-sluicegate-reason: {reason}",
            "connection: close",
            f"content-length: {len(body)}",
        ]
        return "\r\n".join([*head, "", ""]).encode() + body

    _http1.make_error_response = answer
    _base.format_error = words  # type: ignore[assignment]


addons = [Failsafe()]
