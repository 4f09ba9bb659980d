"""Memory: a call's bodies are freed once it has been answered, an upstream connection once it has ended.

mitmproxy opens one upstream connection per call on a client's HTTP/2 connection, keeps its state for as long as the
client stays, and searches all of them at every call: 6 KB and some microseconds more each time.

Its streams are part of reference cycles, so that only the garbage collector can free an answered call: by then hundreds
have gathered, each with its bodies, some megabytes long.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import ClassVar

from mitmproxy import connection
from mitmproxy.proxy import events, layer, server_hooks
from mitmproxy.proxy.layers.http import Http1Client, HttpLayer, HttpStream

from flow import Addon, connection_of

logger = logging.getLogger("sluicegate")

http_layers: dict[str, list[HttpLayer]] = {}
"""By client connection: the HTTP layers above it. Module-level, so that a reload of the chain keeps it."""


class ReleaseMemory(Addon):
    """Cleans up behind mitmproxy's HTTP layers whenever an upstream connection ends."""

    name = "release_memory"

    enabled = True
    ended: ClassVar[dict[str, set[connection.Connection]]] = {}
    """By client: upstream connections that have ended and that a layer still keeps. The class's own, like ``http_layers``."""

    def client_disconnected(self, client: connection.Client) -> None:
        """Forget the client, its layers, and what it has sent."""
        connection_of(client).earlier_body.end()
        http_layers.pop(client.id, None)
        self.ended.pop(client.id, None)

    def server_disconnected(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Drop the upstream connections of this client that have ended."""
        layers = http_layers.get(data.client.id)
        if not ReleaseMemory.enabled or layers is None:
            return
        try:
            ended = self.ended.setdefault(data.client.id, set())
            ended.add(data.server)
            for http in layers:
                drop_connections(http, ended)
            ended.intersection_update(c for http in layers for c in http.connections)
        except Exception:
            give_up()


def give_up() -> None:
    """Log the exception being handled and leave memory to the garbage collector from now on: slower, and no less correct."""
    ReleaseMemory.enabled = False
    logger.exception("Memory of ended calls cannot be freed early with this version of mitmproxy; it will use more of it")


def drop_connections(layer: HttpLayer, ended: Iterable[connection.Connection]) -> None:
    """Drop the connections that have ended and that no stream will use again.

    A closed connection may not be dropped at once: the event that says so may still be queued, and a layer that no longer
    knows the connection would close the client's as well.
    """
    in_use = {layer.context.client, layer.context.server, *(s.context.server for s in layer.streams.values())}
    for over in [c for c in ended if c in layer.connections and c not in in_use]:
        for above in layer.connections.pop(over).context.layers:
            # A connection's layers are a reference cycle, too, and hold their last messages, bodies included.
            if isinstance(above, Http1Client):
                above.request = above.response = None


def release(stream: HttpStream) -> None:
    """Break a stream's reference cycles, so that it and its flow are freed; unless an event can still reach it."""
    if ReleaseMemory.enabled:
        try:
            break_cycles(stream)
        except Exception:
            give_up()


def break_cycles(stream: HttpStream) -> None:
    """Undo a stream's references to itself: its states, which are methods of its own, and its place in its layers.

    Only where no event can reach it: it has been dropped, has no event queued, and no other layer is stacked on it.
    """
    match stream.context.layers:
        case [*_, HttpLayer() as parent, top] if top is stream and parent.streams.get(stream.stream_id) is not stream:
            if not stream._paused_event_queue:
                stream.client_state = stream.server_state = ignore
                stream.context.layers.pop()


def ignore(event: events.Event) -> layer.CommandGenerator[None]:
    """Do nothing with an event; the state of a stream that has ended."""
    yield from ()


addons = [ReleaseMemory()]
