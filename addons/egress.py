"""Egress: hosts of no provider. They are tunnelled unread or refused as policy says, and always recorded.

Whether an address may be dialled is decided on the resolved address at the moment of dialling, and that very address is
dialled: a name that resolves differently the second time gains nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import ClassVar
from weakref import WeakKeyDictionary

from mitmproxy import http
from mitmproxy.net.http.url import hostport
from mitmproxy.proxy import server_hooks

from flow import Addon, connection_of, deny, enforcing, observing, origin_form, record_connection, services, source_of
from sluicegate.addresses import is_address, normalize_host
from sluicegate.calls.unknown_caller import refusal_at_proxy
from sluicegate.network.egress.connection import ClientConnection, Traffic, remember
from sluicegate.network.egress.dialling import Dialling, DialRefused
from sluicegate.network.egress.judgement import HostRefusal, refusal_of_host
from sluicegate.network.egress.resolver import ResolveError
from sluicegate.policy.source import refusal_of_copy
from sluicegate.values import Deny, Reason

logger = logging.getLogger("sluicegate")

PROXY_CHALLENGE = 'Basic realm="sluicegate"'


class Egress(Addon):
    """Lets agents reach the hosts that policy admits, at public or listed addresses only."""

    marks: ClassVar[dict[str, str]] = dict.fromkeys(("request", "responseheaders", "response", "error"), "sluicegate_egress")
    # Attributes of the class: a reload of the chain makes a new instance while connections are open.
    plain: ClassVar[WeakKeyDictionary[http.HTTPFlow, Traffic]] = WeakKeyDictionary()
    """Plain HTTP requests to other hosts, sent with an absolute URI."""
    dialling: ClassVar[Dialling] = Dialling(lambda: services().clock())

    @enforcing
    def http_connect(self, flow: http.HTTPFlow) -> None:
        """Judge a CONNECT to the target that identity has noted; calls inside one to a provider are judged by the chain."""
        connection = connection_of(flow.client_conn)
        if connection.target is None:
            deny(flow, Deny(Reason.GATEWAY_ERROR, "The gateway has not seen where this tunnel goes"))
        elif connection.provider is None and self.admit(flow, connection, *connection.target):
            remember(connection.approved, connection.target)
            connection.tunnel = Traffic(services().clock(), *connection.target)

    @enforcing
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Judge a plain HTTP request whose absolute URI names another host."""
        connection = connection_of(flow.client_conn)
        request = flow.request
        if flow.metadata.get("sluicegate") is not None or origin_form(request) or connection.target is not None:
            return
        host = normalize_host(request.host)
        if services().policy.provider_of_host(host, request.port) is not None:
            return
        if self.admit(flow, connection, host, request.port):
            flow.metadata["sluicegate"] = "egress"
            if not request.is_http2:
                # As RFC 9112, 3.2.2, wants it: what was judged is the target, and a server at its address may have other names.
                request.headers["host"] = hostport(request.scheme, request.data.host, request.port)
            self.plain[flow] = Traffic(services().clock(), host, request.port)
            flow.sluicegate_egress = True  # type: ignore[attr-defined]

    @enforcing
    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Direct a plain HTTP request to an address of its host that has been judged.

        Here and not when it is dialled: mitmproxy knows an open connection by the address that the request asks for, and
        would open another one for each request, until it waits for one of them to close.
        """
        traffic = self.plain.get(flow)
        return self.direct(flow, traffic) if traffic is not None else None

    async def direct(self, flow: http.HTTPFlow, traffic: Traffic) -> None:
        """Direct it to such an address, or refuse it."""
        try:
            address = await self.judged_address(connection_of(flow.client_conn), traffic.host, traffic.port)
        except (DialRefused, ResolveError) as e:
            traffic.is_refused, message = True, str(e)
            deny(flow, Deny(Reason.BLOCKED_BY_POLICY, message[0].upper() + message[1:]))
            if flow.response is not None:
                refused = isinstance(e, DialRefused)
                flow.response.status_code, flow.response.reason = (403, "Forbidden") if refused else (502, "Bad Gateway")
            return
        # Set on the data itself: the setter would rewrite the Host header.
        flow.request.data.host = address

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Stream another host's answer."""
        traffic = self.plain.get(flow)
        if traffic is not None and flow.response is not None:
            flow.response.stream = traffic.receive

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Record a plain request to another host, as a connection."""
        traffic = self.plain.pop(flow, None)
        if traffic is not None:
            traffic.sent = len(flow.request.raw_content or b"")
            if traffic.is_refused:
                record_connection(flow.client_conn, traffic, "denied", Reason.BLOCKED_BY_POLICY)
            else:
                record_connection(flow.client_conn, traffic, "failed" if flow.error else "completed")

    def admit(self, flow: http.HTTPFlow, connection: ClientConnection, host: str, port: int) -> bool:
        """Return whether this caller may reach this host; if not, refuse the flow, or what will be sent inside it."""
        policy = services().policy
        if (unconfirmed := refusal_of_copy(services().policy_watcher.source)) is not None:
            deny(flow, unconfirmed)
            return False
        egress = policy.egress
        refusal = refusal_of_host(egress, host)
        if refusal is not None:
            self.refuse_host(flow, connection, host, port, refusal)
            return False
        blocked = connection.key.refusal(services().clock()) if connection.key else None
        if blocked is not None:
            deny(flow, Deny(Reason.VIRTUAL_KEY_BLOCKED, blocked))
            return False
        if connection.key is None and (egress.require_key or not policy.server.trusts(source_of(flow))):
            deny(flow, refusal_at_proxy(has_credential=connection.sent_credential))
            if flow.response is not None:
                flow.response.status_code, flow.response.reason = 407, "Proxy Authentication Required"
                flow.response.headers["proxy-authenticate"] = PROXY_CHALLENGE
            return False
        return True

    def refuse_host(self, flow: http.HTTPFlow, connection: ClientConnection, host: str, port: int, refusal: HostRefusal) -> None:
        """Refuse a flow because of the host it is for. A tunnel to a model API is opened, so that its client shows the reason."""
        verdict = Deny(Reason.BLOCKED_BY_POLICY, refusal.message)
        connection.envelope = refusal.style or "anthropic"
        if refusal.style is not None and flow.request.method == "CONNECT":
            connection.refusal = verdict
        else:
            deny(flow, verdict)
            if refusal.style is None and flow.response is not None:
                flow.response.status_code, flow.response.reason = 403, "Forbidden"
        record_connection(flow.client_conn, Traffic(services().clock(), host, port), "denied", Reason.BLOCKED_BY_POLICY)

    async def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Check an address before it is dialled: a provider's for a call, else one that is approved, and public or listed."""
        server = data.server
        try:
            server.error = await self.check_address(data)
        except Exception:
            logger.exception("server_connect failed; the address is not dialled")
            server.error = "the gateway could not judge this address"

    @observing
    def server_connect_error(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Note that a tunnel's server could not be reached: its client sees nothing but the end."""
        tunnel = connection_of(data.client).tunnel
        if tunnel is not None:
            tunnel.has_failed = True
            log_unopened(tunnel, str(data.server.error))

    async def check_address(self, data: server_hooks.ServerConnectionHookData) -> str | None:
        """Return why an address may not be dialled; None if it may, and then the judged address is the one dialled."""
        shared, connection, server = services(), connection_of(data.client), data.server
        if server.address is None:
            return "no address"
        host, port = normalize_host(server.address[0]), server.address[1]
        # Not inside a tunnel: its bytes are relayed unread, so they would reach the provider unjudged.
        if shared.may_dial(server.address[0], port) and connection.tunnel is None:
            return await self.dialling.refusal_of_loop(host, port, self.own_ports())
        if (host, port) in connection.own_servers or (connection.tunnel is None and (host, port) in connection.judged):
            return None
        if (host, port) not in connection.approved:
            return "blocked by policy: this address belongs to no provider"
        try:
            address = await self.judged_address(connection, host, port)
        except (DialRefused, ResolveError) as e:
            if connection.tunnel is not None:
                connection.tunnel.is_refused = True
                log_unopened(connection.tunnel, str(e))
            return str(e)
        # Dial the address that was judged: by name, mitmproxy would resolve it once more.
        server.address = (address, port)
        return None

    async def judged_address(self, connection: ClientConnection, host: str, port: int) -> str:
        """Return what to dial for an approved host, remembered as judged: its address, or its name where a proxy dials it.

        Raises DialRefused or ResolveError.
        """
        name, ports = connection.server_name, self.own_ports()
        if services().outbound.proxy_for(host, port) is not None and not await self.is_resolved(host, port):
            # Networks with a proxy often resolve no names of the internet: the proxy does. An address is judged in any case.
            remember(connection.judged, (host, port))
            return host
        address = await self.dialling.address(services().policy, host, port, own_ports=ports, server_name=name)
        if services().may_dial(address, port):
            # The simulator that stands in for a provider.
            raise DialRefused("blocked by policy: this is an address of the gateway itself")
        if services().outbound.proxy_for(host, port) is not None:
            address = host
        remember(connection.judged, (normalize_host(address), port))
        return address

    async def is_resolved(self, host: str, port: int) -> bool:
        """Return whether this machine knows an address of a host."""
        return is_address(host) or await self.dialling.is_resolved(host, port)

    def own_ports(self) -> set[int]:
        """Return the ports on which the gateway itself listens."""
        from mitmproxy import ctx

        proxyserver = ctx.master.addons.get("proxyserver")
        found = {address[1] for address in proxyserver.listen_addrs()} if proxyserver else set()
        return found | {address[1] for address in services().own_servers.values()}


def log_unopened(tunnel: Traffic, why: str) -> None:
    """Tell the operator why a tunnel goes nowhere: its client has been answered 200 and sees nothing but the end."""
    logger.warning("A tunnel to %s:%d was not opened: %s", tunnel.host[:100], tunnel.port, why[:300])


addons = [Egress()]
