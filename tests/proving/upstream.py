"""A provider fast enough not to be the bottleneck: answers from memory, as a whole, streamed, or at a pace.

    POST /v1/messages                        a plain answer, or an event stream if the body asks for one
    POST /v1/messages?events=50&pause_ms=50  a stream of 55 events, each written by itself at that pace (0: one right after the other)
    POST /v1/messages?events=50&burst=1      the same in one write
    GET /every-answer?events=50&pause_ms=50  from now on each answer is such a stream, whatever is asked: for gateways that drop the query
    GET /every-answer                        as at the beginning

Run as ``python -m proving.upstream [CERTIFICATE_AND_KEY.pem]``; prints its port.
"""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
import sys
from dataclasses import dataclass
from urllib.parse import parse_qs

USAGE = {"input_tokens": 9000, "output_tokens": 120, "cache_read_input_tokens": 4000, "cache_creation_input_tokens": 0}


def event(kind: str, **fields: object) -> bytes:
    """Return a server-sent event, as a chunk of an HTTP/1.1 body."""
    data = f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def delta(number: int) -> bytes:
    """Return a chunk of text; its first characters hold the time it was sent, see ``load.py``."""
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": f"piece {number} of an answer " * 3})


_MESSAGE: dict[str, object] = {
    "id": "msg_proving",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5-5",
    "content": [],
    "stop_reason": None,
    "usage": USAGE | {"output_tokens": 1},
}
BEGIN = event("message_start", message=_MESSAGE) + event("content_block_start", index=0, content_block={"type": "text", "text": ""})
END = (
    event("content_block_stop", index=0)
    + event("message_delta", delta={"stop_reason": "end_turn"}, usage=USAGE)
    + event("message_stop")
    + b"0\r\n\r\n"
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM = STREAM_HEAD + BEGIN + b"".join(delta(i) for i in range(20)) + END
_BODY = json.dumps(
    _MESSAGE | {"content": [{"type": "text", "text": "an answer " * 100}], "stop_reason": "end_turn", "usage": USAGE}
).encode()
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_BODY) + _BODY


@functools.cache
def pieces(events: int) -> tuple[bytes, ...]:
    """Return a stream as it is written: its beginning, each piece of text, its end."""
    return (STREAM_HEAD + BEGIN, *map(delta, range(events)), END)


@dataclass(frozen=True)
class Pace:
    """How a stream is answered: its pieces of text, the seconds between them, or all of it in one write."""

    events: int
    pause_s: float
    is_burst: bool

    @classmethod
    def asked(cls, query: bytes) -> Pace | None:
        """Return what a query asks for; None if it does not."""
        how = parse_qs(query.decode())
        if "events" not in how:
            return None
        return cls(int(how["events"][0]), float(how.get("pause_ms", ["50"])[0]) / 1000, "burst" in how)


class Connection(asyncio.Protocol):
    """One client's connection."""

    transport: asyncio.Transport
    every: Pace | None = None
    """How every call is answered, on all connections."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.loop = asyncio.get_running_loop()
        self.head = bytearray()
        self.target = b""
        self.left = 0
        self.streamed = False

    def data_received(self, data: bytes) -> None:
        while data:
            if self.left:
                took = data[: self.left]
                # The flag stands within the first bytes of the bodies that load.py makes.
                self.streamed = self.streamed or b'"stream":true' in took[:400]
                self.left -= len(took)
                data = data[len(took) :]
                if not self.left:
                    self.answer()
                continue
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = bytes(self.head[:end]), bytes(self.head[end + 4 :])
            self.head.clear()
            self.target = head.split(b" ", 2)[1]
            self.streamed = False
            low = head.lower()
            at = low.find(b"content-length:")
            self.left = int(low[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if not self.left:
                self.answer()

    def answer(self) -> None:
        path, _, query = self.target.partition(b"?")
        asked = Pace.asked(query) if query else None
        if path == b"/every-answer":
            Connection.every = asked
            self.transport.write(PLAIN)
        elif (pace := asked or Connection.every) is None:
            self.transport.write(STREAM if self.streamed else PLAIN)
        elif pace.is_burst:
            self.transport.write(b"".join(pieces(pace.events)))
        else:
            self.transport.write(pieces(pace.events)[0])
            self.follow(pace, 1, self.loop.time() + pace.pause_s)

    def follow(self, pace: Pace, number: int, due: float) -> None:
        """Have the next piece written when it is due, or in the loop's next turn if that has passed: no task for each stream."""
        if due > self.loop.time():
            self.loop.call_at(due, self.write_piece, pace, number, due)
        else:
            self.loop.call_soon(self.write_piece, pace, number, due)

    def write_piece(self, pace: Pace, number: int, due: float) -> None:
        """Write a piece, or after the last one the end."""
        if self.transport.is_closing():
            return
        self.transport.write(pieces(pace.events)[number])
        if number < pace.events:
            self.follow(pace, number + 1, due + pace.pause_s)
        elif number == pace.events:
            self.transport.write(END)


async def main() -> None:
    tls = None
    if len(sys.argv) > 1:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(sys.argv[1])
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, ssl=tls, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
