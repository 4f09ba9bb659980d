"""Tunnels: what is spoken inside a CONNECT. A tunnel's first message is judged whole, then its bytes are relayed unread.

Names are what a client claims: an honest one is taken at its word, so that a tunnel to one host carries nothing for a
provider. Where the bytes really go is decided by the address that is dialled (egress.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from typing import Any

from mitmproxy.connection import Client
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import commands, context, events, layer, layers
from mitmproxy.proxy.layers.http import HTTPMode

from flow import Addon, connection_of, record_connection, services
from sluicegate.addresses import normalize_host, split_port
from sluicegate.network.egress.client_hello import HelloError, may_be_http, may_be_tls, read_client_hello, read_http_hosts
from sluicegate.network.egress.connection import ClientConnection, Traffic
from sluicegate.network.egress.judgement import HIDDEN_NAME, HostRefusal, refusal_of_hidden_name, refusal_of_host
from sluicegate.values import Deny, Reason

logger = logging.getLogger("sluicegate")

MISMATCH = "The connection's target is not the provider it claims to be for; nothing was sent"

FIRST_MESSAGE_TIMEOUT_S = 10.0
"""Seconds in which a tunnel's first message must be complete; clients send it at once."""

MAX_FIRST_MESSAGE_BYTES = 64 << 10
"""Bytes of a tunnel's first message; a ClientHello has one or two thousand, a request's head at most a few."""

MAX_PIECES = 2048
"""Pieces in which it may arrive, each of which is judged: one byte at a time would take seconds of our time."""

Commands = Generator[commands.Command, Any, None]


class Tunnel(layers.TCPLayer):
    """Relays bytes without storing or showing them, and counts them."""

    def __init__(self, ctx: context.Context, traffic: Traffic) -> None:
        super().__init__(ctx, ignore=True)
        self.traffic = traffic

    def handle_event(self, event: events.Event) -> Commands:
        """Count the bytes of either side and relay them."""
        if isinstance(event, events.DataReceived):
            if event.connection is self.context.client:
                self.traffic.sent += len(event.data)
            else:
                self.traffic.received += len(event.data)
        yield from super().handle_event(event)


class Refused(Exception):
    """A first message that is not passed on: the connection ends."""


class FirstMessage(layer.Layer):
    """Keeps what a client sends until its first message can be judged, then hands it to the layer that ``choose`` returns.

    ``choose`` gets what has arrived, and returns None while that is not enough. It raises Refused to end the connection;
    ``give_up`` is called where the message is too long or too slow, before the connection ends.
    """

    def __init__(self, ctx: context.Context, choose: Callable[[bytes], layer.Layer | None], give_up: Callable[[str], None]) -> None:
        super().__init__(ctx)
        self.choose, self.give_up = choose, give_up
        self.received, self.pieces = bytearray(), 0
        self.child: layer.Layer | None = None
        self.is_over = False
        self.timer: commands.RequestWakeup | None = None

    def _handle_event(self, event: events.Event) -> Commands:
        """Collect, or pass on to the chosen layer."""
        if isinstance(event, events.Wakeup) and event.command is self.timer:
            if self.child is None:
                yield from self.end(f"its first message was not complete after {FIRST_MESSAGE_TIMEOUT_S:.0f} s")
        elif self.child is not None:
            yield from self.child.handle_event(event)
        elif isinstance(event, events.Start):
            self.timer = commands.RequestWakeup(FIRST_MESSAGE_TIMEOUT_S)
            yield self.timer
        elif isinstance(event, events.DataReceived) and event.connection is self.context.client and not self.is_over:
            self.received += event.data
            self.pieces += 1
            yield from self.judge()
        elif isinstance(event, events.ConnectionClosed):
            self.is_over = True
            yield commands.CloseConnection(self.context.client)

    def judge(self) -> Commands:
        """Choose the next layer and give it what has arrived, or go on waiting."""
        try:
            child = self.choose(bytes(self.received))
        except Refused:
            yield from self.close()
            return
        if child is None:
            if len(self.received) > MAX_FIRST_MESSAGE_BYTES or self.pieces > MAX_PIECES:
                yield from self.end(f"its first message was not complete after {len(self.received)} bytes")
            return
        self.child = child
        yield from child.handle_event(events.Start())
        if self.received:
            yield from child.handle_event(events.DataReceived(self.context.client, bytes(self.received)))
        self.received.clear()

    def end(self, why: str) -> Commands:
        """End a connection whose first message will not be waited for."""
        if not self.is_over:
            self.give_up(why)
            yield from self.close()

    def close(self) -> Commands:
        """Close the connection, and drop what else arrives."""
        self.is_over = True
        self.received.clear()
        yield commands.CloseConnection(self.context.client)


