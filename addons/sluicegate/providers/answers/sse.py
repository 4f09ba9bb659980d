"""Parse server-sent events from a copy of the stream: bytes in, events out, wherever the bytes were split."""

from __future__ import annotations

from collections.abc import Iterator

Event = tuple[str, bytes]

MAX_EVENT_BYTES = 32 << 20
"""Bytes of one unfinished event; beyond that the parser gives up silently, because it only observes."""

_BOM = b"\xef\xbb\xbf"


class SseParser:
    """An incremental parser: ``feed`` returns the events that a chunk completes, ``flush`` the one left at the end."""

    def __init__(self, has_begun: bool = False) -> None:
        """``has_begun`` says that what comes first is known not to be a byte order mark."""
        self._rest = bytearray()
        """What has come of the event that is not yet complete, its lines ended by plain line feeds."""
        self._started = has_begun
        self._ended_with_cr = self._gave_up = False
        self.is_between_events = has_begun
        """Whether all that has come were whole events, so that a chunk of whole events is their text."""

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that end in this chunk."""
        return events_of(self.complete(chunk))

    def complete(self, chunk: bytes) -> bytes:
        """Return the text of the events that end in this chunk, its lines ended by plain line feeds."""
        text = self._complete(chunk)
        self.is_between_events = self._started and not (self._rest or self._ended_with_cr or self._gave_up)
        return text

    def _complete(self, chunk: bytes) -> bytes:
        if self._gave_up or not chunk:
            return b""
        if not self._started and not (chunk := self._without_bom(chunk)):
            return b""
        if self._ended_with_cr:
            # The carriage return has already ended its line; a line feed may be its other half.
            chunk = chunk.removeprefix(b"\n")
        self._ended_with_cr = chunk.endswith(b"\r")
        # All three line ends are allowed, even mixed; nearly every stream uses plain line feeds, so look before replacing.
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        # Only the new bytes are searched: a large event in small chunks would otherwise cost the square of its size.
        end, rest = chunk.rfind(b"\n\n") + 2, self._rest
        if end < 2:
            # The blank line may be half in what came before.
            end = 1 if rest.endswith(b"\n") and chunk.startswith(b"\n") else 0
        if not end:
            rest += chunk
            self._bound()
            return b""
        text = bytes(rest) + chunk[:end] if rest else chunk[:end]
        if rest or end < len(chunk):
            self._rest = bytearray(chunk[end:])
            self._bound()
        return text

    def flush(self) -> list[Event]:
        """Return an event whose closing blank line never came."""
        return events_of(self.remainder()) if self._rest else []

    def remainder(self) -> bytes:
        """Return the text of an event whose closing blank line never came, and forget it."""
        text = bytes(self._rest)
        self._rest.clear()
        return text

    def _without_bom(self, chunk: bytes) -> bytes:
        """Return the stream's beginning without a byte order mark; nothing while it may still become one."""
        chunk = bytes(self._rest) + chunk
        self._rest.clear()
        if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
            self._rest += chunk
            return b""
        self._started = True
        return chunk.removeprefix(_BOM)

    def _bound(self) -> None:
        if len(self._rest) > MAX_EVENT_BYTES:
            self._gave_up = True
            self._rest.clear()


def is_run(text: bytes, head: bytes) -> bool:
    """Return whether a text is events that are each this head, the rest of its line of data, and a blank line."""
    if not text.startswith(head):
        return False
    # A single event first, as a stream brings them that comes piece by piece.
    return text.find(b"\n", len(head)) == len(text) - 2 or _end_of_run(text, 0, head) == len(text)


def runs_of(text: bytes, mark: bytes) -> Iterator[tuple[int, int]]:
    """Yield begin and end of events in a row that ``is_run`` with one head, which ends with ``mark``."""
    # Some finds and no regular expression, which would take ten times as long for a common answer.
    at = text.find(mark)
    while at >= 0:
        begin, after = text.rfind(b"\n", 0, at) + 1, at + len(mark)
        # Elsewhere it is part of a line, or of an event of more lines.
        if text.startswith(b"event: ", begin) and (not begin or text.startswith(b"\n\n", begin - 2)):
            end = _end_of_run(text, begin, text[begin:after])
            if end > begin:
                yield begin, end
                after = end
        at = text.find(mark, after)


def _end_of_run(text: bytes, begin: int, head: bytes) -> int:
    """Return where the events in a row end of which the first begins with this head; its begin if it has more lines."""
    joint = b"\n\n" + head
    size = len(joint)
    end = text.find(b"\n", begin + size - 2)
    while text.startswith(joint, end):
        end = text.find(b"\n", end + size)
    if text.startswith(b"\n\n", end):
        return end + 2
    # The last one has more lines.
    last = text.rfind(joint, begin, end)
    return begin if last < 0 else last + 2


def events_of(text: bytes) -> list[Event]:
    """Return the events of a text whose lines end with plain line feeds."""
    events: list[Event] = []
    for block in text.split(b"\n\n"):
        # The forms of nearly all events: one line with the name, one with the data; or the data alone.
        end = block.find(b"\n")
        if end > 0 and block.startswith(b"event: ") and block.startswith(b"data: ", end + 1) and block.find(b"\n", end + 1) < 0:
            events.append((block[7:end].strip().decode("utf-8", "replace"), block[end + 7 :]))
        elif end < 0 and block.startswith(b"data: "):
            events.append(("", block[6:]))
        elif block:
            _read_lines(block, events)
    return events


def _read_lines(block: bytes, events: list[Event]) -> None:
    """Read the lines of one event, and add it. One without data is dropped, as the specification says."""
    name = ""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        if line.startswith(b"data:"):
            # One space after the colon belongs to the format, further ones to the data.
            data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line.startswith(b"event:"):
            name = line[6:].strip().decode("utf-8", "replace")
    if data:
        events.append((name, b"\n".join(data)))
