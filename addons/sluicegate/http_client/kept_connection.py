"""A connection to a server over HTTP/1.1 that serves one request after another."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import h11

from sluicegate.http_client.dialling import MAX_HEAD_BYTES, Way, proxy_headers
from sluicegate.http_client.errors import InvalidRequestError, NoAnswerError, TooSlowError
from sluicegate.http_client.wire import Wire, is_too_slow, reason_of


class KeptConnection:
    """A connection between requests, or under one. What may be kept after a request is decided by ``may_be_kept``."""

    def __init__(self, way: Way, wire: Wire, context: ssl.SSLContext | None) -> None:
        self.way, self.context = way, context
        """``context`` holds the authorities that vouched for the server."""
        self._wire = wire
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self.free_since = 0.0
        """When the last request was over, in seconds of the event loop's clock."""

    async def send(self, request: h11.Request, body: bytes, timeout_s: float) -> h11.Response:
        """Send a request and return the head of its answer. Raises NoAnswerError; then the connection is of no more use."""
        http, wire = self._http, self._wire
        try:
            sent = http.send(request) or b""
            if body:
                sent += http.send(h11.Data(data=body)) or b""
            http.send(h11.EndOfMessage())
            await wire.write(sent, timeout_s)
            while not isinstance(event := await self._next(timeout_s), h11.Response):
                if isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                    continue
                raise NoAnswerError("it switches to another protocol")
        except (OSError, h11.ProtocolError) as e:
            raise _no_answer(e) from e
        framing = [name for name, _ in event.headers if name in (b"content-length", b"transfer-encoding")]
        if len(framing) > 1 or (b"transfer-encoding" in framing and event.http_version < b"1.1"):
            # Of two readers, each may take another one for the length: the rest would be another answer to one of them.
            raise NoAnswerError("its answer says in two ways how long it is")
        return event

    async def chunks(self, timeout_s: float) -> AsyncIterator[bytes]:
        """Yield the body of the answer as it arrives: what has arrived together stays together. Raises NoAnswerError."""
        is_over = False
        while not is_over:
            chunk, is_over = await self._chunk(timeout_s)
            if chunk:
                yield chunk

    async def _chunk(self, timeout_s: float) -> tuple[bytes, bool]:
        """Return what has arrived of the body, and whether it is over."""
        found: list[bytes] = []
        try:
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    if found:
                        break
                    self._http.receive_data(await self._wire.read(timeout_s))
                elif isinstance(event, h11.Data):
                    found.append(bytes(event.data))
                else:
                    break
        except (OSError, h11.ProtocolError) as e:
            raise _no_answer(e) from e
        return b"".join(found), event is not h11.NEED_DATA

    async def _next(self, timeout_s: float) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self._wire.read(timeout_s)
            if not data and self._http.their_state is h11.SEND_RESPONSE:
                raise h11.RemoteProtocolError("the server closed the connection without an answer")
            self._http.receive_data(data)
        return event

    def may_be_kept(self) -> bool:
        """Return whether another request may be sent, now that one is over; if not, the connection is closed."""
        http = self._http
        if (
            http.our_state is h11.DONE
            and http.their_state is h11.DONE
            and http.trailing_data == (b"", False)
            # A server that answers early may never read the rest, and would take the next request for it.
            and self._wire.has_sent_all()
            and self._wire.is_silent()
        ):
            http.start_next_cycle()
            self.free_since = asyncio.get_running_loop().time()
            return True
        self.close()
        return False

    def is_usable(self) -> bool:
        """Return whether the server has said nothing since the last answer, not even that it closes."""
        return self._wire.is_still_silent()

    def close(self) -> None:
        """Close the connection at once."""
        self._wire.transport.abort()


def request_on(way: Way, method: str, target: bytes, headers: list[tuple[bytes, bytes]], length: int) -> h11.Request:
    """Return a request as it is sent on a way; ``length`` is its body's in bytes. Raises InvalidRequestError."""
    if way.proxy is not None and way.scheme == "http":
        # A proxy gets the whole URL, and its own credentials, for what is not encrypted.
        target = b"http://" + way.authority.removesuffix(b":80") + target
        headers = [*proxy_headers(way.proxy), *headers]
    if not any(name.lower() == b"content-length" for name, _ in headers):
        headers = [*headers, (b"content-length", b"%d" % length)]
    try:
        return h11.Request(method=method, target=target, headers=headers)
    except h11.LocalProtocolError as e:
        # Without its words: they quote what was to be sent.
        raise InvalidRequestError("a header or the path holds a character that HTTP does not allow there") from e


def _no_answer(error: Exception) -> NoAnswerError:
    return (TooSlowError if is_too_slow(error) else NoAnswerError)(reason_of(error))
