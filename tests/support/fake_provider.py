"""A provider on loopback that runs a test's script, and records exactly what it receives."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import orjson


@dataclass
class Seen:
    """One request as it arrived: the head's raw lines and the body."""

    head: bytes
    body: bytes

    @property
    def lines(self) -> list[bytes]:
        return self.head.split(b"\r\n")

    @property
    def target(self) -> str:
        return self.lines[0].split(b" ")[1].decode()

    @property
    def headers(self) -> list[tuple[str, str]]:
        pairs = (line.partition(b":") for line in self.lines[1:] if line)
        return [(n.decode("latin-1"), v.strip().decode("latin-1")) for n, _, v in pairs]

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name), None)


Script = Callable[["Peer", Seen], None]


@dataclass
class Peer:
    """The connection a script answers on."""

    conn: socket.socket
    released: threading.Event = field(default_factory=threading.Event)

    def send(self, data: bytes) -> None:
        self.conn.sendall(data)

    def head(self, status: int = 200, *headers: str) -> None:
        self.send("\r\n".join([f"HTTP/1.1 {status} X", *headers, "", ""]).encode())

    def chunk(self, data: bytes) -> None:
        self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def end(self) -> None:
        self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        self.conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.conn.close()


def usage(**fields: Any) -> dict[str, Any]:
    """Return an Anthropic usage object; all zero except ``fields``."""
    base = {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    return base | fields


def event(kind: str, **fields: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"


def sse(
    text: str = "Hello",
    model: str = "claude-opus-5-5",
    *,
    first: dict[str, Any] | None = None,
    last: dict[str, Any] | None = None,
) -> list[bytes]:
    """Return the events of a streamed answer, one piece each."""
    first = first or usage(input_tokens=100, output_tokens=1)
    last = last or usage(input_tokens=100, output_tokens=50)
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [], "usage": first}
    return [
        event("message_start", message=message),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}),
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage=last),
        event("message_stop"),
    ]


def message(model: str = "claude-opus-5-5", **fields: Any) -> bytes:
    """Return a plain answer with this usage."""
    return orjson.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": "Hello"}],
            "stop_reason": "end_turn",
            "usage": usage(**(fields or {"input_tokens": 100, "output_tokens": 50})),
        }
    )


def plain(body: bytes | None = None, status: int = 200, *headers: str) -> Script:
    """Return a whole answer with a length."""

    def run(peer: Peer, _: Seen) -> None:
        content = message() if body is None else body
        peer.head(status, "content-type: application/json", f"content-length: {len(content)}", *headers)
        peer.send(content)

    return run


def streamed(pieces: list[bytes] | None = None, *headers: str, pause: float = 0) -> Script:
    """Return a chunked event stream, one chunk a piece."""

    def run(peer: Peer, _: Seen) -> None:
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked", *headers)
        for piece in pieces or sse():
            peer.chunk(piece)
            if pause:
                time.sleep(pause)
        peer.end()

    return run


def unchunked(conn: socket.socket, data: bytes) -> tuple[bytes, bytes]:
    """Return a chunked body, of which ``data`` has already arrived, and what came after it."""
    body = b""
    while True:
        while b"\r\n" not in data:
            data += _more(conn)
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        while len(data) < length + 2:
            data += _more(conn)
        body, data = body + data[:length], data[length + 2 :]
        if length == 0:
            return body, data


def _more(conn: socket.socket) -> bytes:
    got = conn.recv(65536)
    if not got:
        raise ConnectionError("the request broke off")
    return got


class FakeProvider:
    """Serves ``script`` to every request, on as many connections as come."""

    def __init__(
        self, script: Script | None = None, tls: ssl.SSLContext | None = None, listener: socket.socket | None = None
    ) -> None:
        """Serve on ``listener``, such as a socket of another network namespace, or else on loopback."""
        self.tls = tls
        self.sni: list[str | None] = []
        if tls is not None:
            tls.sni_callback = lambda _, name, __: self.sni.append(name)
        self.script = script or plain()
        self.seen: list[Seen] = []
        self.connections = 0
        self._listener = listener or socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        # Reset connections that wait to be accepted: the next provider may get the same port and would inherit them.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(60)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            # As servers do: otherwise the second write of an answer waits 40 ms for the first to be acknowledged.
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        data = b""
        try:
            if self.tls is not None:
                conn = self.tls.wrap_socket(conn, server_side=True)
            peer = Peer(conn)
            while True:
                while b"\r\n\r\n" not in data:
                    got = conn.recv(65536)
                    if not got:
                        return
                    data += got
                head, _, data = data.partition(b"\r\n\r\n")
                seen = Seen(head, b"")
                if (seen.header("transfer-encoding") or "").lower() == "chunked":
                    seen.body, data = unchunked(conn, data)
                else:
                    length, body = int(seen.header("content-length") or 0), bytearray(data)
                    while len(body) < length:
                        body += _more(conn)
                    seen.body, data = bytes(body[:length]), bytes(body[length:])
                self.seen.append(seen)
                self.script(peer, seen)
        except OSError:
            return
        finally:
            conn.close()


def held(go: threading.Event) -> Script:
    """Return a stream that begins, and ends when it may."""

    def run(peer: Peer, _: Seen) -> None:
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        peer.chunk(sse()[0])
        go.wait(60)
        for piece in sse()[1:]:
            peer.chunk(piece)
        peer.end()

    return run
