"""A request's body as one tree, whichever encoding it came in: OTLP's JSON, with nothing in it that OTLP does not have.

Who sends it may be an agent that means harm. So the bytes, the nodes and the depth of a tree are bounded, text is never copied
twice, and work is proportional to what was sent.
"""

from __future__ import annotations

import base64
import re
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final

import orjson

from sluicegate.background import ITEMS_PER_PAUSE, PAUSE_S
from sluicegate.client_telemetry.messages import Field, Message

MAX_BYTES = 2 << 20
"""Bytes of a body once it is decompressed."""

MAX_NODES = 150_000
"""Fields of all messages of a body: three times what a full batch of Claude Code's has, 512 events, in a fifth of a second."""

MAX_DEPTH = 24
"""Messages in one another; a point's attribute is the eighth."""

Tree = dict[str, Any]


class MalformedError(ValueError):
    """A body that is not what OTLP has."""


class TooLargeError(ValueError):
    """A body that holds more than is accepted."""


def decompressed(body: bytes, encoding: str) -> bytes:
    """Return a body without its content coding, ``gzip`` or none. Raises MalformedError, TooLargeError."""
    if encoding in ("", "identity"):
        found = body
    elif encoding in ("gzip", "x-gzip"):
        reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            found = reader.decompress(body, MAX_BYTES + 1)
        except zlib.error as e:
            raise MalformedError("the body is not gzip") from e
        if not reader.eof and len(found) <= MAX_BYTES:
            raise MalformedError("the body's gzip ends early")
        if reader.unused_data:
            # Some would read it as more of the body, and others stop.
            raise MalformedError("the body has something after its gzip")
    else:
        raise MalformedError(f"content-encoding {encoding[:40]!r} is not supported, send gzip or none")
    if len(found) > MAX_BYTES:
        raise TooLargeError(f"the body has more than {MAX_BYTES} bytes")
    return found


class _Count:
    """Counts the nodes of one tree, and lets other threads run in between."""

    def __init__(self) -> None:
        self.nodes = 0

    def add(self) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise TooLargeError(f"the body has more than {MAX_NODES} fields")
        if not self.nodes % ITEMS_PER_PAUSE:
            time.sleep(PAUSE_S)


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise MalformedError(f"its messages are nested more than {MAX_DEPTH} deep")


def _put(found: Tree, message: Message, field: Field, value: Any) -> None:
    if field.is_repeated:
        found.setdefault(field.name, []).append(value)
        return
    if field.name in message.one_of:
        for other in message.one_of & found.keys():
            del found[other]
    found[field.name] = value


def from_protobuf(data: bytes, message: Message) -> Tree:
    """Return a message's tree. Raises MalformedError, TooLargeError."""
    try:
        return _read(memoryview(data), message, 0, _Count())
    except (IndexError, struct.error) as e:
        raise MalformedError("the body is not a protobuf message: it ends early") from e


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise MalformedError("the body is not a protobuf message: a number has more than ten bytes")


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _read(data: memoryview, message: Message, depth: int, count: _Count) -> Tree:
    _check_depth(depth)
    found: Tree = {}
    at, end = 0, len(data)
    while at < end:
        count.add()
        tag, at = _varint(data, at)
        wire, field = tag & 7, message.fields.get(tag >> 3)
        if wire == _VARINT:
            number, at = _varint(data, at)
            raw: Any = number
        elif wire == _BYTES:
            size, at = _varint(data, at)
            if size > end - at:
                raise MalformedError("the body is not a protobuf message: a field is longer than what is left")
            raw, at = data[at : at + size], at + size
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
            if size > end - at:
                raise MalformedError("the body is not a protobuf message: it ends early")
            raw, at = data[at : at + size], at + size
        else:
            raise MalformedError(f"the body is not a protobuf message: wire type {wire}")
        if field is not None:
            _take(found, message, field, wire, raw, depth, count)
    return found


def _take(found: Tree, message: Message, field: Field, wire: int, raw: Any, depth: int, count: _Count) -> None:
    """Put a field's value into its message's tree; as in protobuf, one of another wire type than its kind's is passed over."""
    kind = field.kind
    if isinstance(kind, Message):
        if wire == _BYTES:
            _put(found, message, field, _read(raw, kind, depth + 1, count))
        return
    expected, convert = _KINDS[kind]
    if wire == expected:
        _put(found, message, field, convert(raw))
    elif wire == _BYTES and field.is_repeated and expected != _BYTES:
        # Numbers may be packed into one field.
        at = 0
        size = {_FIXED64: 8, _FIXED32: 4}.get(expected)
        while at < len(raw):
            count.add()
            if size is None:
                number, at = _varint(raw, at)
                _put(found, message, field, convert(number))
            else:
                _put(found, message, field, convert(raw[at : at + size]))
                at += size


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _double(raw: memoryview) -> float | str:
    (value,) = struct.unpack("<d", raw)
    return value if isfinite(value) else "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _zigzag(number: int) -> int:
    number &= 0xFFFF_FFFF
    return (number >> 1) ^ -(number & 1)


