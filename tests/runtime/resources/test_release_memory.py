"""What has ended is freed, and nothing sooner."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

from mitmproxy.options import Options
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.events import Start
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode, HttpStream
from mitmproxy.test import tflow

from runtime.resources import release_memory
from runtime.resources.release_memory import ReleaseMemory, break_cycles, drop_connections


def http_layer(client, *servers, spoken_of=()):
    made = HttpLayer.__new__(HttpLayer)
    made.context = SimpleNamespace(client=client, server=servers[0])
    made.connections = {c: SimpleNamespace(context=SimpleNamespace(layers=[])) for c in (client, *servers)}
    made.streams = {i: SimpleNamespace(context=SimpleNamespace(server=s)) for i, s in enumerate(spoken_of)}
    return made


def test_only_connections_whose_end_has_been_told_and_that_no_stream_uses_are_forgotten():
    client, own, over, used, open_ = tflow.tclient_conn(), *(tflow.tserver_conn() for _ in range(4))
    layer = http_layer(client, own, over, used, open_, spoken_of=[used])
    drop_connections(layer, {over, used, own})
    assert set(layer.connections) == {client, own, used, open_}


def test_one_that_a_stream_still_used_is_forgotten_with_the_next():
    addon, client = ReleaseMemory(), tflow.tclient_conn()
    own, first, second = (tflow.tserver_conn() for _ in range(3))
    layer = http_layer(client, own, first, second, spoken_of=[first])
    release_memory.http_layers[client.id] = [layer]
    addon.server_disconnected(SimpleNamespace(client=client, server=first))
    assert first in layer.connections
    layer.streams.clear()
    addon.server_disconnected(SimpleNamespace(client=client, server=second))
    assert set(layer.connections) == {client, own}
    assert addon.ended[client.id] == set()
    addon.client_disconnected(client)
    assert (release_memory.http_layers, addon.ended) == ({}, {})
    # The client has left first, and its upstream connections are closed for that.
    addon.server_disconnected(SimpleNamespace(client=client, server=own))
    assert (release_memory.http_layers, addon.ended) == ({}, {})


def dropped():
    """A stream that its layer has dropped."""
    parent = HttpLayer(Context(tflow.tclient_conn(), Options()), HTTPMode.regular)
    return HttpStream(parent.context.fork(), 1)


def test_a_stream_that_was_dropped_does_not_hold_itself():
    stream = dropped()
    gone = weakref.ref(stream)
    gc.disable()
    try:
        break_cycles(stream)
        del stream
        assert gone() is None
    finally:
        gc.enable()


def test_a_stream_that_events_can_reach_stays_as_it_is():
    stream = dropped()

    def stays():
        break_cycles(stream)
        return stream in stream.context.layers and stream.client_state == stream.state_uninitialized

    stream._paused_event_queue.append(Start())
    assert stays()
    stream._paused_event_queue.clear()
    stream.context.layers.append(stream.context.layers[0])
    assert stays()
    stream.context.layers.pop()
    stream.context.layers[0].streams[1] = stream
    assert stays()
    del stream.context.layers[0].streams[1]
    assert not stays()
