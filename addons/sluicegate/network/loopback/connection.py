"""A connection of the server on loopback: requests of HTTP/1, one after another, each answered by an ASGI application.

The other end is the gateway's own port, so this knows only what that sends: a head, and a body of a declared length, which is left
unread because nothing secret is forwarded. Whatever else comes is from another program on this machine, and is refused.
"""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Scope

MAX_HEAD_BYTES = 64 << 10
"""Bytes of a request's head, which has a path and a ticket."""

_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([A-Z]{1,32}) ([\x21-\x7e]+) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_NO_BODY = (204, 304)
"""Statuses whose answers have no body, nor a header about one."""


class Connection(asyncio.Protocol):
    """One connection. ``open_connections`` holds it while it is open."""

    def __init__(self, app: ASGIApp, open_connections: set[Connection]) -> None:
        self._app, self._open = app, open_connections
        self._received = bytearray()
        """What is not understood yet: the head of a request, or what follows the one that is being answered."""
        self._unread = 0
        """Bytes of a request's body that are still to come."""
        self._task: asyncio.Task[None] | None = None
        self._answer: Answer | None = None
        self._is_writable = asyncio.Event()
        self._is_writable.set()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the application that whoever asked has left."""
        self._open.discard(self)
        self.resume_writing()
        if self._answer is not None:
            self._answer.leave()

    def data_received(self, data: bytes) -> None:
        """Begin to answer a request once its head is there."""
        if self._unread:
            skipped = min(self._unread, len(data))
            self._unread -= skipped
            data = data[skipped:]
        self._received += data
        if self._answer is None:
            self._begin()
        elif len(self._received) > MAX_HEAD_BYTES:
            self.transport.abort()

    def pause_writing(self) -> None:
        """Have the application wait: the other end does not keep up."""
        self._is_writable.clear()

    def resume_writing(self) -> None:
        """Let the application go on."""
        self._is_writable.set()

    async def write(self, data: bytes) -> None:
        """Send data, and wait while too much of it is on its way; what is written to a closed connection is dropped."""
        if self.transport.is_closing():
            return
        self.transport.write(data)
        if not self._is_writable.is_set():
            await self._is_writable.wait()

    def _begin(self) -> None:
        end = self._received.find(_END)
        if end < 0 and len(self._received) <= MAX_HEAD_BYTES:
            return
        head = None if end < 0 else _head_of(bytes(self._received[:end]))
        if head is None:
            self._close_with(400)
            return
        scope, length = head
        there = len(self._received) - end - len(_END)
        self._unread = max(0, length - there)
        del self._received[: end + len(_END) + min(length, there)]
        self._answer = Answer(self, scope)
        self._task = asyncio.get_running_loop().create_task(self._serve(self._answer))

    async def _serve(self, answer: Answer) -> None:
        """Answer one request; an application that does not finish its answer breaks it off, as far as anyone can see."""
        try:
            await self._app(answer.scope, answer.receive, answer.send)
        finally:
            self._answer = self._task = None
            if not answer.has_begun:
                self._close_with(500)
            elif not answer.is_complete or answer.closes:
                self.transport.close()
            elif self._received and not self.transport.is_closing():
                self._begin()

    def _close_with(self, status: int) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 %d %b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % (status, _PHRASES[status]))
            self.transport.close()


class Answer:
    """The application's side of one request: its ``receive`` and its ``send``."""

    def __init__(self, connection: Connection, scope: Scope) -> None:
        self._connection, self.scope = connection, scope
        self._is_first = True
        self._is_over = asyncio.Event()
        self._head: bytes | None = None
        """The answer's head while it waits for the first of the body: the two are sent together."""
        self._is_chunked = self._has_body = False
        self._left: int | None = None
        """Bytes of the body that the head promises and that are still to come; None where it promises none."""
        self.has_begun = self.is_complete = False
        is_old = scope["http_version"] == "1.0"
        self.closes = is_old or any(n == b"connection" and b"close" in v.lower() for n, v in scope["headers"])
        """Whether the connection ends with the answer."""

    def leave(self) -> None:
        """Note that whoever asked has left."""
        self._is_over.set()

    async def receive(self) -> Message:
        """Return the request, whose body is empty here; then, once it happens, that the exchange is over."""
        if self._is_first:
            self._is_first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._is_over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a part of the answer. Raises ValueError for a header that would end early, or a body of another length."""
        if message["type"] == "http.response.start":
            self._start(message["status"], list(message.get("headers", ())))
            return
        body, is_last = message.get("body", b""), not message.get("more_body", False)
        self._count(len(body), is_last=is_last)
        written = self._take_head(len(body) if is_last else None)
        if self._has_body and self._is_chunked:
            if body:
                written += b"%x\r\n%b\r\n" % (len(body), body)
            if is_last:
                written += b"0\r\n\r\n"
        elif self._has_body:
            written += body
        if is_last:
            self.is_complete = True
            self._is_over.set()
        if written:
            await self._connection.write(written)

    def _count(self, size: int, *, is_last: bool) -> None:
        """Count a piece of the body. Raises ValueError for one that is more, or that leaves less, than the head promises."""
        if self._left is None:
            return
        self._left -= size
        if self._left < 0 or (is_last and self._left):
            # On a connection that is kept, the rest would be taken for the next answer, or the next answer for the rest.
            raise ValueError("the answer's body has another length than its head says")

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        lines = [b"HTTP/1.1 %d %b" % (status, _PHRASES.get(status, b"")), *(b"%b: %b" % field for field in headers)]
        head = b"\r\n".join(lines)
        if head.count(b"\n") != len(headers) or head.count(b"\r") != len(headers) or b"\0" in head:
            raise ValueError("a header of the answer holds a line break")
        names = {name.lower() for name, _ in headers}
        lengths = {value for name, value in headers if name.lower() == b"content-length"}
        if b"transfer-encoding" in names or len(lengths) > 1 or not all(map(bytes.isdigit, lengths)):
            raise ValueError("the answer's head does not say how long its body is")
        self._has_body = self.scope["method"] != "HEAD" and status not in _NO_BODY
        self._left = int(lengths.pop()) if lengths and self._has_body else None
        self._is_chunked = self._has_body and b"content-length" not in names
        self.closes = self.closes or any(n.lower() == b"connection" and b"close" in v.lower() for n, v in headers)
        if self.closes and b"connection" not in names:
            head += b"\r\nconnection: close"
        self._head, self.has_begun = head, True
        # The head of a stream does not wait for an event that may come much later.
        asyncio.get_running_loop().call_soon(self._send_head)

    def _send_head(self) -> None:
        head = self._take_head(None)
        if head and not self._connection.transport.is_closing():
            self._connection.transport.write(head)

    def _take_head(self, length: int | None) -> bytes:
        """Return the head if it has not been sent; ``length`` is the body's where all of it is there."""
        head, self._head = self._head, None
        if head is None:
            return b""
        if self._is_chunked and (length is not None or self.scope["http_version"] == "1.0"):
            # HTTP/1.0 has no chunks: without a length, the end of the connection is that of the body.
            self._is_chunked = False
            if length is not None:
                head += b"\r\ncontent-length: %d" % length
        elif self._is_chunked:
            head += b"\r\ntransfer-encoding: chunked"
        return head + _END


def _head_of(head: bytes) -> tuple[Scope, int] | None:
    """Return a request's head as ASGI has it and the length of its body; None for what the gateway's port does not send."""
    first, *rest = head.split(b"\r\n")
    line, fields = _REQUEST_LINE.fullmatch(first), [_FIELD.fullmatch(field) for field in rest]
    if line is None:
        return None
    headers = [(found[1].lower(), found[2]) for found in fields if found is not None]
    lengths = {value for name, value in headers if name == b"content-length"} or {b"0"}
    length = next(iter(lengths))
    is_framed = len(lengths) == 1 and length.isdigit() and len(length) < 16
    if len(headers) < len(fields) or not is_framed or any(name == b"transfer-encoding" for name, _ in headers):
        return None
    path, _, query = line[2].partition(b"?")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": f"1.{line[3].decode()}",
        "method": line[1].decode(),
        "scheme": "http",
        "path": unquote(path.decode()),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": None,
        "server": None,
    }
    return scope, int(length)
