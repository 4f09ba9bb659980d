"""Egress: hosts that are no provider's. Tunnelled without being read, refused where policy says, always on record.

What may be dialled is decided on the resolved address at the moment of dialling, and that very address is dialled.
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

CHALLENGE = 'Basic realm="sluicegate"'


class Traffic:
    """Bytes of one tunnelled connection, and when it began."""

    def __init__(self, started_at: int) -> None:
        self.started_at = started_at
        self.sent = 0
        self.received = 0

    def receive(self, piece: bytes) -> bytes:
        """Count a piece on its way to the client."""
        self.received += len(piece)
        return piece


class Tunnel(layers.TCPLayer):
    """Relays bytes without keeping or showing any, and counts them."""

    def __init__(self, ctx: context.Context, traffic: Traffic) -> None:
        super().__init__(ctx, ignore=True)
        self.traffic = traffic

    def handle_event(self, event: events.Event) -> Generator[commands.Command, Any, None]:
        """mitmproxy: something happened on either side."""
        if isinstance(event, events.DataReceived):
            if event.connection is self.context.client:
                self.traffic.sent += len(event.data)
            else:
                self.traffic.received += len(event.data)
        yield from super().handle_event(event)


class Egress(Addon):
    """Lets through what policy lets through, to addresses nobody can talk it into."""

    traffic: ClassVar[WeakKeyDictionary[Client, Traffic]] = WeakKeyDictionary()
    plain: ClassVar[WeakKeyDictionary[http.HTTPFlow, Traffic]] = WeakKeyDictionary()
    """Both the class's own: a reload of the chain makes another of us while tunnels are open."""

    @enforcing
    def http_connect(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a CONNECT that identity has looked at; a provider's is left to the chain inside it."""
        connection = connection_of(flow.client_conn)
        if connection.target is None:
            deny(flow, Deny(Reason.GATEWAY_ERROR, "The gateway has not seen where this tunnel goes"))
        elif connection.provider is None and self.admitted(flow, connection, *connection.target):
            connection.is_tunnel = True
            connection.approved.add(connection.target)
            self.traffic[flow.client_conn] = Traffic(services().clock())

    @enforcing
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a plain request to another host, named in full."""
        connection = connection_of(flow.client_conn)
        request = flow.request
        if flow.metadata.get("sluicegate") is not None or origin_form(request) or connection.target is not None:
            return
        host = normalize_host(request.host)
        if services().policy.provider_of_host(host, request.port) is not None:
            return
        if self.admitted(flow, connection, host, request.port):
            flow.metadata["sluicegate"] = "egress"
            connection.approved.add((host, request.port))
            self.plain[flow] = Traffic(services().clock())

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: another host answers; it streams by."""
        traffic = self.plain.get(flow)
        if traffic is not None and flow.response is not None:
            flow.response.stream = traffic.receive

    @observing
    def response(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a plain request to another host is over."""
        self.finish(flow, "completed")

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a plain request to another host broke off."""
        self.finish(flow, "failed")

    def finish(self, flow: http.HTTPFlow, outcome: str) -> None:
        """Put a plain request on record as the connection it was."""
        traffic = self.plain.pop(flow, None)
        if traffic is not None:
            traffic.sent = len(flow.request.raw_content or b"")
            request = flow.request
            self.note(
                flow.client_conn,
                connection_of(flow.client_conn),
                normalize_host(request.host),
                request.port,
                outcome,
                None,
                traffic,
            )

    def admitted(self, flow: http.HTTPFlow, connection: ClientConnection, host: str, port: int) -> bool:
        """Whether this host may be reached by this caller; answers the flow if not."""
        egress = services().policy.egress
        source = flow.client_conn.peername[0] if flow.client_conn.peername else ""
        shut = egress.default == "deny" or (is_address(host) and not is_public(host))
        if matches_any(egress.deny, host) or (shut and not matches_any(egress.allow, host)):
            deny(flow, Deny(Reason.BLOCKED_BY_POLICY, f"Policy does not let agents reach {host[:100]}"))
            if flow.response is not None:
                flow.response.status_code, flow.response.reason = 403, "Forbidden"
            self.note(flow.client_conn, connection, host, port, "denied", Reason.BLOCKED_BY_POLICY.value)
            return False
        blocked = connection.key.refusal(services().clock()) if connection.key else None
        if blocked is not None:
            deny(flow, Deny(Reason.VIRTUAL_KEY_BLOCKED, blocked))
            return False
        if connection.key is None and not is_loopback(source):
            deny(
                flow,
                Deny(
                    Reason.VIRTUAL_KEY_REQUIRED,
                    "This proxy asks for a virtual key: put it into the proxy URL as the user",
                ),
            )
            if flow.response is not None:
                flow.response.status_code, flow.response.reason = 407, "Proxy Authentication Required"
                flow.response.headers["proxy-authenticate"] = CHALLENGE
            return False
        return True

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """mitmproxy: what speaks inside a CONNECT. A tunnel is relayed unread; a provider's can only be HTTP."""
        try:
            self.choose_layer(nextlayer)
        except Exception:
            logger.exception("next_layer failed; the connection can only be HTTP")
            nextlayer.layer = layers.HttpLayer(nextlayer.context, HTTPMode.transparent)

    def choose_layer(self, nextlayer: layer.NextLayer) -> None:
        """Set the layer, or leave it to mitmproxy where a provider's client begins TLS."""
        ctx = nextlayer.context
        connection = connection_of(ctx.client)
        if connection.target is None or len(ctx.layers) < 2:
            return
        data = nextlayer.data_client()
        if connection.is_tunnel:
            if self.claims_provider(data):
                # Decrypted after all, so that the request inside can be told why it is refused.
                connection.is_tunnel = False
            else:
                nextlayer.layer = Tunnel(ctx, self.traffic.setdefault(ctx.client, Traffic(services().clock())))
        elif not starts_like_tls_record(data):
            # Whatever is not HTTP fails to parse as it; raw bytes never reach a provider.
            nextlayer.layer = layers.HttpLayer(ctx, HTTPMode.transparent)

    def claims_provider(self, data: bytes) -> bool:
        """Whether a ClientHello or a Host line inside a tunnel names a provider."""
        policy = services().policy
        if starts_like_tls_record(data):
            try:
                hello = parse_client_hello(data)
            except ValueError:
                return False
            return bool(hello and hello.sni and policy.provider_of_host(normalize_host(hello.sni)))
        head = data[:8192].lower()
        return any(f"\nhost: {h}".encode() in head for p in policy.providers.values() for h in p.hosts)

    async def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """mitmproxy: about to dial. A call's connection goes to a provider, any other to an approved, public address."""
        server = data.server
        try:
            server.error = await self.judge(data)
        except Exception:
            logger.exception("server_connect failed; the address is not dialled")
            server.error = "the gateway could not judge this address"

    async def judge(self, data: server_hooks.ServerConnectionHookData) -> str | None:
        """Why an address may not be dialled; pins the one that was checked."""
        shared, connection, server = services(), connection_of(data.client), data.server
        if server.address is None:
            return "no address"
        host, port = normalize_host(server.address[0]), server.address[1]
        if shared.may_dial(server.address[0], port) and not connection.is_tunnel:
            return None
        if (host, port) == connection.web_address:
            return None
        if (host, port) not in connection.approved:
            return "blocked by policy: this address is no provider's"
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            return f"the name {host[:100]} has no address"
        for *_, sockaddr in found:
            address = str(sockaddr[0]).partition("%")[0]
            if not is_public(address) and not (
                matches_any(shared.policy.egress.allow, host) or matches_any(shared.policy.egress.allow, address)
            ):
                return f"blocked by policy: {host[:100]} has an address that agents may not reach; list it under egress.allow"
            if (address, port) in self.own_addresses():
                return "blocked by policy: that is the gateway itself"
        server.address = (str(found[0][4][0]), port)
        return None

    def own_addresses(self) -> set[tuple[str, int]]:
        """Where we listen ourselves."""
        from mitmproxy import ctx

        proxyserver = ctx.master.addons.get("proxyserver")
        found = {(normalize_host(a[0]), a[1]) for a in proxyserver.listen_addrs()} if proxyserver else set()
        return found | ({web} if (web := services().web_address) else set())

    def client_disconnected(self, client: Client) -> None:
        """mitmproxy: a client connection is over; a tunnel becomes one row."""
        traffic, connection = self.traffic.pop(client, None), connection_of(client)
        if traffic is not None:
            self.note(client, connection, *(connection.target or ("", 0)), "completed", None, traffic)

    def note(
        self,
        client: Client,
        connection: ClientConnection,
        host: str,
        port: int,
        outcome: str,
        reason: str | None,
        traffic: Traffic | None = None,
    ) -> None:
        """Put a connection on record."""
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
