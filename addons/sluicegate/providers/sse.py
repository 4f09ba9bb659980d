"""Server-sent events, read on the side: bytes in, events out, however the bytes were cut."""

from __future__ import annotations

Event = tuple[str, bytes]

EVENT_LIMIT = 32 << 20
"""Bytes of one unfinished event; beyond that the parser gives up quietly, for it only watches."""


class SseParser:
    """``feed`` takes pieces and returns the events completed by them; ``flush`` the one left at the end."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._begun = self._returned = False
        self.lost = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in this piece."""
        if self.lost or not chunk:
            return []
        if not self._begun:
            chunk = bytes(self._rest) + chunk
            self._rest.clear()
            if b"\xef\xbb\xbf".startswith(chunk[:3]) and len(chunk) < 3:
                self._rest += chunk
                return []
            chunk = chunk.removeprefix(b"\xef\xbb\xbf")
            self._begun = True
        if self._returned:
            # A carriage return has ended its line already; a line feed may be the other half of it.
            chunk = chunk.removeprefix(b"\n")
        self._returned = chunk.endswith(b"\r")
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = chunk.split(b"\n")
        events: list[Event] = []
        if lines:
            if self._rest:
                lines[0] = bytes(self._rest) + lines[0]
                self._rest.clear()
            for line in lines:
                self._line(line, events)
        if rest:
            self._rest += rest
            if len(self._rest) + self._size > EVENT_LIMIT:
                self._lose()
        return events

    def flush(self) -> list[Event]:
        """An event whose closing blank line never came."""
        events: list[Event] = []
        if not self.lost:
            self._line(bytes(self._rest), events)
            self._line(b"", events)
        self._rest.clear()
        return events

    def _lose(self) -> None:
        self.lost = True
        self._rest.clear()
        self._data = []

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
                self._lose()
        elif line.startswith(b"event:"):
            self._name = line[6:].strip().decode("utf-8", "replace")