class Tunnels(Addon):
    """Chooses the protocol inside a CONNECT: tunnels are relayed unread, and to a provider only HTTP may be spoken."""

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Set the layer, or leave the choice to mitmproxy where a provider's client begins TLS."""
        try:
            self.choose_layer(nextlayer)
        except Exception:
            logger.exception("next_layer failed; the connection is read as HTTP")
            nextlayer.layer = layers.HttpLayer(nextlayer.context, HTTPMode.transparent)

    def choose_layer(self, nextlayer: layer.NextLayer) -> None:
        """Set the layer of a CONNECT by its first bytes."""
        ctx = nextlayer.context
        connection = connection_of(ctx.client)
        if connection.target is None or len(ctx.layers) < 2:
            return
        data = nextlayer.data_client()
        if connection.tunnel is not None or (len(data) < 3 and may_be_tls(data)):
            nextlayer.layer = FirstMessage(
                ctx,
                lambda received: self.layer_for(ctx, connection, received),
                lambda why: self.end_tunnel(ctx.client, connection, why),
            )
        elif not starts_like_tls_record(data):
            # What is not HTTP fails to parse as HTTP, so raw bytes never reach a provider.
            nextlayer.layer = layers.HttpLayer(ctx, HTTPMode.transparent)

    def layer_for(self, ctx: context.Context, connection: ClientConnection, received: bytes) -> layer.Layer | None:
        """Return the layer for a CONNECT's first bytes; None while more of them are needed. Raises Refused."""
        tunnel = connection.tunnel
        if tunnel is None:
            return layer.NextLayer(ctx) if len(received) >= 3 else None
        try:
            names = self.names_in(connection, received)
            if names is None:
                return None
            refusal = self.refusal_of_names(tunnel, names)
        except HelloError as e:
            self.end_tunnel(ctx.client, connection, f"its ClientHello cannot be judged: {e}")
            raise Refused from e
        if refusal is None:
            return Tunnel(ctx, tunnel)
        # Decrypted after all, so that the request inside can be answered with the reason for its refusal.
        connection.tunnel = None
        connection.refusal = Deny(Reason.BLOCKED_BY_POLICY, refusal.message)
        connection.envelope = refusal.style or "anthropic"
        record_connection(ctx.client, tunnel, "denied", Reason.BLOCKED_BY_POLICY)
        return layer.NextLayer(ctx)

    def names_in(self, connection: ClientConnection, received: bytes) -> list[str] | None:
        """Return the hosts that a tunnel's first message names; None while it is incomplete. Raises HelloError."""
        if may_be_tls(received):
            hello = read_client_hello(received)
            if hello is None:
                return None
            connection.server_name = None if hello.server_name is None else normalize_host(hello.server_name)
            names = [] if hello.server_name is None else [hello.server_name]
            return [*names, HIDDEN_NAME] if hello.is_encrypted else names
        return read_http_hosts(received) if may_be_http(received) else []

    def refusal_of_names(self, tunnel: Traffic, names: list[str]) -> HostRefusal | None:
        """Return why a tunnel may not carry a message that names these hosts; None if it may."""
        policy = services().policy
        for name, port in map(split_port, names):
            provider = policy.provider_of_host(name, port or tunnel.port)
            if provider is not None:
                return HostRefusal(MISMATCH, provider.protocol)
            refusal = None
            if name == HIDDEN_NAME:
                refusal = refusal_of_hidden_name(policy.egress, tunnel.host)
            elif name != tunnel.host:
                refusal = refusal_of_host(policy.egress, name)
            if refusal is not None:
                return refusal
        return None

    def end_tunnel(self, client: Client, connection: ClientConnection, why: str) -> None:
        """Record a tunnel that ends because its first message cannot be judged."""
        tunnel, connection.tunnel = connection.tunnel, None
        if tunnel is not None:
            logger.info("A tunnel to %s was ended: %s", tunnel.host[:100], why)
            record_connection(client, tunnel, "denied", Reason.BLOCKED_BY_POLICY)

    def client_disconnected(self, client: Client) -> None:
        """Record a tunnel whose client has left."""
        connection = connection_of(client)
        tunnel, connection.tunnel = connection.tunnel, None
        if tunnel is not None and tunnel.is_refused:
            record_connection(client, tunnel, "denied", Reason.BLOCKED_BY_POLICY)
        elif tunnel is not None:
            record_connection(client, tunnel, "failed" if tunnel.has_failed else "completed")


addons = [Tunnels()]
