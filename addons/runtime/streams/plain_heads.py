"""Plain heads: whether a message's head is in the plainest form, and how it frames its body, found out once.

mitmproxy looks the same few header fields up some twenty times a call. Most heads have the same names in the same order as one
before them, so where those fields stand is remembered by the names. A head that is not plain is left to mitmproxy's functions,
with every error.
"""

from __future__ import annotations

import re
import time
from operator import itemgetter, methodcaller
from typing import Any, NamedTuple

from mitmproxy.http import Headers, Response, ResponseData
from mitmproxy.net.http import http1

Fields = tuple[tuple[bytes, bytes], ...]

HEAD_END = b"\r\n\r\n"

CHUNKED = -1
"""The size of a body that comes in chunks."""

MAX_SHAPES = 1024
MAX_SHAPE_BYTES = 4096
"""How many lists of names are remembered, and how long their names are in total at most."""

MAX_FIRST_LINES = 64
MAX_LINE_BYTES = 256
"""How many first lines of answers are remembered, and how long they are at most."""

MAX_LENGTH_DIGITS = 15

_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-zA-Z]+").fullmatch
_name_of = itemgetter(0)
_parted = methodcaller("partition", b":")
"""Parts a line of a head into a name, a colon and a value, which may have spaces around it."""


def part_lines(lines: list[bytes]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the names and the values of a head's lines. Raises ValueError where a line has no colon, or there is none."""
    names, colons, values = zip(*map(_parted, lines), strict=True)
    if b"" in colons:
        raise ValueError("a line without a colon")
    return names, tuple(map(bytes.strip, values))


def content_length(value: bytes) -> int | None:
    """Return the length that a ``content-length`` says; None if it is not in the plainest form."""
    if not value.isdigit() or len(value) > MAX_LENGTH_DIGITS or (value[:1] == b"0" and value != b"0"):
        return None
    return int(value)


class Shape(NamedTuple):
    """Where the fields of a head stand that say what becomes of its body and its connection; None for one that is not there."""

    length: int | None
    coding: int | None
    connection: int | None


_shapes: dict[tuple[bytes, ...], Shape | None] = {}
"""By the names of a head's fields; None for a head that is not plain."""

_first_lines: dict[bytes, tuple[bytes, int, bytes]] = {}
"""By an answer's first line: its version, status and reason."""


def shape_of(fields: Fields) -> Shape | None:
    """Return where the fields stand; None if a name is not one, or one of these fields is there twice."""
    names = tuple(map(_name_of, fields))
    try:
        return _shapes[names]
    except KeyError:
        pass
    shape = _find_shape(names)
    if sum(map(len, names)) <= MAX_SHAPE_BYTES:
        if len(_shapes) >= MAX_SHAPES:
            # Begin anew: a provider with ever other names would keep all others from being remembered.
            _shapes.clear()
        _shapes[names] = shape
    return shape


def _find_shape(names: tuple[bytes, ...]) -> Shape | None:
    found: dict[bytes, int] = {}
    for at, name in enumerate(names):
        key = name.lower()
        if _is_name(name) is None or key in found:
            return None
        if key in (b"content-length", b"transfer-encoding", b"connection"):
            found[key] = at
    return Shape(found.get(b"content-length"), found.get(b"transfer-encoding"), found.get(b"connection"))


def keeps_connection(fields: Fields) -> bool:
    """Return whether a message of HTTP/1.1 says in the plainest form that its connection goes on after it."""
    shape = shape_of(fields)
    return shape is not None and (shape.connection is None or fields[shape.connection][1].lower() == b"keep-alive")


def body_size(fields: Fields) -> int | None:
    """Return how many bytes an answer's body has, or CHUNKED; None if that is not said in the plainest form.

    The answer is one of HTTP/1.1 that has a body and keeps its connection.
    """
    shape = shape_of(fields)
    if shape is None or (shape.connection is not None and fields[shape.connection][1].lower() != b"keep-alive"):
        return None
    if shape.coding is not None:
        return CHUNKED if shape.length is None and fields[shape.coding][1].lower() == b"chunked" else None
    if shape.length is None:
        return None
    # What a length of 0 means differs by status and method, which mitmproxy knows.
    return content_length(fields[shape.length][1]) or None


def has_body(response: Any) -> bool:
    """Return whether an answer to a GET or POST is of HTTP/1.1 and has a body by its status."""
    data = response.data
    return data.http_version == b"HTTP/1.1" and 200 <= data.status_code <= 599 and data.status_code not in (204, 304)


def read_response(data: bytes, end: int) -> Response | None:
    """Return the answer whose head ends at ``end``, as mitmproxy's function reads it; None if it is not plain.

    Where a name is not one, as in a line that continues the one before it, the fields have no shape.
    """
    first, *lines = data[:end].split(b"\r\n")
    if data.count(b"\n", 0, end) != len(lines):
        # mitmproxy takes a line feed alone for the end of a line, too.
        return None
    try:
        version, status, reason = _first_lines.get(first) or _read_first_line(first)
        names, values = part_lines(lines)
    except ValueError:
        return None
    headers = object.__new__(Headers)
    headers.fields = tuple(zip(names, values, strict=True))
    response = object.__new__(Response)
    response.data = ResponseData(version, headers, None, None, time.time(), None, status, reason)
    return response if has_body(response) else None


def _read_first_line(line: bytes) -> tuple[bytes, int, bytes]:
    """Return the version, status and reason in an answer's first line, and remember them. Raises ValueError."""
    data = http1.read_response_head([line]).data
    found = data.http_version, data.status_code, data.reason
    if len(line) <= MAX_LINE_BYTES:
        if len(_first_lines) >= MAX_FIRST_LINES:
            _first_lines.clear()
        _first_lines[line] = found
    return found


def write_head(response: Response) -> bytes:
    """Return the bytes of an answer's head, as mitmproxy's function writes it."""
    data = response.data
    fields = b"\r\n".join(map(b": ".join, data.headers.fields))
    return b"%b %d %b\r\n%b\r\n\r\n" % (data.http_version, data.status_code, data.reason, fields)
