"""One GET by the standard library, for a program that does nothing else: importing httpx takes longer than all of its work."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from sluicegate import __version__
from sluicegate.http_client.errors import InvalidAnswerError, UnreachableError
from sluicegate.http_client.response import Response

MAX_BYTES = 16 << 20


def get(url: str, headers: Mapping[str, str], *, timeout_s: float) -> Response:
    """Return the answer without its headers, whatever its status. ``timeout_s`` bounds each wait and all of the body.

    Like ``exchange.request`` it follows no redirect, uses no proxy and verifies TLS. Raises UnreachableError.
    """
    try:
        connection, target = _connection_to(url, timeout_s)
    except ValueError as e:
        raise InvalidAnswerError(str(e)) from e
    try:
        connection.request("GET", target, headers={"user-agent": f"sluicegate/{__version__}", "connection": "close", **headers})
        answer, body, end = connection.getresponse(), bytearray(), time.monotonic() + timeout_s
        while chunk := answer.read1(1 << 16):
            body += chunk
            if len(body) > MAX_BYTES or time.monotonic() > end:
                raise UnreachableError("its answer is too long or too slow")
        return Response(answer.status, bytes(body))
    except http.client.HTTPException as e:
        raise InvalidAnswerError(str(e)) from e
    except (OSError, ValueError) as e:
        raise UnreachableError(str(e) or type(e).__name__) from e
    finally:
        connection.close()


def _connection_to(url: str, timeout_s: float) -> tuple[http.client.HTTPConnection, str]:
    """Return a connection that is not open yet, and the request's target. Raises ValueError or UnreachableError."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "") or "/"
    if parts.scheme == "http" and parts.hostname:
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s), target
    if parts.scheme == "https" and parts.hostname:
        from sluicegate.http_client.trust import trusting_context

        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=trusting_context())
        return connection, target
    raise UnreachableError(f"{url} is not the URL of a gateway")
