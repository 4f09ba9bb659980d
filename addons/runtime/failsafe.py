"""Failsafe: passes only what the chain has cleared. Whatever fails before it, no ungoverned request leaves.

It is in mitmproxy's own list of addons, not in the script's, so it outlives a half-saved or deleted gateway.py.
"""

from __future__ import annotations

import logging
from typing import Any

from mitmproxy import ctx, http
from mitmproxy.addonmanager import traverse
from mitmproxy.proxy import server_hooks

from flow import Addon, call_of, connection_of, deny, services
from sluicegate.addresses import normalize_host
from sluicegate.credentials import CREDENTIAL_HEADERS
from sluicegate.values import Deny, Reason

logger = logging.getLogger("sluicegate")

REQUIRED_ADDONS = frozenset(("tunnels", "identity", "egress", "budget", "keys", "audit"))
"""Addons of the chain without which nothing is let through."""


class Failsafe:
    """The last addon: passes what was cleared or is known not to be a call, and refuses everything else."""

    name = "failsafe"
    is_called_after_halt = True
    """An addon that ends a hook for those after it (``AddonHalt``) does not end it for this one."""

    def __init__(self) -> None:
        self.chain: list[Any] = []
        """Our addons at the start, in their order; they settle calls while the chain is unloaded."""

    def running(self) -> None:
        """Remember the chain, before any reload."""
        self.chain = [addon for addon in traverse(ctx.master.addons.chain) if isinstance(addon, Addon)]

    def request(self, flow: http.HTTPFlow) -> None:
        """Refuse a request that is not cleared, or that a layer other than ours has read: its target would be uncertain."""
        if flow.response is not None or flow.error is not None:
            return
        if hasattr(flow.request, "origin_form"):
            call = call_of(flow)
            if call is not None and call.cleared and call.deny is None:
                return
            if call is None and flow.metadata.get("sluicegate") == "egress" and chain_is_loaded():
                return
            if flow.metadata.get("sluicegate") == "admin" and (flow.request.host, flow.request.port) == services().own_servers.get(
                "web"
            ):
                return
        logger.error("A request was not cleared by the chain and is refused")
        self.refuse(flow)

    def response(self, flow: http.HTTPFlow) -> None:
        """End a call whose exchange is over."""
        self.end_call(flow, "response")

    def error(self, flow: http.HTTPFlow) -> None:
        """End a call whose exchange broke off."""
        self.end_call(flow, "error")

    def end_call(self, flow: http.HTTPFlow, hook: str) -> None:
        """Settle and record a call that ends while the chain is not loaded, and free its slot."""
        if call_of(flow) is not None and not chain_is_loaded():
            for addon in self.chain:
                if hasattr(addon, hook):
                    getattr(addon, hook)(flow)

    def http_connect(self, flow: http.HTTPFlow) -> None:
        """Refuse a CONNECT that the chain has not seen."""
        connection = connection_of(flow.client_conn)
        if flow.response is not None or (connection.target is not None and chain_is_loaded()):
            return
        # Clients retry a refused CONNECT for minutes and never show why: answer inside it, where nothing is dialled.
        host = normalize_host(flow.request.host)
        provider = services().policy.provider_of_host(host, flow.request.port)
        if provider is None:
            self.refuse(flow)
        else:
            flow.request.headers.pop("proxy-authorization", None)
            connection.target, connection.provider = (host, flow.request.port), provider.name

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Dial nothing while the chain is not loaded."""
        if data.server.error is None and not chain_is_loaded():
            data.server.error = "the gateway's chain is not loaded"

    def refuse(self, flow: http.HTTPFlow) -> None:
        """Answer 503 whatever state the chain is in."""
        for name in CREDENTIAL_HEADERS:
            flow.request.headers.pop(name, None)
        flow.request.data.path = flow.request.data.path.partition(b"?")[0]
        verdict = Deny(Reason.GATEWAY_ERROR, "The gateway is not able to judge calls right now; nothing was sent")
        try:
            deny(flow, verdict)
        finally:
            if flow.response is None:
                flow.response = http.Response.make(503, b'{"error":{"type":"gateway_error"}}', {"content-type": "application/json"})


def chain_is_loaded() -> bool:
    """Return whether the chain's addons are loaded at this moment."""
    # Asked for each call, so in the place that mitmproxy's own look-up reads, all at once.
    return ctx.master.addons.lookup.keys() >= REQUIRED_ADDONS


addons = [Failsafe()]