_KINDS: Final[Mapping[str, tuple[int, Callable[[Any], Any]]]] = {
    "string": (_BYTES, lambda raw: bytes(raw).decode("utf-8", "replace")),
    "bytes": (_BYTES, lambda raw: base64.b64encode(raw).decode()),
    "id": (_BYTES, lambda raw: bytes(raw).hex()),
    "bool": (_VARINT, bool),
    "uint32": (_VARINT, lambda number: number & 0xFFFF_FFFF),
    "sint32": (_VARINT, _zigzag),
    "enum": (_VARINT, lambda number: number & 0x7FFF_FFFF),
    "uint64": (_VARINT, str),
    "int64": (_VARINT, lambda number: str(_signed(number))),
    "fixed32": (_FIXED32, lambda raw: struct.unpack("<I", raw)[0]),
    "fixed64": (_FIXED64, lambda raw: str(struct.unpack("<Q", raw)[0])),
    "sfixed64": (_FIXED64, lambda raw: str(struct.unpack("<q", raw)[0])),
    "double": (_FIXED64, _double),
}
"""By kind its wire type, and its value in JSON."""


def from_json(data: bytes, message: Message) -> Tree:
    """Return the tree of a message in JSON. Raises MalformedError, TooLargeError."""
    if data.count(b"{") + data.count(b"[") > MAX_NODES:
        # The parser lets no other thread run, and would make an object of every three bytes.
        raise TooLargeError(f"the body has more than {MAX_NODES} objects and lists")
    try:
        read = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        raise MalformedError(f"the body is not JSON: {str(e)[:120]}") from e
    return _checked(read, message, "the body", 0, _Count())


def _checked(value: Any, message: Message, where: str, depth: int, count: _Count) -> Tree:
    _check_depth(depth)
    if not isinstance(value, dict):
        raise MalformedError(f"{where} is not a JSON object")
    found: Tree = {}
    names = message.by_name
    for name, content in value.items():
        count.add()
        field = names.get(name)
        # JSON has null for what is absent, and unknown names are ignored.
        if field is None or content is None:
            continue
        if field.is_repeated and not isinstance(content, list):
            raise MalformedError(f"{name} is not a list")
        for item in content if field.is_repeated else (content,):
            count.add()
            if isinstance(field.kind, Message):
                _put(found, message, field, _checked(item, field.kind, name, depth + 1, count))
            else:
                _put(found, message, field, _scalar(item, field.kind, name))
    return found


_IS_INTEGER = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}", re.ASCII)

_RANGES = {
    "uint32": (0, (1 << 32) - 1),
    "fixed32": (0, (1 << 32) - 1),
    "sint32": (-(1 << 31), (1 << 31) - 1),
    "enum": (0, (1 << 31) - 1),
    "uint64": (0, (1 << 64) - 1),
    "fixed64": (0, (1 << 64) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "sfixed64": (-(1 << 63), (1 << 63) - 1),
}


def _scalar(value: Any, kind: str, name: str) -> Any:
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "string" and isinstance(value, str):
        return value
    if kind == "id" and isinstance(value, str) and _HEX.fullmatch(value):
        return value.lower()
    if kind == "bytes" and isinstance(value, str) and _BASE64.fullmatch(value):
        return value
    if kind == "double" and (number := number_of(value)) is not None:
        return number
    if kind == "double" and value in ("NaN", "Infinity", "-Infinity"):
        return value
    if (bounds := _RANGES.get(kind)) is not None and (whole := _whole(value)) is not None and bounds[0] <= whole <= bounds[1]:
        return str(whole) if kind.endswith("64") else whole
    raise MalformedError(f"{name} is not of the type that it has in OTLP")


def _whole(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return int(value) if _IS_INTEGER.fullmatch(value) else None
    if isinstance(value, float):
        return int(value) if isfinite(value) and value.is_integer() else None
    return value if isinstance(value, int) else None


def number_of(value: Any) -> float | int | None:
    """Return a finite number that may be written as text, None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if len(value) > 40 or not re.fullmatch(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", value, re.ASCII):
            return None
        value = float(value) if not _IS_INTEGER.fullmatch(value) else int(value)
    return value if isinstance(value, int | float) and isfinite(value) else None
