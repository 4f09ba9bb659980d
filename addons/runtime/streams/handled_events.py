"""Handled events: what mitmproxy does with an event, in a straight line.

mitmproxy takes its lock by a coroutine, hands each event down through layers that do nothing but hand it on, and asks of each
command that comes of it for up to eight kinds that it may be of, though most are data to be sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time
from typing import Any

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.commands import SendData
from mitmproxy.proxy.layers.modes import HttpProxy, HttpUpstreamProxy
from mitmproxy.proxy.server import ConnectionHandler, ConnectionIO
from mitmproxy.utils import asyncio_utils

from runtime.streams.used_names import changed_function

_STOCK = frozenset(
    (
        *("CloseConnection", "CloseTcpConnection", "ConnectionCommand", "ConnectionIO", "ERROR", "Exception", "Log"),
        *("OpenConnection", "RequestWakeup", "RuntimeError", "SendData", "StartHook", "_server_event_lock", "add", "address"),
        *("asyncio_utils", "client", "close_connection", "commands", "connection", "create_task", "data", "delay", "half_close"),
        *("handle_event", "hook_task", "is_closing", "isinstance", "layer", "level", "log", "logging", "message", "name"),
        *("open_connection", "peername", "register_activity", "timeout_watchdog", "transports", "wakeup", "wakeup_timer"),
        *("write", "writer"),
    )
)
"""Every name in mitmproxy's own way to handle an event: with any other it does something else."""


def lacking() -> str | None:
    """Return what handles an event otherwise than is known here; None if nothing does."""
    return changed_function(ConnectionHandler.server_event, _STOCK)


def handle(handler: Any, below: Any, event: events.Event) -> None:
    """Let a layer handle an event, and do what comes of it; only while nobody has the handler's lock or waits for it."""
    lock, transports = handler._server_event_lock, handler.transports
    lock._locked = True
    try:
        handler.timeout_watchdog.last_activity = time()
        for command in below.handle_event(event):
            if type(command) is SendData:
                # Otherwise the connection has been closed.
                if (io := transports.get(command.connection)) is not None and not io.writer.is_closing():
                    io.writer.write(command.data)
            else:
                _do(handler, command)
    except Exception:
        handler.log("mitmproxy has crashed!", logging.ERROR, exc_info=True)
    finally:
        if lock._waiters:
            lock.release()
        else:
            lock._locked = False


def _do(handler: Any, command: commands.Command) -> None:
    """Do what a layer has asked for, as mitmproxy does it. Raises RuntimeError for a command that nobody knows."""
    peer = handler.client.peername
    if isinstance(command, commands.Log):
        handler.log(command.message, command.level)
    elif isinstance(command, commands.StartHook):
        hook = handler.hook_task(command)
        asyncio_utils.create_task(hook, name=f"handle_hook({command.name})", keep_ref=True, client=peer)
    elif isinstance(command, commands.OpenConnection):
        assert command.connection not in handler.transports
        name = f"server connection handler {command.connection.address}"
        opening = asyncio_utils.create_task(handler.open_connection(command), name=name, keep_ref=False, client=peer)
        handler.transports[command.connection] = ConnectionIO(handler=opening)
    elif isinstance(command, commands.RequestWakeup):
        name = f"wakeup timer ({command.delay:.1f}s)"
        handler.wakeup_timer.add(asyncio_utils.create_task(handler.wakeup(command), name=name, keep_ref=False, client=peer))
    elif isinstance(command, commands.ConnectionCommand) and command.connection not in handler.transports:
        # It has been closed.
        pass
    elif isinstance(command, commands.CloseConnection):
        half_close = isinstance(command, commands.CloseTcpConnection) and command.half_close
        handler.close_connection(command.connection, half_close)
    else:
        raise RuntimeError(f"Unexpected command: {command}")


def layer_below(top: Any) -> Any:
    """Return the layer to which those above it do nothing but hand events on; None while that may change."""
    while isinstance(top, layer.NextLayer | HttpProxy | HttpUpstreamProxy):
        hands_on: Callable[..., Any] | None = top._handle if isinstance(top, layer.NextLayer) else top._handle_event
        below = getattr(hands_on, "__self__", top)
        if below is top or top._paused or top._paused_event_queue:
            return None
        top = below
    return top
