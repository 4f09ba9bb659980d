"""Handing on: an HTTP layer passes its children's commands on, and gives each stream a context, at less cost than mitmproxy's.

mitmproxy asks of each command, on each of its layers, for up to eight kinds that it may be of, though most are data to be sent. And
with each context it makes a server that is never used, with an id of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import (
    DropStream,
    GetHttpConnection,
    HttpClient,
    HttpEvent,
    HttpLayer,
    ReceiveHttp,
    RegisterHttpConnection,
    RequestHeaders,
    RequestTrailers,
    ResponseTrailers,
    SendHttp,
)

from runtime.connections import connection_handlers
from runtime.streams.used_names import changed_function

Commands = layer.CommandGenerator[None]

_STOCK = frozenset(
    (
        *("AssertionError", "Command", "DropStream", "GetHttpConnection", "KeyError", "OpenConnection", "ReceiveHttp"),
        *("RegisterHttpConnection", "RequestHeaders", "RequestWakeup", "SendHttp", "blocking", "command_sources", "commands"),
        *("connection", "connections", "event", "event_to_child", "get_connection", "handle_event", "isinstance"),
        *("make_stream", "pop", "register_connection", "stream_id", "streams"),
    )
)
"""Every name in mitmproxy's own way to hand a command on: with any other it does something else."""

_STOCK_CONTEXT = {"client", "options", "connection", "Server", "transport_protocol", "server", "layers"}
"""Every name in how mitmproxy makes a context."""

FITS = not (changed_function(HttpLayer.event_to_child, _STOCK) or changed_function(Context.__init__, _STOCK_CONTEXT))
"""Whether this mitmproxy hands commands on, and makes contexts, as is known here; otherwise its own way is taken."""


TRAILERS = frozenset((RequestTrailers, ResponseTrailers))
"""What is not sent: only a user's script can have set some, and mitmproxy's HTTP/1 would fail where it has to send them."""


def go_first(http: Any) -> None:
    """Have a client's handler hand events straight to its HTTP layer, past layers in front of it that only hand them on."""
    if [type(x) for x in http.context.layers] == [modes.HttpProxy, type(http)]:
        handler = connection_handlers().get(http.context.client.id)
        if handler is not None and leads_to(handler.layer, http):
            handler.layer = http


def leads_to(top: Any, http: Any) -> bool:
    """Return whether layers do nothing but hand events on to this one; others may wait for some, and need not be in its context."""
    while top is not http:
        if type(top) is layer.NextLayer:
            below = top.layer
        elif type(top) is modes.HttpProxy:
            # Once it has begun, the layer that it has made handles its events.
            below = getattr(top._handle_event, "__self__", None)
        else:
            return False
        if below is None or below is top:
            return False
        top = below
    return True


def entering(http: Any, stock: Callable[[events.Event], Commands]) -> Callable[[events.Event], Commands]:
    """Return what hands an event to the child of an HTTP layer whose connection it is about; ``stock`` is mitmproxy's way."""

    def enter(event: events.Event) -> Commands:
        child = http.connections.get(event.connection) if type(event) is events.DataReceived else None
        if child is None:
            return stock(event)
        if type(child) is HttpClient and child._paused is None:
            # Once the connection is open, it does nothing but to hand on.
            child = child.child_layer
        return event_to_child(http, child, event)

    return enter


def handle_event(side: Any, event: events.Event) -> Commands:
    """Handle an event on either side of a call, where HTTP/1 is spoken: it waits for nothing, so that no event is held back.

    mitmproxy's layers may do so, and ask at each event.
    """
    if side.debug is not None:
        return layer.Layer.handle_event(side, event)
    if isinstance(event, HttpEvent):
        return side.send(event)  # type: ignore[no-any-return]
    if type(event) is events.DataReceived and side.state != side.passthrough:
        side.buf += event.data
    return side.state(event)  # type: ignore[no-any-return]


def event_to_child(http: Any, child: Any, event: events.Event) -> Commands:
    """Hand an event to a layer's child, and do with the commands that come of it what mitmproxy's layer does."""
    for command in child.handle_event(event):
        kind = type(command)
        if kind is commands.SendData:
            yield command
            continue
        if command.blocking or kind is commands.RequestWakeup:
            # What comes of it has to go back to this child.
            http.command_sources[command] = child
        if kind is SendHttp:
            if type(command.event) not in TRAILERS:
                yield from event_to_child(http, http.connections[command.connection], command.event)
        elif kind is ReceiveHttp:
            about = command.event
            if isinstance(about, RequestHeaders):
                yield from http.make_stream(about.stream_id)
            # There is none for what still comes of a stream that is over.
            stream = http.streams.get(about.stream_id)
            if stream is not None:
                yield from event_to_child(http, stream, about)
        else:
            yield from _others(http, child, command)


def _others(http: Any, child: Any, command: commands.Command) -> Commands:
    """Do with a child's command what mitmproxy's layer does, where it neither sends nor receives."""
    if isinstance(command, DropStream):
        http.streams.pop(command.stream_id, None)
    elif isinstance(command, GetHttpConnection):
        yield from http.get_connection(command)
    elif isinstance(command, RegisterHttpConnection):
        yield from http.register_connection(command)
    else:
        if isinstance(command, commands.OpenConnection):
            http.connections[command.connection] = child
        yield command


def fork(context: Context) -> Context:
    """Return a context of its own for a layer above those of this one, as mitmproxy's method of this name does."""
    if not FITS:
        return context.fork()
    own = object.__new__(Context)
    own.client, own.options, own.server, own.layers = context.client, context.options, context.server, context.layers.copy()
    return own
