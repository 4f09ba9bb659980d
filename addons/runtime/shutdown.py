"""Shutdown: told to stop, the gateway finishes what it has begun. Calls in flight end, new ones are told to come again.

mitmproxy itself stops at once and cuts every stream. A second signal still does.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from typing import ClassVar
from weakref import WeakSet

from mitmproxy import connection, ctx, http
from mitmproxy.addonmanager import Loader

from flow import Addon, call_of, deny, enforcing, observing, services
from runtime.connections import client_writer, connection_handlers, in_flight
from sluicegate.values import Deny, Reason

logger = logging.getLogger("sluicegate")

GRACE_PERIOD = 30
"""Seconds calls in flight get; a process manager's own patience must be longer."""


class Shutdown(Addon):
    """Takes the place of mitmproxy's signal handlers."""

    administration: ClassVar[WeakSet[http.HTTPFlow]] = WeakSet()
    task: ClassVar[asyncio.Task[None] | None] = None
    """All the class's own: a reload of the chain makes another of us while calls are out."""

    def load(self, loader: Loader) -> None:
        """mitmproxy: declare options."""
        super().load(loader)
        loader.add_option("grace_period", int, GRACE_PERIOD, "Seconds that calls in flight get to end on SIGTERM or SIGINT.")

    def running(self) -> None:
        """mitmproxy: the proxy is up; its own handlers are in place and can be replaced."""
        super().running()
        for which in (signal.SIGTERM, signal.SIGINT):
            try:
                asyncio.get_running_loop().add_signal_handler(which, self.stop)
            except (NotImplementedError, RuntimeError, ValueError):
                logger.warning("signals cannot be handled here: a stop will cut live streams")
                return

    def stop(self) -> None:
        """A signal has come: the first begins to drain, the second ends it."""
        if Shutdown.task is not None or ctx.options.grace_period <= 0:
            ctx.master.shutdown()
            return
        services().draining = True
        services().live_calls.close()
        Shutdown.task = asyncio.get_running_loop().create_task(self.drain())

    async def drain(self) -> None:
        """Wait for the calls that are out, at most the grace period, then shut down."""
        began = time.monotonic()
        if count := self.count():
            logger.warning("stopping: waiting up to %d s for %d calls; stop again to cut them", ctx.options.grace_period, count)
        while self.count() or unsent(besides={flow.client_conn for flow in self.administration if flow.live}):
            if time.monotonic() - began >= ctx.options.grace_period:
                logger.warning("stopping: %d calls are cut and settled for what they delivered", self.count())
                break
            await asyncio.sleep(0.05)
        ctx.master.shutdown()

    def count(self) -> int:
        """Calls that have left for a provider and are not over."""
        return sum(1 for flows in in_flight.values() for flow in flows if flow.live)

    @enforcing
    def request(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a request is complete; none is begun any more."""
        if services().draining and call_of(flow) is not None:
            again = "The gateway is shutting down; try again in a moment"
            deny(flow, Deny(Reason.SHUTTING_DOWN, again, retry_after=1, final=False))
            if flow.response is not None and not flow.request.is_http2:
                flow.response.headers["connection"] = "close"
        elif call_of(flow) is not None:
            in_flight.setdefault(flow.client_conn.id, set()).add(flow)
        elif flow.metadata.get("sluicegate") == "admin":
            # Nobody waits for these: whoever has an export sent and does not read it would hold up the stop.
            self.administration.add(flow)

    @observing
    def response(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a call is over."""
        self.ended(flow)

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a call broke off."""
        self.ended(flow)

    def ended(self, flow: http.HTTPFlow) -> None:
        """Forget a call that is over, and its connection with the last one."""
        mine = in_flight.get(flow.client_conn.id)
        if mine is not None:
            mine.discard(flow)
            if not mine:
                del in_flight[flow.client_conn.id]


def unsent(besides: set[connection.Client]) -> bool:
    """Whether bytes for a client, these apart, are still waiting in a buffer of ours."""
    for handler in list(connection_handlers().values()):
        writer = None if getattr(handler, "client", None) in besides else client_writer(handler)
        transport = getattr(writer, "transport", None)
        if transport is not None and not transport.is_closing() and transport.get_write_buffer_size():
            return True
    return False


addons = [Shutdown()]
