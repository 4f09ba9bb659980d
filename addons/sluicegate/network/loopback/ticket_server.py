"""A server on loopback, in mitmproxy's event loop, that answers only requests that carry a ticket.

mitmproxy's hooks can answer only with a whole body. A request that is forwarded to a server streams like any other: it is
sent as it is made, at the pace of its client, and ends when the client leaves.

Other programs on this machine can reach this server's port, and what is forwarded can be printed and saved on its way.
So what must stay secret is not forwarded: it waits here for the request that carries its ticket.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable

from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from sluicegate.network.loopback.connection import Connection

logger = logging.getLogger("sluicegate")

TICKET_HEADER = "x-sluicegate-ticket"


class TicketServer[T]:
    """The server; a ticket stands for a ``T`` that waits. Create and start it inside the running event loop."""

    def __init__(self, answer: Callable[[T, Scope, Receive, Send], Awaitable[None]]) -> None:
        """``answer`` gets what waited for a request with a ticket, and the request as ASGI."""
        self._answer = answer
        self._waiting: dict[bytes, T] = {}
        """By the ticket's hash."""
        # With its protocol said: for one that says 0, asyncio leaves Nagle's algorithm on, which holds back every second write
        # of an answer until the other side acknowledges the first, 40 ms later.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(2048)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Serve; return once requests are accepted."""
        if self._listener is None:
            async with self._starting:
                if self._listener is None:
                    loop = asyncio.get_running_loop()
                    self._listener = await loop.create_server(self._new_connection, sock=self._socket, backlog=2048)

    def _new_connection(self) -> Connection:
        return Connection(self._redeem_ticket, self._connections)

    def stop(self) -> None:
        """Stop serving at once; responses under way are cut off."""
        for connection in list(self._connections):
            connection.transport.abort()
        if self._listener is not None:
            # Not the socket itself: the loop would go on watching its descriptor, which the next connection gets.
            self._listener.close()

    def issue_ticket(self, waiting: T) -> str:
        """Return a ticket for one request, which is to be forwarded with it as TICKET_HEADER."""
        ticket = secrets.token_urlsafe(32)
        self._waiting[_digest(ticket.encode())] = waiting
        return ticket

    def revoke_ticket(self, ticket: str) -> None:
        """Forget a ticket, used or not."""
        self._waiting.pop(_digest(ticket.encode()), None)

    async def _redeem_ticket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that has a ticket; refuse any other."""
        name = TICKET_HEADER.encode()
        tickets = [v for n, v in scope["headers"] if n == name]
        # Removed at once: a ticket that was printed on the way is worthless afterwards.
        waiting = self._waiting.pop(_digest(tickets[0]), None) if len(tickets) == 1 else None
        if waiting is None:
            message = "This port is internal to the gateway; send requests to the gateway's own port"
            await PlainTextResponse(message, 403, {"connection": "close"})(scope, receive, send)
            return
        try:
            await self._answer(waiting, scope, receive, send)
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])


def _digest(ticket: bytes) -> bytes:
    """Return a ticket's hash, by which it is looked up, so that the time taken reveals nothing about valid tickets."""
    return hashlib.sha256(ticket).digest()
