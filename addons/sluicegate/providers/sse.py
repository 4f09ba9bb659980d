"""Parse server-sent events from a copy of the stream: bytes in, events out, wherever the bytes were split."""

from __future__ import annotations

Event = tuple[str, bytes]

MAX_EVENT_BYTES = 32 << 20
"""Bytes of one unfinished event; beyond that the parser gives up silently, because it only observes."""

_BOM = b"\xef\xbb\xbf"


class SseParser:
    """An incremental parser: ``feed`` returns the events that a chunk completes, ``flush`` the one left at the end."""

    def __init__(self) -> None:
        self._line_start = bytearray()
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._started = self._ended_with_cr = False
        self._gave_up = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that end in this chunk."""
        if self._gave_up or not chunk:
            return []
        if not self._started and not (chunk := self._without_bom(chunk)):
            return []
        if self._ended_with_cr:
            # The carriage return has already ended its line; a line feed may be its other half.
            chunk = chunk.removeprefix(b"\n")
        self._ended_with_cr = chunk.endswith(b"\r")
        # All three line ends are allowed, even mixed; nearly every stream uses plain line feeds, so look before replacing.
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = chunk.split(b"\n")
        events: list[Event] = []
        if lines:
            if self._line_start:
                lines[0] = bytes(self._line_start) + lines[0]
                self._line_start.clear()
            for line in lines:
                self._read_line(line, events)
        if rest:
            self._line_start += rest
            if len(self._line_start) + self._size > MAX_EVENT_BYTES:
                self._give_up()
        return events

    def flush(self) -> list[Event]:
        """Return an event whose closing blank line never came."""
        events: list[Event] = []
        if not self._gave_up:
            self._read_line(bytes(self._line_start), events)
            self._read_line(b"", events)
        self._line_start.clear()
        return events

    def _without_bom(self, chunk: bytes) -> bytes:
        """Return the stream's beginning without a byte order mark; nothing while it may still become one."""
        chunk = bytes(self._line_start) + chunk
        self._line_start.clear()
        if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
            self._line_start += chunk
            return b""
        self._started = True
        return chunk.removeprefix(_BOM)

    def _give_up(self) -> None:
        self._gave_up = True
        self._line_start.clear()
        self._data = []

    def _read_line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            # A blank line ends the event. One without data is dropped, as the specification says.
            if self._data:
                events.append((self._name, b"\n".join(self._data)))
            self._name, self._data, self._size = "", [], 0
        elif line.startswith(b"data:"):
            # One space after the colon belongs to the format, further ones to the data.
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._size += len(value)
            if self._size > MAX_EVENT_BYTES:
                self._give_up()
        elif line.startswith(b"event:"):
            self._name = line[6:].strip().decode("utf-8", "replace")
