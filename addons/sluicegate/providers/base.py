"""What the gateway needs to know of a provider's wire format, and the parts several of them share."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec

from sluicegate.values import Kind, RequestFacts, Usage


class UsageReader(ABC):
    """Reads usage from an answer, event by event or whole. Garbage never raises."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finished = False
        """The answer has said that it is complete."""
        self.message_started = False
        self.delivered_bytes = 0
        """Text, thinking and tool input that has passed."""
        self.error: str | None = None
        """The type of an error event inside the answer."""

    @abstractmethod
    def feed_event(self, event: str, data: bytes) -> None:
        """Take note of one server-sent event."""

    @abstractmethod
    def read_json(self, body: bytes) -> None:
        """Read a whole plain answer."""


class ProviderWire(Protocol):
    """One provider's ways on the wire."""

    name: str
    base_url: str
    hosts: frozenset[str]

    def kind_of(self, method: str, path: str) -> Kind:
        """What a request is. Anything an upstream might take for a model call is one."""

    def is_batch_create(self, method: str, path: str) -> bool:
        """Whether the request starts many calls at once, answered later."""

    def read_request(self, body: bytes, path: str) -> RequestFacts | str:
        """Facts of a model call's body, or why it is none."""

    def usage_reader(self) -> UsageReader:
        """A reader for one answer."""

    def credentials(self, key: str) -> Iterable[tuple[str, str]]:
        """The headers that carry the provider's key."""

    def envelope(self, family: str, message: str, status: int) -> bytes:
        """An error body as this provider would write it."""


def clean_path(path: str) -> str:
    """A path as the laxest upstream might read it: decoded, lower case, without dots, doubles, parameters, query."""
    text = path.partition("?")[0].partition("#")[0]
    return _cleaned(text) if len(text) <= 200 else _cleaned.__wrapped__(text)


@lru_cache(maxsize=1024)
def _cleaned(text: str) -> str:
    for _ in range(3):
        decoded = unquote(text)
        if decoded == text:
            break
        text = decoded
    parts: list[str] = []
    for part in re.split(r"[/\\]", text.lower()):
        part = part.partition(";")[0].strip()
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


MOST_FIELDS, LONGEST_NAME, MOST_TOOLS = 256, 200, 4096
"""Top-level fields of a body, characters in the name of one, and tools; a model call has some twenty short ones and some
hundred tools."""

_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBER = re.compile(rb'\s*"((?:[^"\\]|\\.)*)"\s*:\s*')
_COMMA = re.compile(rb"\s*,?")
_BOM = b"\xef\xbb\xbf"
NO_MODEL = "the body of a model call is a JSON object with a string 'model'"


