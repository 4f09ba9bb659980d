"""Parse a JSON list that arrives piece by piece, as the Gemini API streams its chunks to clients that ask for no event stream."""

from __future__ import annotations

import re

from sluicegate.providers.answers.sse import MAX_EVENT_BYTES, Event

_MARK = re.compile(rb'["{}\[\]]')
_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)

_QUOTE, _OPENING = ord('"'), b"{["


class JsonListParser:
    """An incremental parser, used like ``SseParser``: each element of the list is the event it would be in an event stream."""

    is_between_events = False
    """No chunk is the text of its events."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = self._depth = 0
        self._start: int | None = None
        """Where the element that has begun starts in the buffer."""
        self._is_string = False
        self._gave_up = False

    def complete(self, chunk: bytes) -> bytes:
        """Return the elements that end in this chunk, written as events."""
        if self._gave_up:
            return b""
        self._buffer += chunk
        events = bytearray()
        while (mark := self._next_mark()) is not None:
            if mark in _OPENING:
                self._depth += 1
                if self._depth == 2:
                    self._start = self._at - 1
            else:
                self._depth -= 1
                if self._depth == 1 and self._start is not None:
                    element = self._buffer[self._start : self._at].replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
                    events += b"data: " + element + b"\n\n"
                    self._start = None
        done = self._at if self._start is None else self._start
        del self._buffer[:done]
        self._at -= done
        if self._start is not None:
            self._start = 0
        if len(self._buffer) > MAX_EVENT_BYTES:
            self._gave_up, self._buffer = True, bytearray()
        return bytes(events)

    def _next_mark(self) -> int | None:
        """Return the next bracket outside of strings and step behind it; None where more has to come first."""
        while True:
            if self._is_string:
                found = _STRING.match(self._buffer, self._at)
                self._at = found.end() if found else self._at
                if self._buffer[self._at : self._at + 1] != b'"':
                    return None
                self._is_string = False
                self._at += 1
            mark = _MARK.search(self._buffer, self._at)
            if mark is None:
                self._at = len(self._buffer)
                return None
            self._at = mark.end()
            if self._buffer[self._at - 1] != _QUOTE:
                return self._buffer[self._at - 1]
            self._is_string = True

    def flush(self) -> list[Event]:
        """Return what has come of an element that never ended."""
        rest = bytes(self._buffer) if self._start is not None else b""
        self._buffer.clear()
        return [("", rest)] if rest else []
