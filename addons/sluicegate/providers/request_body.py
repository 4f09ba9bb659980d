"""Read the governed fields of a request body strictly: what parsers could read in two ways is a problem."""

from __future__ import annotations

import re
from typing import Any

import msgspec

MAX_FIELDS = 256
"""Top-level fields of a body; a model call has some twenty."""

MAX_NAME_CHARS = 200
"""Characters in the name of a top-level field."""

MAX_TOOLS = 4096
"""Tools in a body; a model call has some hundred."""

_OBJECT_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST_DECODER = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBER = re.compile(rb'\s*"((?:[^"\\]|\\.)*)"\s*:\s*')
_COMMA = re.compile(rb"\s*,?")
_BOM = b"\xef\xbb\xbf"
NO_MODEL = "the body of a model call is a JSON object with a string 'model'"


class RequestBody:
    """The governed fields of a JSON body. ``problem`` says why the body cannot be governed."""

    def __init__(self, raw: bytes) -> None:
        self.problem: str | None = None
        self._fields: dict[str, msgspec.Raw] = {}
        self._values: dict[str, Any] = {}
        self.raw = raw = raw.removeprefix(_BOM)
        """The body in a form that parsers accept."""
        try:
            try:
                top = _OBJECT_DECODER.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError):
                # Lone surrogates occur in real traffic, and parsers refuse them. Read a copy in which private-use characters
                # replace them.
                self.raw = raw = raw.replace(b"\\ud", b"\\ue").replace(b"\\uD", b"\\uE")
                top = _OBJECT_DECODER.decode(raw)
            if len(top) > MAX_FIELDS or any(len(name) > MAX_NAME_CHARS for name in top):
                self.problem = f"the body has more than {MAX_FIELDS} fields, or one with too long a name"
            elif (name := first_duplicate(raw, top)) is not None:
                self.problem = f"'{name}' is in the body twice"
            else:
                self._fields = top
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.problem = NO_MODEL

    def value(self, name: str) -> Any:
        """Return a field's value, parsed on first use; None if the field is missing."""
        if name not in self._values and name in self._fields:
            try:
                self._values[name] = msgspec.json.decode(self._fields[name])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self.problem = self.problem or f"'{name}' cannot be read"
                self._values[name] = None
        return self._values.get(name)

    def tool_types(self) -> list[str | None]:
        """Return the ``type`` of each tool, None where it names none. A tool that could be read in two ways is a problem."""
        raw = bytes(self._fields.get("tools", b""))
        tools = _LIST_DECODER.decode(raw) if raw.startswith(b"[") else []
        if len(tools) > MAX_TOOLS:
            self.problem = self.problem or f"the body has more than {MAX_TOOLS} tools"
            return []
        return [self._tool_type(bytes(tool)) for tool in tools if bytes(tool).startswith(b"{")]

    def _tool_type(self, raw: bytes) -> str | None:
        members = _OBJECT_DECODER.decode(raw)
        if (name := first_duplicate(raw, members)) is not None:
            self.problem = self.problem or f"'{name[:MAX_NAME_CHARS]}' is in a tool twice"
        kind = msgspec.json.decode(members["type"]) if "type" in members else None
        return kind if isinstance(kind, str) else None

    def model(self) -> str | None:
        """Return the model, if it is a name that policy can judge."""
        model = self.value("model")
        if isinstance(model, str) and 0 < len(model) <= 200 and model.isprintable():
            return model
        self.problem = self.problem or NO_MODEL
        return None

    def flag(self, name: str) -> bool:
        """Return a boolean field. Anything but true, false or null is a problem, since parsers would differ on it."""
        value = self.value(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.problem = self.problem or f"'{name}' is neither true nor false"
        return False

    def count(self, name: str) -> int | None:
        """Return a field that holds a whole number of at least zero; None if it is missing or a problem."""
        value = self.value(name)
        if value is None:
            return None
        # Serialisers of loosely typed languages write 4096 as 4096.0.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 40:
            self.problem = self.problem or f"'{name}' is not a whole number"
            return None
        return value

    def text(self, name: str) -> str | None:
        """Return a text field of at most 64 characters; None if it is missing or a problem."""
        value = self.value(name)
        if value is None or (isinstance(value, str) and len(value) <= 64):
            return value
        self.problem = self.problem or f"'{name}' is not a short text"
        return None


def first_duplicate(raw: bytes, top: dict[str, msgspec.Raw]) -> str | None:
    """Return the first name that a JSON object holds twice: parsers differ in which one wins, so no call may have one.

    ``top`` holds the members that the parser kept. If they fill an object written without spaces to the byte, there is
    no room for a duplicate. Otherwise walk along them, parsing only the names and comparing the values by bytes: bodies
    written with spaces are common, so this must be fast too.
    """
    if sum(len(name) + len(value) + 4 for name, value in top.items()) + 1 == len(raw):
        return None
    kept = iter(top.items())
    at = raw.index(b"{") + 1
    while (found := _MEMBER.match(raw, at)) is not None:
        written: str = msgspec.json.decode(b'"%s"' % found[1])
        name, value = next(kept, (None, b""))
        if written != name or not raw.startswith(bytes(value), found.end()):
            return written
        # Step over the value by its length instead of parsing it again.
        comma = _COMMA.match(raw, found.end() + len(value))
        at = comma.end() if comma else len(raw)
    return None


_ESCAPED_LETTER = re.compile(rb"\\u00(?:4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9Aa])")
"""A letter or underscore written as an escape, which no serialiser has a reason to write."""


def has_escaped_letters(body: bytes) -> bool:
    r"""Return whether a word may be spelt so that a search for it fails: ``"\u0075rl"`` is ``"url"``."""
    # Source code in a conversation is full of escapes whose backslash is itself escaped: those are text.
    return b"\\u00" in body and _ESCAPED_LETTER.search(body.replace(rb"\\", b"")) is not None


_BASE64 = re.compile(rb'"data"\s*:\s*"([A-Za-z0-9+/=_\\-]{256,})"')


def find_base64(body: bytes) -> tuple[int, int]:
    """Return ``(items, bytes)`` of the base64 payloads in a body: their length says nothing about their tokens."""
    # Looking for plain words first spares the regular expression on bodies without media, which are nearly all.
    if b'"base64"' not in body and b"base64," not in body and b'"inlineData"' not in body and b'"inline_data"' not in body:
        return 0, 0
    found = [len(m.group(1)) for m in _BASE64.finditer(body)]
    return len(found), sum(found)
