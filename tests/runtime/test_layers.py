"""Our layers take the place of mitmproxy's, wherever it chooses them, and fit the mitmproxy we run with."""

from __future__ import annotations

import inspect

import pytest
from mitmproxy.options import Options
from mitmproxy.proxy import layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ClientTLSLayer, HttpLayer, ServerTLSLayer, TCPLayer, modes
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.test import tflow

from runtime import layer_choice, layers
from runtime.network.client_tls import GatewayClientTLSLayer
from runtime.resources import release_memory

OVERRIDDEN = [
    pytest.param(own.__bases__[0], name, id=f"{own.__name__}-{name}")
    for own in layer_choice.OWN_LAYERS
    for name, method in vars(own).items()
    if inspect.isfunction(method) and name not in layer_choice.ADDED
]
RELIED_ON = [
    pytest.param(own.__bases__[0], name, id=f"{own.__name__}-{name}")
    for own, names in layer_choice.RELIED_ON.items()
    for name in names
]


def test_they_fit_this_mitmproxy():
    assert layer_choice.unknown_methods() == []


@pytest.mark.parametrize(("stock", "name"), [*OVERRIDDEN, *RELIED_ON])
def test_a_method_mitmproxy_no_longer_has_refuses_to_start(stock, name, monkeypatch):
    reasons: list[str] = []
    for base in stock.__mro__:
        if name in vars(base) and base is not object:
            monkeypatch.delattr(base, name)
    if hasattr(stock, name):
        # object's own __init__ is left: it takes other arguments.
        assert name == "__init__"
    monkeypatch.setattr(layer_choice, "exit_with_error", reasons.append)
    layer_choice.Layers().running()
    (reason,) = reasons
    assert f"{stock.__name__}.{name}" in reason


@pytest.mark.parametrize(("stock", "name"), OVERRIDDEN)
def test_a_method_that_takes_other_arguments_refuses_to_start(stock, name, monkeypatch):
    monkeypatch.setattr(stock, name, lambda self, one, two, three, four: None)
    assert layer_choice.unknown_methods() == [f"{stock.__name__}.{name}"]


@pytest.fixture
def context():
    made = Context(tflow.tclient_conn(), Options())
    modes.HttpProxy(made)
    yield made
    release_memory.http_layers.clear()


def choose(context, *chosen):
    """What stands in the context once mitmproxy has chosen these, each stacked on the one before, and we have replaced them."""
    nextlayer = layer.NextLayer(context)
    above = []
    for make in chosen:
        above.append(make(context))
        if len(above) > 1:
            above[-2].child_layer = above[-1]
    nextlayer.layer = above[0]
    layer_choice.Layers().next_layer(nextlayer)
    assert nextlayer.layer is context.layers[1]
    for below, top in zip(context.layers[1:], context.layers[2:], strict=False):
        assert below.child_layer is top
    return [type(x) for x in context.layers[1:]]


def http(context):
    return HttpLayer(context, HTTPMode.regular)


def test_http_becomes_ours_in_the_same_mode(context):
    assert choose(context, http) == [layers.GatewayHttpLayer]
    assert context.layers[1].mode is HTTPMode.regular


def test_tls_and_what_stands_on_it_become_ours(context):
    assert choose(context, ClientTLSLayer, http) == [GatewayClientTLSLayer, layers.GatewayHttpLayer]


def test_a_layer_for_the_upstream_stays(context):
    assert choose(context, ServerTLSLayer, ClientTLSLayer) == [ServerTLSLayer, GatewayClientTLSLayer]
    assert context.layers[2].server_tls_available


def test_other_layers_and_those_of_others_stay(context):
    class Theirs(HttpLayer):
        pass

    assert choose(context, TCPLayer) == [TCPLayer]
    del context.layers[1:]
    assert choose(context, lambda c: Theirs(c, HTTPMode.regular)) == [Theirs]


def test_nothing_chosen_stays_nothing(context):
    nextlayer = layer.NextLayer(context)
    layer_choice.Layers().next_layer(nextlayer)
    assert nextlayer.layer is None
