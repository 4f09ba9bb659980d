"""Answers in Bedrock's binary frames: read from a provider that streams so, written for a client that reads so."""

from __future__ import annotations

import re
from typing import Protocol

import orjson

from sluicegate.providers import PROTOCOLS
from sluicegate.providers.answers.event_stream import (
    CONTENT_TYPE,
    ERROR_TYPES,
    EventStreamText,
    FrameError,
    encode_chunk,
    encode_exception,
)
from sluicegate.providers.answers.sse import SseParser
from sluicegate.providers.answers.usage_reader import parse_json
from sluicegate.translation import Failed, Finished, reworded_error

_SSE, _JSON = "text/event-stream; charset=utf-8", "application/json"

_PING = b'{"type":"ping"}'

_IS_OVER = re.compile(rb'^(?:event: (?:message_stop|error)$|data: ?\{"type": ?"(?:message_stop|error)")', re.MULTILINE)
"""The event that ends an answer of Messages: no text can look like it, because in JSON a line end is escaped."""

_EXCEPTIONS = {kind: name for name, kind in ERROR_TYPES.items() if name != "modelStreamErrorException"}


class Answers(Protocol):
    """What turns a provider's answer into the client's, streamed or whole."""

    @property
    def ending(self) -> Finished | Failed | None:
        """Return how the answer ended; None while it has not."""

    @property
    def content_type(self) -> str:
        """Return the content type of what the client gets."""

    def feed(self, data: bytes) -> bytes:
        """Return what the client gets for these bytes of the stream."""

    def end(self) -> bytes:
        """Return what the client gets when the provider's stream ends."""

    def ping(self) -> bytes:
        """Return what tells a client of a stream that the answer still comes; empty where its API has nothing to say it with."""

    def whole(self, body: bytes) -> bytes:
        """Return the client's body for a whole answer."""

    def error(self, status: int, body: bytes) -> tuple[int, bytes]:
        """Return the client's status and body for a provider's answer with an error status."""


class SameDialect:
    """Messages from a provider to a client, event by event as they are; only their envelope may differ."""

    def __init__(self, *, is_streamed: bool) -> None:
        self.ending: Finished | Failed | None = None
        self.content_type = _SSE if is_streamed else _JSON
        self._events = SseParser()
        self._is_over = False

    def feed(self, data: bytes) -> bytes:
        """Return the events that these bytes complete."""
        text = self._events.complete(data)
        self._is_over = self._is_over or _IS_OVER.search(text) is not None
        return text

    def end(self) -> bytes:
        """Return the last event where it waits for its blank line; an error event for an answer that broke off."""
        last = self._events.remainder().rstrip(b"\n")
        if not self._is_over and _IS_OVER.search(last) is not None and last.endswith(b"}"):
            # Its blank line never came.
            return last + b"\n\n"
        return b"" if self._is_over else _error_event("The provider's answer broke off.")

    def ping(self) -> bytes:
        """Return Anthropic's ping."""
        return b"event: ping\ndata: " + _PING + b"\n\n"

    def whole(self, body: bytes) -> bytes:
        """Return the same message."""
        return body

    def error(self, status: int, body: bytes) -> tuple[int, bytes]:
        """Return an error in Anthropic's envelope."""
        self.ending, status, written = reworded_error("messages", status, body)
        return status, written


class Framed:
    """Answers that come in frames (``reads``), go to their client in frames (``writes``), or both."""

    def __init__(self, inner: Answers, *, reads: bool, writes: bool) -> None:
        self._inner, self._writes = inner, writes
        self._frames = EventStreamText() if reads else None
        self._events = SseParser()

    @property
    def ending(self) -> Finished | Failed | None:
        """Return how the answer ended; None while it has not."""
        return self._inner.ending

    @property
    def content_type(self) -> str:
        """Return the content type of what the client gets."""
        inner = self._inner.content_type
        return CONTENT_TYPE if self._writes and inner.startswith("text/event-stream") else inner

    def feed(self, data: bytes) -> bytes:
        """Return what the client gets for these bytes of the stream. Bytes that are not a frame end it with an error."""
        if self._frames is not None:
            try:
                data = self._frames.complete(data)
            except FrameError as e:
                self._frames, data = None, _error_event(f"The provider's stream cannot be read: {e}.")
        return self._written(self._inner.feed(data))

    def end(self) -> bytes:
        """Return what the client gets when the provider's stream ends."""
        return self._written(self._inner.end())

    def ping(self) -> bytes:
        """Return what says that the answer still comes."""
        return encode_chunk(_PING) if self._writes else self._inner.ping()

    def whole(self, body: bytes) -> bytes:
        """Return the client's body for a whole answer."""
        written = self._inner.whole(body)
        ending = self._inner.ending
        return _aws_error(ending.status, written) if self._writes and isinstance(ending, Failed) else written

    def error(self, status: int, body: bytes) -> tuple[int, bytes]:
        """Return the client's status and body for a provider's answer with an error status."""
        status, written = self._inner.error(status, body)
        return status, _aws_error(status, written) if self._writes else written

    def _written(self, text: bytes) -> bytes:
        if not self._writes:
            return text
        return b"".join(_frame(name, data) for name, data in self._events.feed(text))


def _frame(name: str, data: bytes) -> bytes:
    if name != "error":
        return encode_chunk(data)
    value = parse_json(data)
    error = value.get("error") if isinstance(value, dict) else None
    kind, message = (error.get("type"), error.get("message")) if isinstance(error, dict) else (None, error)
    name = _EXCEPTIONS.get(kind, "internalServerException") if isinstance(kind, str) else "internalServerException"
    words = message if isinstance(message, str) else "The provider's answer ended with an error."
    return encode_exception(name, words.encode("utf-8", "replace").decode())


def _error_event(words: str) -> bytes:
    error = {"type": "error", "error": {"type": "api_error", "message": words}}
    return b"event: error\ndata: " + orjson.dumps(error) + b"\n\n"


def _aws_error(status: int, written: bytes) -> bytes:
    """Return an error that is written in Anthropic's envelope in AWS's."""
    message = orjson.loads(written)["error"]["message"]
    return PROTOCOLS["bedrock"].error_body("", message, status)
