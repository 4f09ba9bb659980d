"""Chunk framing: what a read of a chunked body holds, found at once and not chunk by chunk.

h11's reader remains the one that knows where the body is: it is moved on as if it had read the same bytes. What is not in the
plainest form is left to it, with every error: the last chunk, the line of a size that has not come whole or has an extension,
anything malformed.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from h11._readers import ChunkedReader, ContentLengthReader

from runtime.streams.used_names import missing_name

_match_head = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n").match
"""Matches the line with a chunk's size: no sign, no space, no extension, and at most 4 GB."""

LINE_END = b"\r\n"

_LAST_CHUNK = [b"0", b"", b""]
"""The last chunk, split at the ends of lines."""

MAX_SIZES = 4096
"""Lines with a chunk's size that are remembered, before they are forgotten; a model's words take few hundred different ones."""

_sizes: dict[bytes, int] = {}
"""By the line of a chunk's size, without its end, so many bytes, which are more than 0."""


class Pieces(NamedTuple):
    """What was read of a chunked body."""

    payload: bytes
    framed: bytes
    """The payload in whole chunks: those that were read, and one each for a chunk's part at the beginning and at the end."""
    end: int
    """How many bytes were read; what follows is for h11."""


def read_only_chunk(reader: Any, data: bytes) -> bytes | None:
    """Return the payload of ``data`` if that is one whole chunk, as models' words come; else None. The reader stays where it is."""
    at = data.find(LINE_END, 1, 10)
    length = _sizes.get(data[:at]) or _size(data, at)
    if at + length + 4 != len(data) or data[-2:] != LINE_END or not length:
        return None
    if reader._bytes_in_chunk or reader._bytes_to_discard or reader._reading_trailer:
        return None
    return data[at + 2 : -2]


def _size(data: bytes, at: int) -> int:
    """Return the size of the chunk whose line ends at ``at``, and remember it; 0 if it is not in the plainest form."""
    if (head := _match_head(data)) is None or head.end() != at + 2:
        return 0
    return _remember(head[1])


def _remember(line: bytes) -> int:
    """Return the size that a line says, and remember it if it is more than 0."""
    size = int(line, 16)
    if size:
        if len(_sizes) >= MAX_SIZES:
            _sizes.clear()
        _sizes[line] = size
    return size


def read_pieces(reader: Any, data: bytes) -> Pieces | None:
    """Read what is plain at the beginning of ``data``, and move h11's reader on; None if nothing is."""
    if type(reader) is not ChunkedReader or reader._reading_trailer:
        return None
    pieces: list[bytes] = []
    left, to_discard = reader._bytes_in_chunk, reader._bytes_to_discard
    at, first = 0, b""
    if left or to_discard:
        if len(to_discard) == 1:
            return None
        first = data[:left]
        if first:
            pieces.append(first)
        if data[left : left + len(LINE_END)] != LINE_END:
            # All of it belongs to the chunk, or what follows the chunk is for h11.
            return _moved(reader, left, pieces, _chunk(first), len(first)) if first else None
        at = left + len(LINE_END)
    plain_from = at
    at, begin, length = _take_whole(data, _take_known(data, at, pieces), pieces)
    last = data[begin : begin + length]
    plain = data if not plain_from and at == len(data) else data[plain_from:at]
    framed = _chunk(first) + plain if first else plain
    if last:
        return _moved(reader, length, [*pieces, last], framed + _chunk(last), begin + len(last))
    if not pieces:
        return None
    reader._bytes_in_chunk, reader._bytes_to_discard = 0, b""
    return Pieces(pieces[0] if len(pieces) == 1 else b"".join(pieces), framed, at)


def _take_known(data: bytes, at: int, pieces: list[bytes]) -> int:
    """Add the payloads of the whole chunks from ``at`` on if all have a size that is remembered, and return where they end.

    Split at the ends of lines, a body is sizes and payloads in turn. Where a payload has such an end in itself, nothing is added.
    """
    parts = (data[at:] if at else data).split(LINE_END)
    # What follows the last end of a line: the beginning of a size, or of a chunk with the size before it; or all of the last chunk.
    rest = parts[-3:] if parts[-3:] == _LAST_CHUNK else parts[-1:] if len(parts) % 2 else parts[-2:]
    del parts[-len(rest) :]
    payloads = parts[1::2]
    if list(map(_sizes.get, parts[::2])) != list(map(len, payloads)):
        return at
    pieces += payloads
    return len(data) - len(LINE_END.join(rest))


def _take_whole(data: bytes, at: int, pieces: list[bytes]) -> tuple[int, int, int]:
    """Add the payloads of the whole chunks from ``at`` on; return where they end, and where the payload of another begins.

    The third number is the length of that one, which has come in part; 0 if there is none, or it is for h11.
    """
    while (head := _match_head(data, at)) is not None:
        begin, length = head.end(), _remember(head[1])
        end = begin + length
        if not length:
            break
        if data[end : end + len(LINE_END)] != LINE_END:
            return (at, begin, length) if end + len(LINE_END) > len(data) else (at, at, 0)
        pieces.append(data[begin:end])
        at = end + len(LINE_END)
    return at, at, 0


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _moved(reader: Any, length: int, pieces: list[bytes], framed: bytes, end: int) -> Pieces:
    """Return pieces of which the last is the beginning of ``length`` bytes of a chunk, and move the reader behind it."""
    reader._bytes_in_chunk = length - len(pieces[-1])
    reader._bytes_to_discard = b"" if reader._bytes_in_chunk else LINE_END
    return Pieces(b"".join(pieces), framed, end)


def stock_reader(reader: Any) -> Any:
    """Return h11's reader of an answer's body, which may be wrapped by that which drops trailers."""
    return getattr(reader, "stock_reader", reader)


def lacking() -> str | None:
    """Return which name of h11's readers that is used here is missing; None if they are all there."""
    missing = missing_name(
        [
            (ChunkedReader(), ("_bytes_in_chunk", "_bytes_to_discard", "_reading_trailer")),
            (ContentLengthReader(1), ("_remaining",)),
        ]
    )
    return None if missing is None else f"h11's {missing}"
