"""ReleaseMemory: what is over is forgotten: a call's bodies once it has been answered, an upstream connection once it has ended.

mitmproxy opens one upstream connection per call of a client's HTTP/2 connection, keeps what it knows of each for as
long as the client stays, and looks through all of them at every call: 6 KB and some microseconds more each time.

Its streams hold themselves, so that only the collector can free an answered call: by then hundreds have gathered, each
with its bodies, some megabytes long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import ClassVar

from mitmproxy import connection
from mitmproxy.proxy import events, layer, server_hooks
from mitmproxy.proxy.layers.http import Http1Client, HttpLayer, HttpStream

from flow import Addon

logger = logging.getLogger("sluicegate")


class ReleaseMemory(Addon):
    """Looks after the layers that keep them, whenever an upstream connection ends."""

    able = True
    layers: ClassVar[dict[str, list[layer.NextLayer]]] = {}
    over: ClassVar[dict[str, set[connection.Connection]]] = {}
    """By client: upstream connections of which mitmproxy has heard the last, and that are still kept. All the class's own:
    a reload of the chain makes another of us while connections live on."""

    def running(self) -> None:
        """mitmproxy: the proxy is up."""
        super().running()
        let_streams_go()

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """mitmproxy: a layer is about to be chosen; it will be found in here."""
        self.layers.setdefault(nextlayer.context.client.id, []).append(nextlayer)

    def client_disconnected(self, client: connection.Client) -> None:
        """mitmproxy: the client has left, and its layers with it."""
        self.layers.pop(client.id, None)
        self.over.pop(client.id, None)

    def server_disconnected(self, data: server_hooks.ServerConnectionHookData) -> None:
        """mitmproxy: an upstream connection is over."""
        asked = self.layers.get(data.client.id)
        if not ReleaseMemory.able or asked is None:
            return
        try:
            over = self.over.setdefault(data.client.id, set())
            over.add(data.server)
            found = [a.layer for a in asked if isinstance(a.layer, HttpLayer)]
            for http in found:
                forget(http, over)
            over.intersection_update(c for http in found for c in http.connections)
        except Exception:
            ReleaseMemory.able = False
            logger.exception("mitmproxy keeps its connections differently; long HTTP/2 connections will take more memory")


def forget(layer: HttpLayer, over: Iterable[connection.Connection]) -> None:
    """Drop the connections that are over and that no stream will speak of again.

    Being closed is not enough: the news of that may still be on its way, and a layer that does not know the connection
    any more would take the client's down with it.
    """
    kept = {layer.context.client, layer.context.server, *(s.context.server for s in layer.streams.values())}
    for gone in [c for c in over if c in layer.connections and c not in kept]:
        for above in layer.connections.pop(gone).context.layers:
            # A connection's layers hold themselves, too, and what they spoke of last, bodies included.
            if isinstance(above, Http1Client):
                above.request = above.response = None


ENDINGS = ("flow_done", "handle_protocol_error")
"""Where mitmproxy's streams end, well or badly."""


def let_streams_go() -> None:
    """Let streams be freed when they end, each with its flow unless somebody else holds that."""
    for name in ENDINGS:
        stock = getattr(HttpStream, name, None)
        if stock is None:
            logger.warning("mitmproxy ends its streams differently (%s); calls stay in memory until they are collected", name)
        elif not getattr(stock, "lets_go", False):
            setattr(HttpStream, name, and_let_go(stock))


def and_let_go(stock: Callable[..., layer.CommandGenerator[None]]) -> Callable[..., layer.CommandGenerator[None]]:
    """An ending of streams after which the stream no longer holds itself."""

    def ending(stream: HttpStream, *event: events.Event) -> layer.CommandGenerator[None]:
        yield from stock(stream, *event)
        if ReleaseMemory.able:
            try:
                let_go(stream)
            except Exception:
                ReleaseMemory.able = False
                logger.exception("mitmproxy keeps its streams differently; calls will take more memory")

    ending.lets_go = True  # type: ignore[attr-defined]
    return ending


def let_go(stream: HttpStream) -> None:
    """Undo what a stream has of itself: what it would do with its next event, and its place in its list of layers.

    Only where no event can reach it: it has been dropped, has nothing left to look at, and no other layer above it.
    """
    match stream.context.layers:
        case [*_, HttpLayer() as parent, top] if top is stream and parent.streams.get(stream.stream_id) is not stream:
            if not stream._paused_event_queue:
                stream.client_state = stream.server_state = nothing
                stream.context.layers.pop()


def nothing(event: events.Event) -> layer.CommandGenerator[None]:
    """What a stream does that is over."""
    yield from ()


addons = [ReleaseMemory()]
