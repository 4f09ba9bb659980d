"""Idle connections: clients that say nothing, and bodies that do not arrive, are ended after a while.

A connection costs a descriptor and a half-sent body its memory; whoever opens many and sends nothing would keep others out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any, ClassVar

from mitmproxy import connection, ctx
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers.http import ErrorCode, HttpStream, ResponseProtocolError

from flow import Addon
from runtime.connections import client_writer, connection_handlers, in_flight, strangers
from runtime.injected_events import wake
from runtime.resources import descriptors
from runtime.resources.release_memory import http_layers

logger = logging.getLogger("sluicegate")

SILENCE_S = 10.0
"""Seconds without a byte after which a client that has made no request yet is ended."""

MAX_HEAD_S = 60.0
"""Seconds a client may take for the head of its first request."""

SPARED_S = 0.5
"""Seconds without a byte after which a connection without a request may be ended to make room for others."""

STALL_S = 30.0
MIN_PROGRESS_BYTES = 32 << 10
"""How much of a request's body must arrive, or all that is left of it, in how many seconds."""

SWEEP_INTERVAL_S = 1.0
SWEEPS_PER_BODY_CHECK = 5


class RequestTimedOut(ResponseProtocolError):
    """The error of a request whose body did not arrive in time."""

    status = 408


class IdleConnections(Addon):
    """Ends what has been silent for too long, and makes room where descriptors run out."""

    name = "idle_connections"

    adopts: ClassVar[bool] = True
    task: ClassVar[asyncio.Task[None] | None] = None
    bodies: ClassVar[dict[HttpStream, tuple[int, float]]] = {}
    """Bodies under way: how much of each had arrived, and since when it has not grown enough."""

    def running(self) -> None:
        """Raise the limit of descriptors, and begin to look after connections."""
        super().running()
        limit = descriptors.raise_limit()
        if warning := descriptors.warning_of(limit):
            logger.warning("%s", warning)
        descriptors.make_room[:] = [self.make_room]
        self.adopt_listeners()
        if IdleConnections.task is None:
            IdleConnections.task = asyncio.get_running_loop().create_task(self.look_after_connections())

    def adopt_listeners(self) -> None:
        """Have all listeners accept in our way; mitmproxy begins to listen elsewhere when its options say so."""
        if not self.adopts:
            return
        try:
            descriptors.adopt(asyncio.get_running_loop(), listening_sockets())
        except (AttributeError, KeyError, TypeError):
            IdleConnections.adopts = False
            logger.warning("Connections are accepted asyncio's own way, which logs a line for each one there is no room for")

    def client_connected(self, client: connection.Client) -> None:
        """Note a client that has not said anything yet."""
        strangers[client.id] = time.monotonic()

    def client_disconnected(self, client: connection.Client) -> None:
        """Forget a client."""
        strangers.pop(client.id, None)

    async def look_after_connections(self) -> None:
        """Look at all connections, again and again."""
        sweeps = 0
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            sweeps += 1
            try:
                self.adopt_listeners()
                self.end_strangers()
                if not sweeps % SWEEPS_PER_BODY_CHECK:
                    self.end_stalled_bodies()
            except Exception:
                logger.exception("Idle connections could not be looked after")

    def end_strangers(self) -> None:
        """End clients that have made no request and are silent, or whose first request takes too long."""
        now = time.monotonic()
        handlers = connection_handlers()
        for client_id, since in list(strangers.items()):
            if now - since < SILENCE_S:
                # They are in the order in which they came.
                break
            handler = handlers.get(client_id)
            if handler is None or now - since > MAX_HEAD_S or silent_s(handler) > SILENCE_S:
                self.end(client_id)

    def make_room(self, count: int) -> None:
        """End so many connections that can be spared: strangers first, the oldest of them first, then idle ones."""
        handlers = connection_handlers()
        quiet = (i for i in [*strangers, *(i for i in handlers if i not in strangers)] if self.can_be_spared(i, handlers))
        for client_id, _ in zip(quiet, range(count), strict=False):
            self.end(client_id)

    def can_be_spared(self, client_id: str, handlers: dict[Any, Any]) -> bool:
        """Return whether a connection has no request under way and has been silent for a moment."""
        handler = handlers.get(client_id)
        if handler is None or client_id in in_flight or silent_s(handler) < SPARED_S:
            return False
        layers = http_layers.get(client_id)
        # Of a tunnel that is not decrypted nothing is known; one that is has its requests in the innermost layer.
        return not layers or not layers[-1].streams

    def end(self, client_id: str) -> None:
        """Close a client's connection."""
        strangers.pop(client_id, None)
        writer = client_writer(connection_handlers().get(client_id))
        if writer is not None:
            writer.transport.abort()

    def end_stalled_bodies(self) -> None:
        """Answer 408 to each request whose body has not grown enough."""
        now = time.monotonic()
        known, seen = self.bodies, dict[HttpStream, tuple[int, float]]()
        for client_id, stream in streams_receiving():
            size = len(stream.request_body_buf) + stream.discarded_bytes
            before, since = known.get(stream, (size, now))
            if size - before >= MIN_PROGRESS_BYTES:
                before, since = size, now
            if now - since > STALL_S:
                time_out(connection_handlers().get(client_id), stream)
            else:
                seen[stream] = before, since
        IdleConnections.bodies = seen


def silent_s(handler: Any) -> float:
    """Return for how many seconds nothing has come or gone on a client's connection, or on those to servers behind it."""
    return time.time() - float(handler.timeout_watchdog.last_activity)


def listening_sockets() -> list[Any]:
    """Return the sockets on which the proxy listens."""
    proxyserver = ctx.master.addons.get("proxyserver")
    return [sock for mode in proxyserver.servers for server in mode._servers for sock in server.sockets] if proxyserver else []


def streams_receiving() -> Iterator[tuple[str, Any]]:
    """Yield the streams whose request's body is still on its way, with their clients' ids."""
    for client_id, layers in list(http_layers.items()):
        for http in layers:
            for stream in list(http.streams.values()):
                if getattr(stream.client_state, "__name__", "") == "state_consume_request_body":
                    yield client_id, stream


class _TimeOut:
    """Stands for a stream where mitmproxy hands it the event that a time is over."""

    def __init__(self, stream: HttpStream) -> None:
        self.stream = stream

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Hand the stream the error in place of the event; what else comes for it is its own."""
        if isinstance(event, events.Wakeup):
            message = f"less than {MIN_PROGRESS_BYTES >> 10} KB of its body arrived in {STALL_S:.0f} s"
            event = RequestTimedOut(self.stream.stream_id, message, ErrorCode.GENERIC_CLIENT_ERROR)
        return self.stream.handle_event(event)


def time_out(handler: Any, stream: HttpStream) -> None:
    """End a stream with an error that its client is told."""
    layers = stream.context.layers
    wake(handler, layers[: layers.index(stream)], _TimeOut(stream))


addons = [IdleConnections()]
