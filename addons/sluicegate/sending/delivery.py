"""The delivery of an answer to its client: as it arrives, and translated where its provider speaks another dialect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from starlette.types import Message, Send

from sluicegate.calls.answer import MAX_JSON_BYTES
from sluicegate.calls.plan import Target
from sluicegate.http_client.errors import UnreachableError
from sluicegate.http_client.streaming import StreamedAnswer
from sluicegate.providers.answers.content_encoding import ContentDecoder
from sluicegate.sending.answer_facts import Headers, decoded, header
from sluicegate.sending.dialects import Translation
from sluicegate.sending.failure import Failed, cause_of_silence

PING_AFTER_S = 10.0
"""Silence of a translated stream after which its client gets a ping: proxies and clients give up on ones without a word."""

ROUTE_HEADER = b"x-sluicegate-route"

_DROPPED = frozenset((b"transfer-encoding", b"connection", b"keep-alive", b"trailer", b"upgrade", b"proxy-connection"))
"""Headers of an answer that are about the connection it came on."""


class Delivery:
    """Sends a client its answer, of one attempt: ``number`` counts from 0."""

    def __init__(self, send: Send, target: Target, number: int, between: Translation | None = None) -> None:
        self.send, self.target, self.number, self.between = send, target, number, between
        self.written_at = time.monotonic()

    async def begin(self, status: int, headers: Headers) -> None:
        """Send the head of the answer, which names the target."""
        kept = [(n.lower(), v) for n, v in headers if n.lower() not in _DROPPED]
        kept.append((ROUTE_HEADER, f"{self.target}; attempt={self.number + 1}".encode("ascii", "replace")))
        await self.send({"type": "http.response.start", "status": status, "headers": kept})

    async def write(self, chunk: bytes, *, is_last: bool = False) -> None:
        """Send a chunk of the answer."""
        self.written_at = time.monotonic()
        message: Message = {"type": "http.response.body", "body": chunk, "more_body": not is_last}
        await self.send(message)

    async def pass_on(self, answer: StreamedAnswer, head: list[bytes], rest: AsyncIterator[bytes]) -> None:
        """Send an answer as it arrives.

        The client has a part of it from here on: where it breaks off, it breaks off for the client too.
        """
        between = self.between
        await self.begin(answer.status, answer.headers if between is None else between.head(answer.headers))
        pings = None if between is None else asyncio.ensure_future(self.ping_while_silent(between))
        try:
            await self.pass_on_body(answer, head, rest)
        finally:
            if pings is not None:
                pings.cancel()
        await self.write(b"", is_last=True)

    async def ping_while_silent(self, between: Translation) -> None:
        """Tell the client of a translated stream that its answer still comes, whenever nothing has for a while."""
        while True:
            silent_s = time.monotonic() - self.written_at
            if silent_s < PING_AFTER_S:
                await asyncio.sleep(PING_AFTER_S - silent_s)
            elif ping := between.answers.ping():
                await self.write(ping)
            else:
                return

    async def pass_on_body(self, answer: StreamedAnswer, head: list[bytes], rest: AsyncIterator[bytes]) -> None:
        """Send the chunks of an answer."""
        between = self.between
        decoder = ContentDecoder(header(answer, b"content-encoding") if between is not None else "")
        for chunk in head:
            await self.write_pieces(decoder.feed(chunk))
        try:
            async for chunk in rest:
                await self.write_pieces(decoder.feed(chunk))
        except UnreachableError:
            if between is None:
                raise
            # A stream that breaks off ends as the client's own API would end it.
        await self.write_pieces(None)

    async def write_pieces(self, chunk: bytes | None) -> None:
        """Send what the client gets for a chunk; None stands for the end."""
        if self.between is not None:
            for piece in self.between.pieces(chunk):
                await self.write(piece)
        elif chunk is not None:
            await self.write(chunk)

    async def pass_on_whole(self, between: Translation, answer: StreamedAnswer, body: bytes) -> None:
        """Send an answer that is translated in one piece."""
        status, translated = between.whole(answer.status, decoded(answer, body))
        await self.begin(status, between.head(answer.headers))
        await self.write(translated, is_last=True)


async def whole_body(chunks: AsyncIterator[bytes], target: Target) -> bytes:
    """Return the rest of an answer that is translated in one piece. Raises Failed for one that breaks off, or is too long."""
    body = bytearray()
    try:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_JSON_BYTES:
                raise Failed("5xx", f"{target.provider} answered with more than {MAX_JSON_BYTES >> 20} MB")
    except UnreachableError as e:
        raise Failed(cause_of_silence(e), f"the answer of {target.provider} broke off: {e}") from e
    return bytes(body)


async def more_of_whole(chunks: AsyncIterator[bytes], longest: int) -> list[bytes]:
    """Return what follows the beginning of an answer in one piece: all of it, or ``longest`` bytes of one that is longer.

    Its client can use no part of it alone. So where it breaks off, Failed is raised: another attempt may follow.
    """
    more: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            more.append(chunk)
            size += len(chunk)
            if size > longest:
                break
    except UnreachableError as e:
        raise Failed(cause_of_silence(e), f"the answer broke off: {e}") from e
    return more
