"""The fleet's provider: it answers as the real one does on the wire, bills as a call asks it to, and keeps its own books."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from dataclasses import dataclass

from proving.billing import Entry
from proving.fleet_chaos.network import PROVIDER, Namespace
from support.fake_provider import event, message, sse, usage
from support.harness import OPUS

PORT = 8080
PIECES = 5
"""Parts in which a streamed answer's text comes."""

CHARACTERS_PER_TOKEN = 4

KEY_PREFIX = "vk-"
"""Of every virtual key; a call is named by the rest of its key."""


@dataclass
class Billed(Entry):
    """One request that arrived, and what it is billed: of an answer that broke off, what had been generated of it."""

    began: float = 0.0
    ended: float = 0.0
    """By ``time.monotonic``; 0 while it is answered."""

    @property
    def key(self) -> str:
        """Return the virtual key that the call was made with."""
        return KEY_PREFIX + self.session.partition(".")[0]


def body(key: str, session: str, *, tokens_in: int, tokens_out: int, most: int, seconds: float, stream: bool, status: int) -> bytes:
    """Return the body of a call that is billed like this, and answered with this status in this time."""
    order = f"bill {tokens_in} {tokens_out} {round(seconds * 1000)} {status} "
    words = order + "and so on " * (tokens_in // 2)
    fields = {"model": OPUS, "max_tokens": most, "stream": stream, "service_tier": "standard_only", "inference_geo": "global"}
    return json.dumps(fields | {"messages": [{"role": "user", "content": words}]}).encode()


_ORDER = re.compile(rb"bill (\d+) (\d+) (\d+) (\d+) ")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_SESSION = re.compile(rb"x-claude-code-session-id: *([^\r]+)", re.IGNORECASE)


class Provider:
    """The provider; ``bill`` is by session."""

    def __init__(self, hub: Namespace) -> None:
        self._listener = hub.listen(PROVIDER, PORT)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.bill: dict[str, list[Entry]] = {}
        self.url = f"http://{PROVIDER}:{PORT}"

    async def start(self) -> None:
        """Begin to answer."""
        self._server = await asyncio.start_server(self._serve, sock=self._listener, limit=1 << 20)

    async def close(self) -> None:
        """End every answer."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length, session = _LENGTH.search(head), _SESSION.search(head)
                content = await reader.readexactly(int(length[1]) if length else 0)
                order = _ORDER.search(content)
                assert order is not None, head
                await self._answer(writer, session[1].decode() if session else "", content, *map(int, order.groups()))
        self._tasks.discard(task)
        writer.transport.abort()

    async def _answer(
        self, writer: asyncio.StreamWriter, session: str, content: bytes, tokens_in: int, tokens_out: int, took_ms: int, status: int
    ) -> None:
        billed = usage(input_tokens=tokens_in, output_tokens=tokens_out)
        entry = Billed(session, billed, b'"stream": true' in content, status, began=time.monotonic())
        self.bill.setdefault(session, []).append(entry)
        try:
            if status != 200:
                await asyncio.sleep(took_ms / 1000)
                await _send(writer, status, b'{"type":"error","error":{"type":"overloaded_error","message":"from the provider"}}')
            elif entry.streamed:
                await self._stream(writer, entry, took_ms / 1000)
            else:
                await asyncio.sleep(took_ms / 1000)
                await _send(writer, 200, message(**billed))
            entry.whole = True
        finally:
            entry.ended = time.monotonic()

    async def _stream(self, writer: asyncio.StreamWriter, entry: Billed, seconds: float) -> None:
        total = entry.usage["output_tokens"]
        begin, opened, _, closed, *end = sse(first=entry.usage | {"output_tokens": 1}, last=dict(entry.usage))
        text = "word" * (total * CHARACTERS_PER_TOKEN // 4 // PIECES)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        # Until it is sent, none of it has been generated: who leaves now is billed for what it has.
        entry.usage["output_tokens"] = min(1, total)
        _chunk(writer, begin + opened)
        for piece in range(1, PIECES + 1):
            await writer.drain()
            await asyncio.sleep(seconds / PIECES)
            if writer.transport.is_closing():
                raise ConnectionResetError
            entry.usage["output_tokens"] = max(entry.usage["output_tokens"], total * piece // PIECES)
            _chunk(writer, event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}))
        _chunk(writer, closed + b"".join(end))
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def _send(writer: asyncio.StreamWriter, status: int, content: bytes) -> None:
    writer.write(f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n".encode())
    writer.write(content)
    await writer.drain()
