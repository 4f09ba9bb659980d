"""Server-sent events, read on the side: bytes in, events out, however the bytes were cut."""

from __future__ import annotations

Event = tuple[str, bytes]

EVENT_LIMIT = 32 << 20
"""Bytes of one unfinished event; beyond that the parser gives up quietly, for it only watches."""


class SseParser:
    """``feed`` takes pieces and returns the events completed by them; ``flush`` the one left at the end."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._begun = False
        self.lost = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in this piece."""
        if self.lost or not chunk:
            return []
        if not self._begun:
            chunk = self._rest + chunk
            self._rest = b""
            if b"\xef\xbb\xbf".startswith(chunk[:3]) and len(chunk) < 3:
                self._rest = chunk
                return []
            chunk = chunk.removeprefix(b"\xef\xbb\xbf")
            self._begun = True
        if b"\n" not in chunk and b"\r" not in chunk:
            self._keep(chunk)
            return []
        text = self._rest + chunk
        # A carriage return at the very end may be half of a line end: wait for the other half.
        held = b"\r" if text.endswith(b"\r") else b""
        if held:
            text = text[:-1]
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._rest = rest + held
        events: list[Event] = []
        for line in lines:
            self._line(line, events)
        return events

    def flush(self) -> list[Event]:
        """An event whose closing blank line never came."""
        events: list[Event] = []
        if not self.lost:
            self._line(self._rest.rstrip(b"\r"), events)
            self._line(b"", events)
        self._rest = b""
        return events

    def _keep(self, chunk: bytes) -> None:
        self._rest += chunk
        if len(self._rest) + self._size > EVENT_LIMIT:
            self.lost = True
            self._rest, self._data = b"", []

    def _line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._data:
                events.append((self._name, b"\n".join(self._data)))
            self._name, self._data, self._size = "", [], 0
        elif line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._size += len(value)
            if self._size > EVENT_LIMIT:
                self.lost = True
                self._data = []
        elif line.startswith(b"event:"):
            self._name = line[6:].strip().decode("utf-8", "replace")
