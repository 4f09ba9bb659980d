"""The web application's own server, behind the gateway's port: on loopback, in mitmproxy's event loop, by ticket only.

mitmproxy's hooks can answer only with a whole body. A request that is forwarded to a server streams like any other: an
export of a million calls is sent as it is read, at the pace of its client, and ends when the client leaves.

Other programs on this machine can reach this server's port, and what is forwarded can be printed and saved on its way.
So neither credentials nor bodies are forwarded: they wait here for the request that carries their ticket.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("sluicegate")

TICKET_HEADER = "x-sluicegate-ticket"

KEEP_ALIVE_TIMEOUT_S = 86_400
"""Longer than the forwarding side's: a connection that ended here just as it is used again would fail a request."""

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """The parts of a request that are not forwarded: headers, body, session path, and the address it came from."""

    headers: Headers
    body: bytes
    source: str
    session_path: str


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the gateway and signals when it is serving."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_serving = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        self.is_serving.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: the gateway drains calls before it stops."""
        yield


class ApplicationServer:
    """The server. Create and start it inside the running event loop."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._pending: dict[bytes, PendingRequest] = {}
        """By the ticket's hash."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        config = uvicorn.Config(
            self._redeem_ticket,
            interface="asgi3",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            # Errors of the application are logged below; uvicorn's own are about bad requests of other programs here.
            log_level="critical",
            access_log=False,
            server_header=False,
            date_header=False,
            # Otherwise uvicorn believes headers that name another client, because requests come from loopback.
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_TIMEOUT_S,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve; return once requests are accepted."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))
        await self._server.is_serving.wait()

    def stop(self) -> None:
        """Stop serving at once; responses under way are cut off."""
        self._server.should_exit = self._server.force_exit = True
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        for listener in self._server.servers if self._server.started else ():
            # Not the socket itself: the loop would go on watching its descriptor, which the next connection gets.
            listener.close()

    def issue_ticket(self, headers: Headers, body: bytes, source: str, session_path: str) -> str:
        """Return a ticket for one request from ``source``, which is to be forwarded without a body but with TICKET_HEADER.

        The request is given ``headers``, ``body`` and ``session_path`` back when it arrives.
        """
        ticket = secrets.token_urlsafe(32)
        self._pending[_digest(ticket.encode())] = PendingRequest(headers, body, source, session_path)
        return ticket

    def revoke_ticket(self, ticket: str) -> None:
        """Forget a ticket, used or not."""
        self._pending.pop(_digest(ticket.encode()), None)

    async def _redeem_ticket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Complete a request that has a ticket and answer it; refuse any other."""
        name = TICKET_HEADER.encode()
        tickets = [v for n, v in scope["headers"] if n == name]
        # Removed at once: a ticket that was printed on the way is worthless afterwards.
        pending = self._pending.pop(_digest(tickets[0]), None) if len(tickets) == 1 else None
        if pending is None:
            message = "This port is internal to the gateway; send requests to the gateway's own port"
            await PlainTextResponse(message, 403, {"connection": "close"})(scope, receive, send)
            return
        # The forwarded request has an empty body and says so; the real length is added below.
        headers = [h for h in scope["headers"] if h[0] not in (name, b"content-length")]
        headers += [(n.lower(), v) for n, v in pending.headers]
        if pending.body:
            headers.append((b"content-length", str(len(pending.body)).encode()))
        try:
            own = {"headers": headers, "client": (pending.source, 0), "session_path": pending.session_path}
            await self.app({**scope, **own}, _replace_body(pending.body, receive), send)
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])


def _replace_body(body: bytes, receive: Receive) -> Receive:
    """Return the request's messages with this body in place of the empty one that was forwarded."""
    first = True

    async def replaced() -> Message:
        nonlocal first
        message = await receive()
        if first and message["type"] == "http.request":
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return message

    return replaced


def _digest(ticket: bytes) -> bytes:
    """Return a ticket's hash, by which it is looked up, so that the time taken reveals nothing about valid tickets."""
    return hashlib.sha256(ticket).digest()
