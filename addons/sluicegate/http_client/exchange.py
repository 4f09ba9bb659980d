"""One request with its whole answer, and a message to a webhook."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from sluicegate import __version__
from sluicegate.addresses import refusal_of_server
from sluicegate.http_client.errors import InvalidAnswerError, UnreachableError, innermost
from sluicegate.http_client.library import httpx, proxy_of
from sluicegate.http_client.response import Response
from sluicegate.http_client.trust import ssl_context

WEBHOOK_IO_TIMEOUT_S = 5.0
"""Time to wait for a connection to a webhook, or for its next byte."""

WEBHOOK_DEADLINE_S = 10.0
"""Time the whole exchange with a webhook may take, however slowly the bytes come."""

MAX_RESPONSE_BYTES = 256 * 1024 * 1024
"""Largest answer of a gateway that is read; a list of all keys of a large policy is some tens of megabytes."""


_HEADERS = {"user-agent": f"sluicegate/{__version__}", "accept-encoding": "identity", "connection": "close"}


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float,
    max_bytes: int = MAX_RESPONSE_BYTES,
    needs_body: bool = True,
) -> Response:
    """Send one request and return the answer, whatever its status; with ``needs_body`` False, without a body that cannot be read.

    ``timeout_s`` bounds the time to connect, each wait for bytes, and all of its body. Raises UnreachableError.
    """
    try:
        with (
            httpx.Client(verify=ssl_context(url), trust_env=False, timeout=timeout_s, proxy=proxy_of(url)) as client,
            client.stream(method, url, headers=_HEADERS | dict(headers or {}), content=body) as answer,
        ):
            received, end = bytearray(), time.monotonic() + timeout_s
            # Of what is compressed, though nobody asked for that, a few bytes could become gigabytes.
            is_encoded = answer.headers.get("content-encoding", "identity").lower() != "identity"
            for chunk in answer.iter_raw():
                received += chunk
                if is_encoded or len(received) > max_bytes or time.monotonic() > end:
                    if not needs_body:
                        return Response(answer.status_code, b"", answer.headers)
                    raise UnreachableError("its answer is too long, too slow or compressed")
            return Response(answer.status_code, bytes(received), answer.headers)
    except (httpx.InvalidURL, httpx.ProtocolError) as e:
        raise InvalidAnswerError(str(e)) from e
    except (httpx.HTTPError, OSError, ValueError) as e:
        raise UnreachableError(str(e) or type(e).__name__) from e


def post_webhook(url: str, body: bytes, headers: Mapping[str, str]) -> str | None:
    """Return None if the receiver accepted the POST (2xx), else what went wrong, without the URL."""
    if why := _refusal_of_receiver(url):
        return why
    try:
        status = asyncio.run(_post(url, body, headers))
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as e:
        if (untrusted := innermost(e, ssl.SSLCertVerificationError)) is not None:
            return f"its certificate is not trusted: {untrusted.verify_message}"
        # Only the class: the text of some errors quotes the URL, or what was sent or received.
        return f"it could not be reached ({type(innermost(e, OSError) or e).__name__})"
    if 200 <= status < 300:
        return None
    return f"it answered {status}" + ("; redirects are not followed" if 300 <= status < 400 else "")


def _refusal_of_receiver(url: str) -> str | None:
    """Return why nothing is posted to a URL: its name leads where no receiver can be, such as a cloud's metadata."""
    try:
        found = socket.getaddrinfo((parts := urlsplit(url)).hostname, parts.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return None  # the attempt itself will say so
    if any(refusal_of_server(str(address[0])) for *_, address in found):
        return "its host has a link-local, unspecified or reserved address; nothing was sent"
    return None


async def _post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Return the status of the answer; its body is never read. Async only for the deadline: httpx's begins again with each byte."""
    async with asyncio.timeout(WEBHOOK_DEADLINE_S):
        client = httpx.AsyncClient(verify=ssl_context(url), trust_env=False, timeout=WEBHOOK_IO_TIMEOUT_S, proxy=proxy_of(url))
        async with client, client.stream("POST", url, headers=_HEADERS | dict(headers), content=body) as answer:
            return answer.status_code
