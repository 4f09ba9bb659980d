"""A provider fast enough not to be the bottleneck: answers from memory, as a whole, streamed, or at a pace.

    POST /v1/messages                        a plain answer, or an event stream if the body asks for one
    POST /v1/messages?events=50&pause_ms=50  a stream at that pace

Run as ``python -m proving.upstream [CERTIFICATE_AND_KEY.pem]``; prints its port.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
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


class Connection(asyncio.Protocol):
    """One client's connection."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.head = bytearray()
        self.target = b""
        self.left = 0
        self.streamed = False
        self.tasks: set[asyncio.Task[None]] = set()

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
        if b"?" in self.target:
            task = asyncio.get_running_loop().create_task(self.paced(parse_qs(self.target.partition(b"?")[2].decode())))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            self.transport.write(STREAM if self.streamed else PLAIN)

    async def paced(self, how: dict[str, list[str]]) -> None:
        events, pause = int(how.get("events", ["20"])[0]), int(how.get("pause_ms", ["50"])[0]) / 1000
        self.transport.write(STREAM_HEAD + BEGIN)
        loop = asyncio.get_running_loop()
        due = loop.time()
        for number in range(events):
            due += pause
            await asyncio.sleep(due - loop.time())
            if self.transport.is_closing():
                return
            self.transport.write(delta(number))
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
