"""The web application's own server, behind the gateway's port, which forwards requests to it by ticket.

Neither credentials nor bodies are forwarded: they wait here for the request that carries their ticket.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluicegate.network.loopback.ticket_server import TICKET_HEADER, TicketServer

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """The parts of a request that are not forwarded: headers, body, session path, query, and who sent it, over TLS or not."""

    headers: Headers
    body: bytes
    source: str
    session_path: str
    is_tls: bool = False
    port: int = 0
    """The port of ours that it came to."""
    query: bytes | None = None
    """What stood behind the ``?``, where that is secret; None: it is forwarded."""


class ApplicationServer(TicketServer[PendingRequest]):
    """The server. A request is given its headers, body and session path back when it arrives with its ticket."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(self._complete)
        self.app = app

    async def _complete(self, pending: PendingRequest, scope: Scope, receive: Receive, send: Send) -> None:
        # The forwarded request has an empty body and says so; the real length is added below.
        headers = [h for h in scope["headers"] if h[0] not in (TICKET_HEADER.encode(), b"content-length")]
        headers += [(n.lower(), v) for n, v in pending.headers]
        if pending.body:
            headers.append((b"content-length", str(len(pending.body)).encode()))
        own = {"headers": headers, "client": (pending.source, 0), "session_path": pending.session_path}
        own["scheme"] = "https" if pending.is_tls else "http"
        own["server"] = ("", pending.port)
        if pending.query is not None:
            own["query_string"] = pending.query
        await self.app({**scope, **own}, _replace_body(pending.body, receive), send)


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
