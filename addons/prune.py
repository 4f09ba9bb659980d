"""Prune: a long HTTP/2 connection of a client forgets the upstream connections its calls have finished with.

mitmproxy opens one upstream connection per call there, keeps what it knows of each for as long as the client stays,
and looks through all of them at every call: 6 KB and some microseconds more each time.
"""

from __future__ import annotations

import logging
from typing import ClassVar

from mitmproxy import connection
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import layer, server_hooks
from mitmproxy.proxy.layers.http import HttpLayer

from adapter import Addon

logger = logging.getLogger("sluicegate")


class Prune(Addon):
    """Looks after the layers that keep them, whenever an upstream connection ends."""

    able = True
    layers: ClassVar[dict[str, list[layer.NextLayer]]] = {}
    """The class's own: a reload of the chain makes another of us while connections live on."""

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """mitmproxy: a layer is about to be chosen; it will be found in here."""
        self.layers.setdefault(nextlayer.context.client.id, []).append(nextlayer)

    def client_disconnected(self, client: connection.Client) -> None:
        """mitmproxy: the client has left, and its layers with it."""
        self.layers.pop(client.id, None)

    def server_disconnected(self, data: server_hooks.ServerConnectionHookData) -> None:
        """mitmproxy: an upstream connection is over."""
        if not self.able:
            return
        try:
            for asked in self.layers.get(data.client.id, ()):
                if isinstance(asked.layer, HttpLayer):
                    forget_closed(asked.layer)
        except Exception:
            self.able = False
            logger.exception("mitmproxy keeps its connections differently; long HTTP/2 connections will take more memory")


def forget_closed(layer: HttpLayer) -> None:
    """Drop the connections that have ended and that no stream will speak of again.

    One that is still being opened is closed as well, but has no end yet: its first bytes must find it here.
    """
    kept = {layer.context.client, layer.context.server, *layer.waiting_for_establishment}
    kept.update(s.context.server for s in layer.streams.values())
    for ended in [c for c in layer.connections if c.timestamp_end is not None and c.state is ConnectionState.CLOSED]:
        if ended not in kept:
            del layer.connections[ended]


addons = [Prune()]
