"""Egress: hosts of no provider. They are tunnelled unread or refused as policy says, and always recorded.

Whether an address may be dialled is decided on the resolved address at the moment of dialling, and that very address is
dialled: a name that resolves differently the second time gains nothing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Generator
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import commands, context, events, layer, layers, server_hooks
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.tls import parse_client_hello

from flow import Addon, ClientConnection, connection_of, deny, enforcing, observing, origin_form, services
from sluicegate.addresses import is_address, is_loopback, is_public, matches_any, normalize_host
from sluicegate.values import Deny, Reason
from sluicegate.windows import iso

logger = logging.getLogger("sluicegate")

PROXY_CHALLENGE = 'Basic realm="sluicegate"'

MAX_HEAD_BYTES = 8192
"""Bytes at the start of a tunnel that are searched for a Host line."""


class Traffic:
    """The bytes of one connection to another host, and when it began."""

    def __init__(self, started_at: int) -> None:
        self.started_at = started_at
        self.sent = 0
        self.received = 0

    def receive(self, chunk: bytes) -> bytes:
        """Count a chunk on its way to the client."""
        self.received += len(chunk)
        return chunk


class Tunnel(layers.TCPLayer):
    """Relays bytes without storing or showing them, and counts them."""

    def __init__(self, ctx: context.Context, traffic: Traffic) -> None:
        super().__init__(ctx, ignore=True)
        self.traffic = traffic

    def handle_event(self, event: events.Event) -> Generator[commands.Command, Any, None]:
        """Count the bytes of either side and relay them."""
        if isinstance(event, events.DataReceived):
            if event.connection is self.context.client:
                self.traffic.sent += len(event.data)
            else:
                self.traffic.received += len(event.data)
        yield from super().handle_event(event)


class Egress(Addon):
    """Lets agents reach the hosts that policy admits, at public or listed addresses only."""

    # Attributes of the class: a reload of the chain makes a new instance while connections are open.
    tunnels: ClassVar[WeakKeyDictionary[Client, Traffic]] = WeakKeyDictionary()
    """Tunnelled connections."""
    plain: ClassVar[WeakKeyDictionary[http.HTTPFlow, Traffic]] = WeakKeyDictionary()
    """Plain HTTP requests to other hosts, sent with an absolute URI."""

    @enforcing
    def http_connect(self, flow: http.HTTPFlow) -> None:
        """Judge a CONNECT to the target that identity has noted; calls inside one to a provider are judged by the chain."""
        connection = connection_of(flow.client_conn)
        if connection.target is None:
            deny(flow, Deny(Reason.GATEWAY_ERROR, "The gateway has not seen where this tunnel goes"))
        elif connection.provider is None and self.admit(flow, connection, *connection.target):
            connection.is_tunnel = True
            connection.approved.add(connection.target)
            self.tunnels[flow.client_conn] = Traffic(services().clock())

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
            connection.approved.add((host, request.port))
            self.plain[flow] = Traffic(services().clock())

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
            request = flow.request
            self.record_connection(
                flow.client_conn,
                connection_of(flow.client_conn),
                normalize_host(request.host),
                request.port,
                "failed" if flow.error else "completed",
                None,
                traffic,
            )

    def admit(self, flow: http.HTTPFlow, connection: ClientConnection, host: str, port: int) -> bool:
        """Return whether this caller may reach this host; refuse the flow if not."""
        egress = services().policy.egress
        source = flow.client_conn.peername[0] if flow.client_conn.peername else ""
        needs_listing = egress.default == "deny" or (is_address(host) and not is_public(host))
        if matches_any(egress.deny, host) or (needs_listing and not matches_any(egress.allow, host)):
            deny(flow, Deny(Reason.BLOCKED_BY_POLICY, f"Policy does not let agents reach {host[:100]}"))
            if flow.response is not None:
                flow.response.status_code, flow.response.reason = 403, "Forbidden"
            self.record_connection(flow.client_conn, connection, host, port, "denied", Reason.BLOCKED_BY_POLICY.value)
            return False
        blocked = connection.key.refusal(services().clock()) if connection.key else None
        if blocked is not None:
            deny(flow, Deny(Reason.VIRTUAL_KEY_BLOCKED, blocked))
            return False
        if connection.key is None and not is_loopback(source):
            message = "This proxy asks for a virtual key: put it into the proxy URL as the user"
            deny(flow, Deny(Reason.VIRTUAL_KEY_REQUIRED, message))
            if flow.response is not None:
                flow.response.status_code, flow.response.reason = 407, "Proxy Authentication Required"
                flow.response.headers["proxy-authenticate"] = PROXY_CHALLENGE
            return False
        return True

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Choose the protocol inside a CONNECT: tunnels are relayed unread, and to a provider only HTTP may be spoken."""
        try:
            self.choose_layer(nextlayer)
        except Exception:
            logger.exception("next_layer failed; the connection is read as HTTP")
            nextlayer.layer = layers.HttpLayer(nextlayer.context, HTTPMode.transparent)

    def choose_layer(self, nextlayer: layer.NextLayer) -> None:
        """Set the layer, or leave the choice to mitmproxy where a provider's client begins TLS."""
        ctx = nextlayer.context
        connection = connection_of(ctx.client)
        if connection.target is None or len(ctx.layers) < 2:
            return
        data = nextlayer.data_client()
        if connection.is_tunnel:
            if self.claims_provider(data):
                # Decrypted after all, so that the request inside can be answered with the reason for its refusal.
                connection.is_tunnel = False
            else:
                nextlayer.layer = Tunnel(ctx, self.tunnels.setdefault(ctx.client, Traffic(services().clock())))
        elif not starts_like_tls_record(data):
            # What is not HTTP fails to parse as HTTP, so raw bytes never reach a provider.
            nextlayer.layer = layers.HttpLayer(ctx, HTTPMode.transparent)

    def claims_provider(self, data: bytes) -> bool:
        """Return whether a ClientHello or a Host line inside a tunnel names a provider."""
        policy = services().policy
        if starts_like_tls_record(data):
            try:
                hello = parse_client_hello(data)
            except ValueError:
                return False
            return bool(hello and hello.sni and policy.provider_of_host(normalize_host(hello.sni)))
        head = data[:MAX_HEAD_BYTES].lower()
        return any(f"\nhost: {h}".encode() in head for p in policy.providers.values() for h in p.hosts)

    async def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Check an address before it is dialled: a provider's for a call, else one that is approved, and public or listed."""
        server = data.server
        try:
            server.error = await self.check_address(data)
        except Exception:
            logger.exception("server_connect failed; the address is not dialled")
            server.error = "the gateway could not judge this address"

    async def check_address(self, data: server_hooks.ServerConnectionHookData) -> str | None:
        """Return why an address may not be dialled; None if it may, and then the resolved address is the one dialled."""
        shared, connection, server = services(), connection_of(data.client), data.server
        if server.address is None:
            return "no address"
        host, port = normalize_host(server.address[0]), server.address[1]
        # Not inside a tunnel: its bytes are relayed unread, so they would reach the provider unjudged.
        if shared.may_dial(server.address[0], port) and not connection.is_tunnel:
            return None
        if (host, port) == connection.web_address:
            return None
        if (host, port) not in connection.approved:
            return "blocked by policy: this address belongs to no provider"
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            return f"the name {host[:100]} has no address"
        # Every address is checked, because a name may resolve to a public and a private one.
        for *_, sockaddr in found:
            address = str(sockaddr[0]).partition("%")[0]
            if not is_public(address) and not (
                matches_any(shared.policy.egress.allow, host) or matches_any(shared.policy.egress.allow, address)
            ):
                return f"blocked by policy: {host[:100]} has an address that agents may not reach; list it under egress.allow"
            if (address, port) in self.own_addresses():
                return "blocked by policy: this is an address of the gateway itself"
        # Dial the address that was checked: by name, mitmproxy would resolve it once more.
        server.address = (str(found[0][4][0]), port)
        return None

    def own_addresses(self) -> set[tuple[str, int]]:
        """Return the addresses the gateway itself listens on."""
        from mitmproxy import ctx

        proxyserver = ctx.master.addons.get("proxyserver")
        found = {(normalize_host(a[0]), a[1]) for a in proxyserver.listen_addrs()} if proxyserver else set()
        return found | ({web} if (web := services().web_address) else set())

    def client_disconnected(self, client: Client) -> None:
        """Record a tunnel whose client has left."""
        traffic, connection = self.tunnels.pop(client, None), connection_of(client)
        if traffic is not None:
            self.record_connection(client, connection, *(connection.target or ("", 0)), "completed", None, traffic)

    def record_connection(
        self,
        client: Client,
        connection: ClientConnection,
        host: str,
        port: int,
        outcome: str,
        reason: str | None,
        traffic: Traffic | None = None,
    ) -> None:
        """Record a connection to another host."""
        shared = services()
        now = shared.clock()
        began = traffic.started_at if traffic else now
        shared.writer.record_connection(
            {
                "id": f"conn_{began:012x}{secrets.token_hex(6)}",
                "started_at": iso(began),
                "latency_ms": max(0, now - began),
                "virtual_key_id": connection.key.id if connection.key else None,
                "user_id": connection.key.user_id if connection.key else None,
                "source": client.peername[0] if client.peername else None,
                "host": host[:253],
                "port": port,
                "request_bytes": traffic.sent if traffic else 0,
                "response_bytes": traffic.received if traffic else 0,
                "outcome": outcome,
                "reason": reason,
            }
        )
        shared.writer.flush_soon(0.5)


addons = [Egress()]
