"""The application's own server, behind the gateway's port: on loopback, in mitmproxy's loop, for requests with a ticket.

mitmproxy's hooks can answer only with a whole body. A request that is forwarded to a server streams like any other: an
export of a million calls leaves as it is read, at the pace of whoever reads it, and ends when they leave.

Other programs on this machine can reach the port, and what is forwarded can be printed and saved on its way. So neither
credentials nor bodies travel: they wait here, for whoever presents the ticket that was made for this one request.
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

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """What a request is given back when it arrives: the headers, body and place that did not travel with it, and whose it is."""

    headers: Headers
    body: bytes
    source: str
    place: str


class _Server(uvicorn.Server):
    """Leaves signals to the gateway, and says when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: a stop is drained first."""
        yield


class ApplicationServer:
    """The server. Make it and start it inside the running loop."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._held: dict[bytes, PendingRequest] = {}
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        config = uvicorn.Config(
            self._enter,
            interface="asgi3",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            # What goes wrong in the application is said below; the rest is what strangers on this machine send.
            log_level="critical",
            access_log=False,
            server_header=False,
            date_header=False,
            # Headers that name another client would be believed, because we forward from loopback.
            proxy_headers=False,
            # Closed by whoever forwards: a connection that ends here, just as it is used again, would fail a request.
            timeout_keep_alive=86_400,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve; returns when it does."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))
        await self._server.up.wait()

    def stop(self) -> None:
        """Stop serving at once; what is being answered is cut off."""
        self._server.should_exit = self._server.force_exit = True
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        for listener in self._server.servers if self._server.started else ():
            # Not the socket itself: the loop would go on watching its number, which the next connection gets.
            listener.close()

    def issue_ticket(self, headers: Headers, body: bytes, source: str, place: str) -> str:
        """A ticket for one request from ``source`` and the page at ``place``, to be sent as TICKET_HEADER, without a body.

        It gets ``headers`` and ``body`` when it arrives.
        """
        ticket = secrets.token_urlsafe(32)
        self._held[_digest(ticket.encode())] = PendingRequest(headers, body, source, place)
        return ticket

    def revoke_ticket(self, ticket: str) -> None:
        """Forget a ticket, used or not."""
        self._held.pop(_digest(ticket.encode()), None)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request with a ticket in, complete again; turn any other away."""
        name = TICKET_HEADER.encode()
        tickets = [v for n, v in scope["headers"] if n == name]
        held = self._held.pop(_digest(tickets[0]), None) if len(tickets) == 1 else None
        if held is None:
            refusal = PlainTextResponse("This is not for you; ask the gateway's own port", 403, {"connection": "close"})
            await refusal(scope, receive, send)
            return
        headers = [h for h in scope["headers"] if h[0] not in (name, b"content-length")]
        headers += [(n.lower(), v) for n, v in held.headers]
        if held.body:
            headers.append((b"content-length", str(len(held.body)).encode()))
        try:
            known = {"headers": headers, "client": (held.source, 0), "place": held.place}
            await self.app({**scope, **known}, _with(held.body, receive), send)
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])


def _with(body: bytes, receive: Receive) -> Receive:
    """The request's messages with this body in place of the empty one that travelled."""
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
    """Tickets are looked up by hash, so the time taken tells nothing about them."""
    return hashlib.sha256(ticket).digest()
