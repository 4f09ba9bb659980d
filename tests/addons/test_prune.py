"""Prune: what is over is forgotten, and nothing sooner."""

from __future__ import annotations

from types import SimpleNamespace

from mitmproxy.proxy.layers.http import HttpLayer
from mitmproxy.test import tflow

from prune import Prune, forget


def http_layer(client, *servers, spoken_of=()):
    made = HttpLayer.__new__(HttpLayer)
    made.context = SimpleNamespace(client=client, server=servers[0])
    made.connections = dict.fromkeys((client, *servers))
    made.streams = {i: SimpleNamespace(context=SimpleNamespace(server=s)) for i, s in enumerate(spoken_of)}
    return made


def test_only_connections_whose_end_has_been_told_and_that_no_stream_uses_are_forgotten():
    client, own, over, used, open_ = tflow.tclient_conn(), *(tflow.tserver_conn() for _ in range(4))
    layer = http_layer(client, own, over, used, open_, spoken_of=[used])
    forget(layer, {over, used, own})
    assert set(layer.connections) == {client, own, used, open_}


def test_one_that_a_stream_still_used_is_forgotten_with_the_next():
    prune, client = Prune(), tflow.tclient_conn()
    own, first, second = (tflow.tserver_conn() for _ in range(3))
    layer = http_layer(client, own, first, second, spoken_of=[first])
    prune.layers[client.id] = [SimpleNamespace(layer=layer)]
    prune.server_disconnected(SimpleNamespace(client=client, server=first))
    assert first in layer.connections
    layer.streams.clear()
    prune.server_disconnected(SimpleNamespace(client=client, server=second))
    assert set(layer.connections) == {client, own}
    assert prune.over[client.id] == set()
    prune.client_disconnected(client)
    assert (prune.layers, prune.over) == ({}, {})
