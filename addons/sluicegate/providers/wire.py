"""What the gateway needs to know of a provider's wire format, and the parts several of them share."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec

from sluicegate.call import Kind, RequestFacts, Usage


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


FIELDS: tuple[str, ...] = ("model", "stream", "max_tokens", "max_completion_tokens", "max_output_tokens", "tools")
FIELDS += ("speed", "inference_geo", "mcp_servers", "container", "n")
"""The top-level fields of a body that governance reads; all others are skipped unparsed."""

_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])
NO_MODEL = "the body of a model call is a JSON object with a string 'model'"


class Body:
    """The governed fields of a JSON body. ``problem`` says why it cannot be governed."""

    def __init__(self, raw: bytes) -> None:
        self.problem: str | None = None
        self.values: dict[str, Any] = {}
        try:
            top = _DECODER.decode(raw)
            # Parsers differ in which of two equal keys wins, so no call may have two. Where the members found fill
            # a body written without spaces to the byte, there is no room for a second; else look closely.
            if sum(len(k) + len(v) + 4 for k, v in top.items()) + 1 != len(raw):
                self._exactly(raw)
            else:
                self.values = {n: msgspec.json.decode(top[n]) for n in FIELDS if n in top}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # Lone surrogates and other things strict parsers refuse do occur in real traffic.
            self._exactly(raw)

    def _exactly(self, raw: bytes) -> None:
        pairs: list[tuple[str, Any]] = []

        def note(items: list[tuple[str, Any]]) -> dict[str, Any]:
            nonlocal pairs
            pairs = items
            return dict(items)

        try:
            # Not from the bytes: as UTF-16, which nobody sends, they would be read here and hide their words from the rest.
            text = raw.decode("utf-8-sig", "surrogatepass")
            value = json.loads(text, object_pairs_hook=note, parse_int=_whole)
        except (ValueError, RecursionError):
            self.problem = NO_MODEL
            return
        if not isinstance(value, dict):
            self.problem = NO_MODEL
            return
        names = [n for n, _ in pairs]
        for name in FIELDS:
            if names.count(name) > 1:
                self.problem = f"'{name}' is in the body twice"
        self.values = {n: value[n] for n in FIELDS if n in value}

    def model(self) -> str | None:
        """The model, if it is a name that can be judged."""
        model = self.values.get("model")
        if isinstance(model, str) and 0 < len(model) <= 200 and model.isprintable():
            return model
        self.problem = self.problem or NO_MODEL
        return None

    def flag(self, name: str) -> bool:
        """A boolean field; anything but true, false or null is a problem, since readers would differ on it."""
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.problem = self.problem or f"'{name}' is neither true nor false"
        return False

    def count(self, name: str) -> int | None:
        """A field that counts something."""
        value = self.values.get(name)
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
        value = self.values.get(name)
        if value is None or (isinstance(value, str) and len(value) <= 64):
            return value
        self.problem = self.problem or f"'{name}' is not a short text"
        return None


def _whole(digits: str) -> float:
    """A number without a point. Python refuses to make an int of thousands of digits; no count has that many."""
    return int(digits) if len(digits) < 32 else float(digits)


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
