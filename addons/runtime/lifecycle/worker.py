"""Worker: what a gateway does that is one of several on a port: it listens on handed sockets, and can be replaced.

USR2 is the supervisor's signal to end so that another process takes this one's part. No call may fail by that: the worker
stops accepting, but goes on answering on the connections it has, tells their clients to open another one, and ends once all
are gone. What waits on its socket is accepted by the next one.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from typing import Any, ClassVar

from mitmproxy import ctx, http

from flow import Addon, observing, services
from runtime.connections import client_writer, connection_handlers, in_flight
from runtime.lifecycle.goaway import send_goaway
from runtime.lifecycle.shutdown import Shutdown
from runtime.resources.idle_connections import silent_s
from runtime.resources.release_memory import http_layers
from sluicegate.workers.channel import Channel
from sluicegate.workers.listening import BACKLOG
from sluicegate.workers.watchdog import LOOK_S
from sluicegate.workers.worker import this_worker

logger = logging.getLogger("sluicegate")

QUIET_S, QUIET_H2_S = 5.0, 0.5
"""Seconds without a byte after which a connection without a request is closed while the worker is being replaced.

Over HTTP/2 no answer can say that it is the connection's last: the client is told in a pause between two calls, and what it has
sent by then arrives within this time.
"""

PAUSE_S = 0.05

waiting: list[asyncio.Server] = []
"""Servers that do not accept yet."""


class WorkerPart(Addon):
    """The part that only a worker has; without a supervisor it does nothing."""

    name = "worker"

    is_replaced: ClassVar[bool] = False
    """Another process takes this one's part. Of the class, so that a reload of the chain keeps it."""

    replacing: ClassVar[asyncio.Task[None] | None] = None

    def running(self) -> None:
        """Stop when the supervisor has ended, and let it replace us."""
        super().running()
        worker = this_worker()
        if worker is None or worker.channel is None:
            return
        loop = asyncio.get_running_loop()
        sock = worker.channel.sock
        loop.add_reader(sock.fileno(), self.supervisor_ended, loop, sock)
        loop.add_signal_handler(signal.SIGUSR2, self.replace)
        # A service manager may tell every process to end, as the supervisor does: that is one order, and cuts nothing.
        loop.add_signal_handler(signal.SIGTERM, self.stop_once)

    def stop_once(self) -> None:
        """Begin to drain, unless that is under way. INT cuts then, which the supervisor sends when it is told a second time."""
        if Shutdown.drain_task is None:
            ctx.master.addons.get("shutdown").stop()

    def supervisor_ended(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        """Finish the calls in flight and end: nobody would restart this worker, or stop it."""
        try:
            is_over = not sock.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            is_over = True
        if is_over:
            loop.remove_reader(sock.fileno())
            logger.error("The supervisor has ended; this worker ends too")
            # As on TERM, by whichever instance of the addon has the signal now.
            signal.raise_signal(signal.SIGTERM)

    def replace(self) -> None:
        """Begin to make room for another process."""
        if WorkerPart.replacing is None and Shutdown.drain_task is None:
            WorkerPart.is_replaced = True
            services().live_calls.close()
            WorkerPart.replacing = asyncio.get_running_loop().create_task(self.make_room())

    async def make_room(self) -> None:
        """Accept nothing more, and end once all connections have, or after the grace period."""
        # Before the listener is closed: what has arrived is ours.
        await asyncio.sleep(PAUSE_S)
        ctx.options.update(server=False)
        end, notified = time.monotonic() + max(0, ctx.options.grace_period), dict[str, float]()
        while (handlers := connection_handlers()) and time.monotonic() < end:
            for client_id, handler in list(handlers.items()):
                if is_over(client_id, handler, notified) and (writer := client_writer(handler)) is not None:
                    writer.transport.close()
            await asyncio.sleep(PAUSE_S)
        if handlers:
            logger.warning("%d connections are cut, because this worker is replaced", len(handlers))
        ctx.master.shutdown()

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Have the client open another connection for its next request, which another process will answer."""
        if self.is_replaced and flow.response is not None and not flow.request.is_http2 and flow.response.status_code != 101:
            flow.response.headers["connection"] = "close"


def is_over(client_id: str, handler: Any, notified: dict[str, float]) -> bool:
    """Return whether a connection has no request under way, and none is to be expected.

    An HTTP/2 client is told first; ``notified`` has when, in seconds of the monotonic clock.
    """
    layers = http_layers.get(client_id)
    if client_id in in_flight or (layers and layers[-1].streams):
        return False
    if client_id not in notified and layers and send_goaway(handler, layers[-1]):
        notified[client_id] = time.monotonic()
    if (since := notified.get(client_id)) is not None:
        return min(silent_s(handler), time.monotonic() - since) > QUIET_H2_S
    return silent_s(handler) > QUIET_S


async def listen_on_handed_sockets(self: Any, host: str, port: int) -> list[asyncio.Server]:
    """Do what mitmproxy's ``listen`` does, with the supervisor's sockets."""
    worker = this_worker()
    assert worker is not None
    assert worker.channel is not None
    made = []
    for sock in worker.channel.listen(host, port):
        # Nothing is accepted before the whole chain is there: who comes by then waits, and is not refused.
        made.append(await asyncio.start_server(self.handle_stream, sock=sock, backlog=BACKLOG, start_serving=False))
    waiting.extend(made)
    return made


async def serve() -> None:
    """Accept connections from now on, and tell the supervisor."""
    while waiting:
        await waiting.pop().start_serving()
    worker = this_worker()
    if worker is not None and worker.channel is not None:
        worker.channel.report_ready(ctx.options.grace_period)
        report_alive(asyncio.get_running_loop(), worker.channel)


def report_alive(loop: asyncio.AbstractEventLoop, channel: Channel) -> None:
    """Tell the supervisor again and again that this loop answers: not from a thread, which would go on while the loop hangs."""
    channel.report_alive()
    loop.call_later(LOOK_S, report_alive, loop, channel)


addons = [WorkerPart()]
