"""Orphans: a call that mitmproxy has lost is settled and recorded once its client has left.

Where mitmproxy's own code raises ("mitmproxy has crashed!"), a call may wait forever for what was lost there. And when
a client leaves while its calls wait to be connected, five of one connection at a time, mitmproxy forgets those. Neither
``response`` nor ``error`` is called for them: their reservations and slots would be held until a restart.
"""

from __future__ import annotations

import asyncio
import logging

from mitmproxy import connection, ctx, flow
from mitmproxy.proxy import server_hooks
from mitmproxy.proxy.layers.http import HttpErrorHook

from flow import Addon, call_of, was_sent_upstream
from runtime.connections import connection_handlers, in_flight, writer_to
from sluicegate.values import Outcome

logger = logging.getLogger("sluicegate")

GRACE_PERIOD_S = 2.0
"""Seconds after which a call counts as lost; any other learns within milliseconds that its client has left."""


class Orphans(Addon):
    """Ends calls that mitmproxy has lost."""

    def client_disconnected(self, client: connection.Client) -> None:
        """Close the client's socket, and check later whether all its calls have ended."""
        close_socket(client, client)
        if client.id in in_flight:
            asyncio.get_running_loop().call_later(GRACE_PERIOD_S, self.settle_lost_calls, client.id)

    def server_disconnected(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Close the socket to a server that has left or has been given up."""
        close_socket(data.client, data.server)

    def settle_lost_calls(self, client_id: str) -> None:
        """Settle and record the calls that are left of a connection that has ended."""
        lost = list(in_flight.get(client_id, ()))
        if not lost:
            return
        if sent := sum(map(was_sent_upstream, lost)):
            logger.error("%d call%s lost within mitmproxy and settled for what is known", sent, " was" if sent == 1 else "s were")
        for one in lost:
            call = call_of(one)
            if call is not None:
                call.outcome = call.outcome or (Outcome.INTERRUPTED if was_sent_upstream(one) else Outcome.CANCELLED)
            one.error = one.error or flow.Error("the gateway has lost this call")
            one.live = False
            ctx.master.addons.trigger(HttpErrorHook(one))
        in_flight.pop(client_id, None)


def close_socket(client: connection.Client, peer: connection.Connection) -> None:
    """Close the socket of this client, or of a server that it is connected to, when mitmproxy calls it disconnected.

    Where mitmproxy ends a connection on which the other side still sends, as after a body that is too large, it may leave
    the socket open: the task that would close it is cancelled while it waits for its turn to hand on what has arrived. The
    other side would wait until the garbage collector runs, which here is rare.
    """
    writer = writer_to(connection_handlers().get(client.id), peer)
    if writer is not None and not writer.is_closing():
        writer.close()


addons = [Orphans()]