class Body:
    """The governed fields of a JSON body. ``problem`` says why it cannot be governed."""

    def __init__(self, raw: bytes) -> None:
        self.problem: str | None = None
        self._top: dict[str, msgspec.Raw] = {}
        self._values: dict[str, Any] = {}
        self.raw = raw = raw.removeprefix(_BOM)
        """The body as it can be read."""
        try:
            try:
                top = _DECODER.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError):
                # Lone surrogates do occur in real traffic. What is read is a copy in which they are of no script's letters.
                self.raw = raw = raw.replace(b"\\ud", b"\\ue").replace(b"\\uD", b"\\uE")
                top = _DECODER.decode(raw)
            if len(top) > MOST_FIELDS or any(len(name) > LONGEST_NAME for name in top):
                self.problem = f"the body has more than {MOST_FIELDS} fields, or one with too long a name"
            elif (name := repeated(raw, top)) is not None:
                self.problem = f"'{name}' is in the body twice"
            else:
                self._top = top
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.problem = NO_MODEL

    def value(self, name: str) -> Any:
        """A field's value, parsed when it is asked for; None if it is not there."""
        if name not in self._values and name in self._top:
            try:
                self._values[name] = msgspec.json.decode(self._top[name])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self.problem = self.problem or f"'{name}' cannot be read"
                self._values[name] = None
        return self._values.get(name)

    def tools(self) -> list[str | None]:
        """The ``type`` of each tool, None where it names none; a tool that could be read in two ways is a problem."""
        raw = bytes(self._top.get("tools", b""))
        tools = _LIST.decode(raw) if raw.startswith(b"[") else []
        if len(tools) > MOST_TOOLS:
            self.problem = self.problem or f"the body has more than {MOST_TOOLS} tools"
            return []
        return [self._tool(bytes(tool)) for tool in tools if bytes(tool).startswith(b"{")]

    def _tool(self, raw: bytes) -> str | None:
        members = _DECODER.decode(raw)
        if (name := repeated(raw, members)) is not None:
            self.problem = self.problem or f"'{name[:LONGEST_NAME]}' is in a tool twice"
        kind = msgspec.json.decode(members["type"]) if "type" in members else None
        return kind if isinstance(kind, str) else None

    def model(self) -> str | None:
        """The model, if it is a name that can be judged."""
        model = self.value("model")
        if isinstance(model, str) and 0 < len(model) <= 200 and model.isprintable():
            return model
        self.problem = self.problem or NO_MODEL
        return None

    def flag(self, name: str) -> bool:
        """A boolean field; anything but true, false or null is a problem, since readers would differ on it."""
        value = self.value(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.problem = self.problem or f"'{name}' is neither true nor false"
        return False

    def count(self, name: str) -> int | None:
        """A field that counts something."""
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 40:
            self.problem = self.problem or f"'{name}' is not a whole number"
            return None
        return value

    def text(self, name: str) -> str | None:
        """A short text field."""
        value = self.value(name)
        if value is None or (isinstance(value, str) and len(value) <= 64):
            return value
        self.problem = self.problem or f"'{name}' is not a short text"
        return None


def repeated(raw: bytes, top: dict[str, msgspec.Raw]) -> str | None:
    """The first name that a JSON object holds twice: parsers differ in which of them wins, so no call may have one.

    Where the members that were found fill an object written without spaces to the byte, there is no room for a second.
    Else this walks along them; everybody who writes with spaces is read so, so it looks at names and compares the rest
    by bytes.
    """
    if sum(len(name) + len(value) + 4 for name, value in top.items()) + 1 == len(raw):
        return None
    members = iter(top.items())
    at = raw.index(b"{") + 1
    while (found := _MEMBER.match(raw, at)) is not None:
        written: str = msgspec.json.decode(b'"%s"' % found[1])
        name, value = next(members, (None, b""))
        if written != name or not raw.startswith(bytes(value), found.end()):
            return written
        comma = _COMMA.match(raw, found.end() + len(value))
        at = comma.end() if comma else len(raw)
    return None


def number(value: Any) -> int | None:
    """A count a provider reported, if it is one."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40:
        return value
    return None


_HIDDEN = re.compile(rb"\\u00(?:4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9Aa])")
"""A letter or underscore written as an escape, which no serialiser has a reason to do."""


def hides_words(body: bytes) -> bool:
    """Whether a word of the body may be spelt so that looking for it finds nothing: ``"\\u0075rl"`` is ``"url"``."""
    # Code in a conversation is full of escapes whose backslash is itself escaped: those are text.
    return b"\\u00" in body and _HIDDEN.search(body.replace(rb"\\", b"")) is not None


_BASE64 = re.compile(rb'"data"\s*:\s*"([A-Za-z0-9+/=_\\-]{256,})"')


def media(body: bytes) -> tuple[int, int]:
    """``(items, bytes)`` of base64 payloads in a body: what does not turn into tokens by its length."""
    if b'"base64"' not in body and b"base64," not in body and b'"inlineData"' not in body and b'"inline_data"' not in body:
        return 0, 0
    found = [len(m.group(1)) for m in _BASE64.finditer(body)]
    return len(found), sum(found)
