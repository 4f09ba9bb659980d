"""Signals: TERM and INT finish the calls in flight and refuse new ones with 503; HUP reads everything again.

mitmproxy itself stops at once on TERM and INT and cuts every stream, as a second signal still does. HUP would kill it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from typing import ClassVar
from weakref import WeakSet

from mitmproxy import connection, ctx, http
from mitmproxy.addonmanager import Loader

from flow import Addon, call_of, deny, enforcing, services
from runtime.connections import client_writer, connection_handlers, in_flight
from sluicegate.values import Deny, Reason

logger = logging.getLogger("sluicegate")

GRACE_PERIOD_S = 30
"""Seconds calls in flight get; a process manager's own time-out must be longer."""


class Shutdown(Addon):
    """Handles the signals that mitmproxy would otherwise handle."""

    administration: ClassVar[WeakSet[http.HTTPFlow]] = WeakSet()
    drain_task: ClassVar[asyncio.Task[None] | None] = None
    reload_task: ClassVar[asyncio.Task[None] | None] = None
    reload_is_due: ClassVar[bool] = False
    """All belong to the class: a reload of the chain makes another instance while calls are in flight."""

    had_terminal: ClassVar[bool] = False
    """Whether the gateway was started in a terminal, which sends HUP when it is closed."""

    def load(self, loader: Loader) -> None:
        """Declare how long calls in flight may take; a HUP during the start changes nothing."""
        super().load(loader)
        Shutdown.had_terminal = has_terminal()
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        loader.add_option("grace_period", int, GRACE_PERIOD_S, "Seconds that calls in flight get to end on SIGTERM or SIGINT.")

    def running(self) -> None:
        """Replace mitmproxy's signal handlers, which are in place by now."""
        super().running()
        for which, handle in ((signal.SIGTERM, self.stop), (signal.SIGINT, self.stop), (signal.SIGHUP, self.hang_up)):
            try:
                asyncio.get_running_loop().add_signal_handler(which, handle)
            except (NotImplementedError, RuntimeError, ValueError):
                logger.warning("Signals cannot be handled here: stopping the gateway will cut live streams")
                return

    def stop(self) -> None:
        """Begin to drain at the first signal, stop at the second."""
        if Shutdown.drain_task is not None or ctx.options.grace_period <= 0:
            ctx.master.shutdown()
            return
        services().draining = True
        services().live_calls.close()
        Shutdown.drain_task = asyncio.get_running_loop().create_task(self.drain())

    def hang_up(self) -> None:
        """Reopen the journal and read policy, secrets and prices again; stop if the terminal we were started in is closed."""
        if self.had_terminal and not has_terminal():
            self.stop()
            return
        services().writer.reopen_journal()
        Shutdown.reload_is_due = True
        if Shutdown.reload_task is None or Shutdown.reload_task.done():
            Shutdown.reload_task = asyncio.get_running_loop().create_task(self.reload())

    async def reload(self) -> None:
        """Read everything again in a thread, once more if another signal came meanwhile."""
        while Shutdown.reload_is_due:
            Shutdown.reload_is_due = False
            await asyncio.to_thread(services().reload)

    async def drain(self) -> None:
        """Wait for the calls in flight, at most the grace period, then shut down."""
        began = time.monotonic()
        if count := self.calls_in_flight():
            logger.warning("Stopping: waiting up to %d s for %d calls; stop again to cut them", ctx.options.grace_period, count)
        while (
            self.calls_in_flight()
            or services().tokens.is_busy
            or has_unsent_bytes(except_for={flow.client_conn for flow in self.administration if flow.live})
        ):
            if time.monotonic() - began >= ctx.options.grace_period:
                logger.warning("Stopping: %d calls are cut and settled for what they delivered", self.calls_in_flight())
                break
            await asyncio.sleep(0.05)
        ctx.master.shutdown()

    def calls_in_flight(self) -> int:
        """Return how many admitted calls have not ended."""
        return sum(1 for flows in in_flight.values() for flow in flows if flow.live)

    @enforcing
    def request(self, flow: http.HTTPFlow) -> None:
        """Refuse a call while the gateway stops; keep count of it otherwise."""
        if services().draining and call_of(flow) is not None:
            message = "The gateway is shutting down; try again in a moment"
            deny(flow, Deny(Reason.SHUTTING_DOWN, message, retry_after=1, final=False))
            if flow.response is not None and not flow.request.is_http2:
                flow.response.headers["connection"] = "close"
        elif call_of(flow) is not None:
            in_flight.setdefault(flow.client_conn.id, set()).add(flow)
        elif flow.metadata.get("sluicegate") == "admin":
            # Not waited for: a client that asks for an export and does not read it would hold up the stop.
            self.administration.add(flow)

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Remove a call from those in flight, and its connection after the last one."""
        others = in_flight.get(flow.client_conn.id)
        if others is not None:
            others.discard(flow)
            if not others:
                del in_flight[flow.client_conn.id]


def has_terminal() -> bool:
    """Return whether this process has a terminal that can still be used."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def has_unsent_bytes(except_for: set[connection.Client]) -> bool:
    """Return whether bytes for any other client are still waiting in one of our buffers."""
    for handler in list(connection_handlers().values()):
        writer = None if getattr(handler, "client", None) in except_for else client_writer(handler)
        transport = getattr(writer, "transport", None)
        if transport is not None and not transport.is_closing() and transport.get_write_buffer_size():
            return True
    return False


addons = [Shutdown()]
