"""What an answer of a provider says about itself: in its headers, and in the body of an error."""

from __future__ import annotations

import asyncio
import contextlib

from sluicegate.http_client.errors import UnreachableError
from sluicegate.http_client.streaming import StreamedAnswer
from sluicegate.providers.answers.content_encoding import ContentDecoder

Headers = list[tuple[bytes, bytes]]

MAX_ERROR_BYTES = 1 << 20
"""Bytes of an error answer that are kept while another target is tried."""

ERROR_BODY_TIMEOUT_S = 10.0
"""How long the body of an error may take: its status is enough to try another target."""


async def whole_error(answer: StreamedAnswer) -> bytes:
    """Return an error answer's body, as far as it is kept."""
    body = bytearray()
    with contextlib.suppress(UnreachableError, TimeoutError):
        async with asyncio.timeout(ERROR_BODY_TIMEOUT_S):
            async for chunk in answer.chunks:
                body += chunk
                if len(body) >= MAX_ERROR_BYTES:
                    break
    return bytes(body)


def decoded(answer: StreamedAnswer, body: bytes) -> bytes:
    """Return a body without its content encoding, though none was asked for; empty if it cannot be decoded."""
    return ContentDecoder(header(answer, b"content-encoding")).feed(body)


def header(answer: StreamedAnswer, name: bytes) -> str:
    """Return a header of an answer, its values joined; empty if it has none."""
    return b",".join(v for n, v in answer.headers if n.lower() == name).decode("latin-1")


def retry_after_ms(headers: Headers) -> int | None:
    """Return how long a provider asks to wait, where it says so in seconds."""
    text = next((v for n, v in headers if n.lower() == b"retry-after"), b"")
    return int(text) * 1000 if text.isdigit() and len(text) < 8 else None


_LIMIT_HEADERS = (
    (b"anthropic-ratelimit-requests-remaining", b"anthropic-ratelimit-requests-limit"),
    (b"anthropic-ratelimit-tokens-remaining", b"anthropic-ratelimit-tokens-limit"),
    (b"x-ratelimit-remaining-requests", b"x-ratelimit-limit-requests"),
    (b"x-ratelimit-remaining-tokens", b"x-ratelimit-limit-tokens"),
)
"""Headers in which a provider says what is left of a rate limit, and of how much."""


def headroom(headers: Headers) -> float | None:
    """Return the smallest share that is left of the rate limits that an answer reports; None if it reports none."""
    values = {n.lower(): int(v) for n, v in headers if v.isdigit() and len(v) < 16}
    shares = [values[left] / values[limit] for left, limit in _LIMIT_HEADERS if left in values and values.get(limit)]
    return min(1.0, *shares) if shares else None
