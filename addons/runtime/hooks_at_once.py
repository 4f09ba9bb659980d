"""Hooks at once: a hook of a call that waits for nothing is over where mitmproxy asks for it.

mitmproxy hands each hook up through all its layers to a task of its own, and its end, in another turn of the event loop, down
through all of them again: a tenth of a call, though nearly no hook waits. A hook that may wait, or whose flow is intercepted,
goes mitmproxy's way from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from mitmproxy.proxy import layer
from mitmproxy.proxy.layers.http import (
    Http1Server,
    HttpEvent,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
)

Commands = layer.CommandGenerator[None]


class Dispatch(Protocol):
    """What calls a hook on the addons."""

    def begin(self, event: Any) -> Coroutine[Any, Any, None] | None:
        """Call a hook of a flow's life up to the first that may wait; return what is left to be awaited, None if it is over."""


dispatch: list[Dispatch] = []
"""The one in place, if any. Module-level, so that a reload of the chain keeps it."""


def shorten(stream: Any, stock: Commands) -> Commands:
    """Return a stream's commands, which are ``stock``, without the hooks that are over at once."""
    reply = None
    while True:
        try:
            command = stock.send(reply)
        except StopIteration:
            return
        reply = None
        may_be_over = _MAY_BE_OVER.get(type(command))
        if may_be_over is None or command.blocking is not True or not may_be_over(stream) or not is_over(command):
            reply = yield command


def hook_of(kind: type[Any], flow: Any) -> Any:
    """Return a hook of a flow, without the checks by which mitmproxy finds each time that its kinds of hooks are well made."""
    hook = object.__new__(kind)
    hook.flow = flow
    return hook


def is_over(hook: Any) -> bool:
    """Call a hook, and return whether its stream may go on; where it may not, the hook says what is to be awaited."""
    if not dispatch or getattr(hook, "sluicegate_begun", None) is not None:
        return False
    rest = dispatch[-1].begin(hook)
    if rest is None:
        if not hook.flow.intercepted:
            return True
        rest = nothing()
    hook.sluicegate_begun = rest
    return False


@dataclass
class GoOn(HttpEvent):
    """What a stream does from one of its hooks on, which has been called where the stream would ask for it."""

    commands: Commands


def go_on(stream: Any, event: GoOn) -> Commands:
    """Do what a stream does from there on."""
    return shorten(stream, event.commands)


def after(hook: Any, stock: Commands) -> Commands:
    """Return a stream's commands, which are ``stock``, after its first hook, which has been called: as ``hook``."""
    next(stock)
    yield from waiting(hook)
    yield from stock


def waiting(hook: Any) -> Commands:
    """Have a hook awaited that has been called and is not over."""
    if getattr(hook, "sluicegate_begun", None) is not None:
        yield hook


async def nothing() -> None:
    """Do nothing: all that there was to do has been done."""


def always(stream: Any) -> bool:
    """Return True: a hook at a message's head may always be over at once."""
    return True


def is_alone(stream: Any) -> bool:
    """Return whether a client has sent nothing after this request.

    What it has sent would be read, answered and followed by the next one within this hook, and so on until Python gives up; and
    the provider's connection is not ready for it before its layer has heard of the answer's end.
    """
    context = stream.context
    depth = context.layers.index(stream)
    server = context.layers[depth - 1].connections[context.client]
    return not isinstance(server, Http1Server) or not server.buf


_MAY_BE_OVER: dict[type, Callable[[Any], bool]] = {
    HttpRequestHeadersHook: always,
    HttpRequestHook: is_alone,
    HttpResponseHeadersHook: always,
    HttpResponseHook: is_alone,
}
"""The hooks of a call, and whether each may be over where it is asked for."""
