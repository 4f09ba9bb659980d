"""The relay: sends a call that may need more than one attempt, and hands the answer to its client as it arrives.

mitmproxy sends a request once, to one server. So such a call is forwarded to this server of our own, by ticket, which sends it
on: to the first target of its plan and, where that fails before a byte has gone to the client, to the next.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import Receive, Scope, Send

from sluicegate.http_client.errors import UnreachableError
from sluicegate.http_client.streaming import StreamingClient
from sluicegate.network.egress.dialling import Dialling
from sluicegate.network.loopback.ticket_server import TicketServer
from sluicegate.sending.exchange import Exchange, RelayedCall
from sluicegate.services import Services


class Relay:
    """Sends calls by their plans. Create and start it inside the running event loop."""

    def __init__(self, shared: Services, ca_file: str | None = None) -> None:
        self.shared = shared
        self.client = StreamingClient(ca_file)
        self.dialling = Dialling(shared.clock)
        self.server: TicketServer[RelayedCall] = TicketServer(self.answer)

    async def start(self) -> None:
        """Serve; return once calls are accepted."""
        if not self.client.is_open:
            await asyncio.to_thread(self.client.open)
        await self.server.start()

    async def answer(self, relayed: RelayedCall, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one forwarded request; what it still does ends when its client leaves."""
        gone = asyncio.ensure_future(_cancel_when_left(receive, asyncio.current_task()))
        try:
            # A stream that broke off at its provider breaks off here too: the server closes a connection without an end.
            with contextlib.suppress(UnreachableError):
                await Exchange(self.shared, self.client, self.dialling, relayed, send).run()
        finally:
            gone.cancel()

    def stop(self) -> None:
        """Stop at once; answers under way are cut off."""
        self.server.stop()


async def _cancel_when_left(receive: Receive, work: asyncio.Task[None] | None) -> None:
    """Cancel what is done for a client once it has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if work is not None:
        work.cancel()
