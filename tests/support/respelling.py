"""Write the same answer in other ways: no reader may tell them apart."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import brotli
from backports import zstd
from hypothesis import strategies as st

PACKERS: dict[str, Any] = {
    "": bytes,
    "gzip": lambda b: gzip.compress(b, mtime=0),
    "br": lambda b: brotli.compress(b, quality=4),
    "zstd": zstd.compress,
    "deflate": zlib.compress,
    "gzip, br": lambda b: brotli.compress(gzip.compress(b, mtime=0), quality=4),
}


@dataclass(frozen=True)
class Spelling:
    """A way of writing JSON and event streams."""

    spaced: bool = False
    """Spaces after colons and commas."""
    reordered: bool = False
    """Keys in the opposite order."""
    escaped: bool = False
    """Every character outside ASCII, and every letter e, as an escape."""
    floats: bool = False
    """Whole numbers with a decimal point."""
    padding: int = 0
    """Spaces before the last brace."""
    indented: bool = False
    """An event's JSON over several data lines."""
    newline: bytes = b"\n"
    bom: bool = False
    named: bool = True
    """With event lines, where there were some."""
    tight: bool = False
    """No space after a field's colon."""
    data_first: bool = False
    comments: bool = False
    """Comments, ids and pings between the events."""
    closed: bool = True
    """With the blank line at the very end."""


spellings = st.builds(
    Spelling,
    **{n: st.booleans() for n in ("spaced", "reordered", "escaped", "floats", "indented", "bom", "tight", "data_first")},
    padding=st.integers(0, 20),
    newline=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    named=st.sampled_from([True, True, False]),
    comments=st.booleans(),
    closed=st.sampled_from([True, True, False]),
)

cuts = st.lists(st.integers(0, 1 << 16), max_size=12)


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    """Return data in chunks; a cut beyond its end is moved into it."""
    edges = sorted({0, len(data), *(a % (len(data) + 1) for a in at)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def respell(body: bytes, spelling: Spelling, *, is_stream: bool) -> bytes:
    """Return an answer's bytes in another spelling."""
    if not is_stream:
        return b"\xef\xbb\xbf" * spelling.bom + respell_json(body, spelling)
    pieces = list(respelled_events(body, spelling))
    stream = b"".join(pieces)
    if not spelling.closed:
        stream = stream.rstrip(b"\n")
    return b"\xef\xbb\xbf" * spelling.bom + stream.replace(b"\n", spelling.newline)


def respelled_events(body: bytes, spelling: Spelling) -> Iterator[bytes]:
    """Return the events of a recorded stream, one piece each, with plain line feeds."""
    if spelling.comments:
        yield b": connected\nretry: 3000\n\n\n"
    for number, block in enumerate(re.split(rb"\n\n+", body.replace(b"\r\n", b"\n").strip(b"\n"))):
        fields = [line.partition(b":")[::2] for line in block.split(b"\n") if line]
        lines = []
        for name, value in fields:
            value = value.removeprefix(b" ")
            if name == b"data":
                lines += [(name, part) for part in respell_json(value, spelling).split(b"\n")]
            elif spelling.named:
                lines.append((name, value))
        if spelling.data_first:
            lines.sort(key=lambda line: line[0] != b"data")
        if spelling.comments:
            lines.insert(0, (b"id", b"%d" % number))
            yield b": keep-alive\n\n"
        yield b"\n".join(name + (b":" if spelling.tight else b": ") + value for name, value in lines) + b"\n\n"


def respell_json(data: bytes, spelling: Spelling) -> bytes:
    """Return the same JSON value; what is none stays as it is."""
    try:
        value = json.loads(data, object_pairs_hook=_without_repeated)
    except ValueError:
        return data
    value = _changed(value, spelling)
    separators = (", ", ": ") if spelling.spaced else (",", ":")
    # Half an emoji has no bytes of its own: it can only be escaped.
    escaped = spelling.escaped or b"\\ud8" in data.lower()
    text = json.dumps(value, ensure_ascii=escaped, separators=separators, indent=1 if spelling.indented else None)
    if spelling.escaped:
        # Letters inside an escape and inside a number or literal stay: only those of strings may be written otherwise.
        text = _STRING.sub(lambda found: _ESCAPE_OR_E.sub(lambda e: e[1] or r"\u0065", found[0]), text)
    if spelling.padding and text[-1:] in "}]":
        text = text[:-1] + " " * spelling.padding + text[-1]
    return text.encode()


def _without_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice: in another spelling one of them would be lost")
    return found


_ESCAPE_OR_E = re.compile(r"(\\u[0-9a-f]{4}|\\.)|e")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def _changed(value: Any, spelling: Spelling) -> Any:
    if isinstance(value, dict):
        items = reversed(value.items()) if spelling.reordered else value.items()
        return {key: _changed(inner, spelling) for key, inner in items}
    if isinstance(value, list):
        return [_changed(inner, spelling) for inner in value]
    if spelling.floats and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
