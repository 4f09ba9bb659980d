"""Calls to an ASGI application within this process: one request in, one whole response out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class AsgiResponse:
    """A whole response."""

    status: int = 500
    headers: Headers = field(default_factory=list)
    body: bytes = b""


async def call(
    app: ASGIApp,
    method: str,
    target: str,
    headers: Iterable[tuple[bytes, bytes]],
    body: bytes,
    client: str,
    extra: dict[str, Any],
) -> AsgiResponse:
    """Send one request through ``app``. ``target`` is path and query as sent; ``extra`` is added to the scope."""
    raw, _, query = target.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw),
        "raw_path": raw.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"),
        "root_path": "",
        "headers": [(n.lower(), v) for n, v in headers],
        "client": (client, 0),
        "server": None,
        **extra,
    }
    response = AsgiResponse()
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return pending.pop() if pending else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            response.status, response.headers = message["status"], list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            response.body += message.get("body", b"")

    await app(scope, receive, send)
    return response
