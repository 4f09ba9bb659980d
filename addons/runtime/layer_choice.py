"""The choice of layers: ours take the place of mitmproxy's where it chooses them (its hook ``next_layer``), if they fit it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from mitmproxy.proxy import layer
from mitmproxy.proxy.layers import ClientTLSLayer, HttpLayer
from mitmproxy.version import VERSION

from runtime.layers import GatewayHttp1Server, GatewayHttp2Server, GatewayHttpLayer, GatewayHttpStream
from runtime.network.client_tls import GatewayClientTLSLayer
from runtime.options import exit_with_error

OWN_LAYERS = (GatewayHttp1Server, GatewayHttp2Server, GatewayHttpStream, GatewayHttpLayer, GatewayClientTLSLayer)

ADDED = {"send_error", "discard", "end_switched", "mark_request_done"}
"""Methods of our layers that override nothing."""

RELIED_ON: dict[type[layer.Layer], tuple[str, ...]] = {
    GatewayHttp1Server: ("done",),
    GatewayHttp2Server: ("is_open_for_us", "close_connection"),
    GatewayHttpStream: ("state_errored",),
    GatewayHttpLayer: ("event_to_child",),
    GatewayClientTLSLayer: ("client_hello_parsed", "receive_data"),
}
"""Other attributes of mitmproxy's that our layers use; those that exist only on instances cannot be checked at start."""


def unknown_methods() -> list[str]:
    """Return what our layers override or use and mitmproxy's lack or declare differently: it would be bypassed silently."""
    found = []
    for own in OWN_LAYERS:
        (stock,) = own.__bases__
        found += [f"{stock.__name__}.{name}" for name in RELIED_ON[own] if not hasattr(stock, name)]
        for name, method in vars(own).items():
            if inspect.isfunction(method) and name not in ADDED:
                known = getattr(stock, name, None)
                if known is None or kinds_of_parameters(known) != kinds_of_parameters(method):
                    found.append(f"{stock.__name__}.{name}")
    return found


def kinds_of_parameters(function: Callable[..., Any]) -> list[Any]:
    """Return how a function takes its arguments; their names do not matter, because mitmproxy passes them by position."""
    return [parameter.kind for parameter in inspect.signature(function).parameters.values()]


class Layers:
    """Replaces the layers mitmproxy has chosen with ours.

    It is in mitmproxy's own list of addons, after the one that chooses, and not in the script's: so the limits hold
    while a half-saved gateway.py is unloaded.
    """

    name = "layers"

    def running(self) -> None:
        """Refuse to start with a mitmproxy whose layers are not as ours expect them."""
        if unknown := unknown_methods():
            exit_with_error(f"layers do not fit mitmproxy {VERSION}: {', '.join(unknown)} is missing or has changed")

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Replace what has been chosen for a connection's next protocol."""
        if nextlayer.layer is not None:
            nextlayer.layer = replaced(nextlayer.layer)


def replaced(chosen: layer.Layer) -> layer.Layer:
    """Return a layer, and those already stacked on it, with ours in place of mitmproxy's."""
    stack = chosen.context.layers
    above = stack[stack.index(chosen) :]
    if not any(type(old) in (HttpLayer, ClientTLSLayer) for old in above):
        return chosen
    # A layer adds itself to this list when it is made, and looks there for the one below it.
    del stack[-len(above) :]
    below = None
    for old in above:
        new = ours(old)
        if below is not None:
            below.child_layer = new
        below = new
    return stack[-len(above)]


def ours(old: layer.Layer) -> Any:
    """Return our layer for one of mitmproxy's, the last of its context's layers now."""
    if type(old) is HttpLayer:
        return GatewayHttpLayer(old.context, old.mode)
    if type(old) is ClientTLSLayer:
        return GatewayClientTLSLayer(old.context)
    old.context.layers.append(old)
    return old
