"""Prune: a long HTTP/2 connection of a client forgets the upstream connections its calls have finished with.

mitmproxy opens one upstream connection per call there, keeps what it knows of each for as long as the client stays,
and looks through all of them at every call: 6 KB and some microseconds more each time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import ClassVar

from mitmproxy import connection
from mitmproxy.proxy import layer, server_hooks
from mitmproxy.proxy.layers.http import HttpLayer

from adapter import Addon

logger = logging.getLogger("sluicegate")


class Prune(Addon):
    """Looks after the layers that keep them, whenever an upstream connection ends."""

    able = True
    layers: ClassVar[dict[str, list[layer.NextLayer]]] = {}
    over: ClassVar[dict[str, set[connection.Connection]]] = {}
    """By client: upstream connections of which mitmproxy has heard the last, and that are still kept. All the class's own:
    a reload of the chain makes another of us while connections live on."""

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """mitmproxy: a layer is about to be chosen; it will be found in here."""
        self.layers.setdefault(nextlayer.context.client.id, []).append(nextlayer)

    def client_disconnected(self, client: connection.Client) -> None:
        """mitmproxy: the client has left, and its layers with it."""
        self.layers.pop(client.id, None)
        self.over.pop(client.id, None)

    def server_disconnected(self, data: server_hooks.ServerConnectionHookData) -> None:
        """mitmproxy: an upstream connection is over."""
        if not self.able:
            return
        try:
            over = self.over.setdefault(data.client.id, set())
            over.add(data.server)
            found = [asked.layer for asked in self.layers.get(data.client.id, ()) if isinstance(asked.layer, HttpLayer)]
            for http in found:
                forget(http, over)
            over.intersection_update(c for http in found for c in http.connections)
        except Exception:
            self.able = False
            logger.exception("mitmproxy keeps its connections differently; long HTTP/2 connections will take more memory")


def forget(layer: HttpLayer, over: Iterable[connection.Connection]) -> None:
    """Drop the connections that are over and that no stream will speak of again.

    Being closed is not enough: the news of that may still be on its way, and a layer that does not know the connection
    any more would take the client's down with it.
    """
    kept = {layer.context.client, layer.context.server, *(s.context.server for s in layer.streams.values())}
    for gone in [c for c in over if c in layer.connections and c not in kept]:
        del layer.connections[gone]


addons = [Prune()]
