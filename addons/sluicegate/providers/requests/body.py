"""Read the governed fields of a request body strictly: what parsers could read in two ways is a problem."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from sluicegate.providers.requests.encoding import NOT_UTF8, is_utf8
from sluicegate.providers.requests.model_name import MODEL_NAME_RULE, is_model_name
from sluicegate.providers.requests.outline import has_more_braces

MAX_FIELDS = 256
"""Fields of a body, or of a governed object in it; a model call has some twenty."""

MAX_NAME_CHARS = 200
"""Characters in the name of a top-level field."""

MAX_TOOLS = 4096
"""Tools and other governed objects in a body; a model call has some hundred."""

MAX_TOOL_FIELDS = 32_768
"""Fields of all tools and other governed objects in a body; a tool has about four."""

MAX_SCALAR_BYTES = 1024
"""Bytes of a governed number, flag or short text as it is written; decoding a long one only to refuse it would cost time."""

MAX_OBJECT_BYTES = 256 << 10
"""Bytes of a governed object, such as a configuration, that is read member by member."""

MAX_NAMING_BYTES = 128 << 10
"""Bytes that are looked through for models one by one, which takes some ten milliseconds: usual bodies need none."""

MAX_OBJECTS = 1_000_000
"""Opening braces in a body that is not known to be text: looking through more of them would stop all other calls."""

_OBJECT_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST_DECODER = msgspec.json.Decoder(list[msgspec.Raw])
_decode = msgspec.json.Decoder().decode
_MEMBER = re.compile(rb'\s*+"((?:[^"\\]++|\\.)*+)"\s*+:\s*+')
_COMMA = re.compile(rb"\s*+,?")
_BOM = b"\xef\xbb\xbf"
_NULL = msgspec.Raw(b"null")
NO_MODEL = "the body of a model call is a JSON object with a string 'model'"

Body = TypeVar("Body")


class Unmetered(str):
    """Why a well-formed call is refused: what it asks for cannot be metered."""

    __slots__ = ()


class Problems(list[str]):
    """What keeps a body from being governed, and how much of it has been read member by member."""

    objects = fields = naming_bytes = 0


class Members:
    """The members of a JSON object, read strictly. What parsers could read in two ways is noted in ``problems``.

    A field that has several spellings is asked for by all of them; more than one of them in the object is a problem.
    """

    def __init__(self, members: dict[str, msgspec.Raw], problems: Problems) -> None:
        self.members = members
        self.problems = problems
        self._respelled = _respelled(members) if members else {}

    def raw(self, *names: str) -> bytes:
        """Return a field's JSON, empty if it is missing or null."""
        if not self._respelled:
            # Most governed fields are in few bodies, and few have a second spelling.
            if len(names) == 1:
                value = self.members.get(names[0])
                return b"" if value is None or value == _NULL else bytes(value)
            if self.members.keys().isdisjoint(names):
                return b""
        found = [name for name in names if name in self.members]
        if len(found) > 1:
            self.problems.append(f"'{found[0]}' and '{found[1]}' are one field: send one of them")
        if self._respelled:
            self._check_case(names)
        text = bytes(self.members[found[0]]) if found else b""
        return b"" if text == b"null" else text

    def value(self, *names: str, limit: int = MAX_SCALAR_BYTES) -> Any:
        """Return a field's value; None if the field is missing, null or a problem."""
        if not self._respelled and len(names) == 1 and names[0] not in self.members:
            return None
        raw = self.raw(*names)
        if not raw:
            return None
        if len(raw) > limit:
            self.problems.append(f"'{names[0]}' is too long")
            return None
        try:
            return _decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.problems.append(f"'{names[0]}' cannot be read")
            return None

    def _check_case(self, names: Iterable[str]) -> None:
        """Note a member whose name is one of these but for its case: some servers read it, others pass over it."""
        for name in names:
            for other in self._respelled.get(name.casefold(), ()):
                if other not in names:
                    self.problems.append(f"'{other}' is read as '{name}' by some servers: write it so")

    def child(self, *names: str) -> Members:
        """Return a field that holds an object; it is empty if the field is missing or holds anything else."""
        raw = self.raw(*names)
        if not raw.startswith(b"{"):
            return Members({}, self.problems)
        if len(raw) > MAX_OBJECT_BYTES:
            self.problems.append(f"'{names[0]}' is too long")
            return Members({}, self.problems)
        return self._object(raw, names[0])

    def children(self, *names: str) -> list[Members]:
        """Return the objects in a field that holds a list of them, such as ``tools``, or one of them alone."""
        raw = self.raw(*names)
        if not raw.startswith(b"["):
            return [self.child(*names)] if raw.startswith(b"{") else []
        items = _LIST_DECODER.decode(raw)
        self.problems.objects += len(items)
        if self.problems.objects > MAX_TOOLS:
            self.problems.append(f"the body has more than {MAX_TOOLS} {names[0]}")
            return []
        return [self._object(bytes(item), names[0].removesuffix("s")) for item in items if bytes(item).startswith(b"{")]

    def _object(self, raw: bytes, name: str) -> Members:
        members = _OBJECT_DECODER.decode(raw)
        self.problems.fields += len(members)
        if len(members) > MAX_FIELDS or self.problems.fields > MAX_TOOL_FIELDS:
            self.problems.append(f"'{name}' has more than {MAX_FIELDS} fields, or all of them together more than {MAX_TOOL_FIELDS}")
            return Members({}, self.problems)
        if (twice := first_duplicate(raw, members)) is not None:
            self.problems.append(f"'{twice[:MAX_NAME_CHARS]}' is in a {name} twice")
        return Members(members, self.problems)

    def models(self, apart: Container[str]) -> list[str]:
        """Return the models that the members name at any depth, but for those members that are judged apart or hold content."""
        looked_at = {
            name: value
            for name, value in self.members.items()
            if name not in apart and (len(value) >= SHORTEST_NAMING or "odel" in name.lower())
        }
        text = b"".join(looked_at.values())
        if not _may_hold_model(text) and not any("odel" in name.lower() for name in looked_at):
            # Nearly every call; so this is asked of all members at once.
            return []
        found: list[str] = []
        for name, value in looked_at.items():
            raw = bytes(value)
            if not _is_model_field(name) and not _may_hold_model(raw):
                continue
            self.problems.naming_bytes += len(raw)
            named = models_in(name, raw) if self.problems.naming_bytes <= MAX_NAMING_BYTES else None
            if named is None:
                self.problems.append(f"'{name}' may name a model and is too long or too odd to be looked through")
                break
            found += named
        return found

    def flag(self, *names: str) -> bool:
        """Return a boolean field. Anything but true, false or null is a problem, since parsers would differ on it."""
        value = self.value(*names)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.problems.append(f"'{names[0]}' is neither true nor false")
        return False

    def count(self, *names: str, lowest: int = 0) -> int | None:
        """Return a field that holds a whole number of at least ``lowest``; None if it is missing or a problem."""
        value = self.value(*names)
        if value is None:
            return None
        # Serialisers of loosely typed languages write 4096 as 4096.0.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value < 1 << 40:
            self.problems.append(f"'{names[0]}' is not a whole number")
            return None
        return value

    def text(self, *names: str, longest: int = 64) -> str | None:
        """Return a text field of at most ``longest`` characters; None if it is missing or a problem."""
        value = self.value(*names)
        if value is None or (isinstance(value, str) and len(value) <= longest):
            return value
        self.problems.append(f"'{names[0]}' is not a short text")
        return None

    def model(self) -> str | None:
        """Return the model, if it is a name that policy can judge."""
        model = self.value("model")
        if is_model_name(model):
            return str(model)
        self.problems.append(f"'model' cannot be judged: {MODEL_NAME_RULE}" if model and isinstance(model, str) else NO_MODEL)
        return None


class RequestBody(Members):
    """The governed fields of a JSON body. ``problem`` says why the body cannot be governed."""

    def __init__(self, raw: bytes) -> None:
        super().__init__({}, Problems())
        self.json = raw = raw.removeprefix(_BOM)
        """The body in a form that parsers accept."""
        self.written: dict[str, msgspec.Raw] | None = None
        """The members as their sender wrote them; None where a copy was read in place of the body."""
        is_copy = False
        if not is_utf8(raw):
            self.problems.append(NOT_UTF8)
            return
        try:
            try:
                top = _OBJECT_DECODER.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError):
                # Lone surrogates occur in real traffic, and parsers refuse them. Read a copy in which private-use characters
                # replace them.
                self.json = raw = raw.replace(b"\\ud", b"\\ue").replace(b"\\uD", b"\\uE")
                is_copy = True
                top = _OBJECT_DECODER.decode(raw)
            if len(top) > MAX_FIELDS or max(map(len, top), default=0) > MAX_NAME_CHARS:
                self.problems.append(f"the body has more than {MAX_FIELDS} fields, or one with too long a name")
            elif (name := first_duplicate(raw, top)) is not None:
                self.problems.append(f"'{name}' is in the body twice")
            else:
                self.members, self._respelled = top, _respelled(top)
                self.written = None if is_copy else top
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.problems.append(NO_MODEL)

    @property
    def problem(self) -> str | None:
        """Return the first thing that keeps the body from being governed."""
        return self.problems[0] if self.problems else None

    def can_be_searched(self) -> bool:
        """Return whether what a body holds may be looked at part by part; too many parts are a problem."""
        if not has_more_braces(self.json, MAX_OBJECTS):
            return True
        self.problems.append(f"the body has more than {MAX_OBJECTS} parts, and not all of them are known to be text")
        return False

    def read_as(self, decoder: msgspec.json.Decoder[Body]) -> Body | None:
        """Return the whole body as a decoder's type, which lists all that it may hold; None if it holds anything else."""
        try:
            return decoder.decode(self.json)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None


_MODEL_FIELD = re.compile(r".*models?(?:[_-]?(?:ids?|names?))?", re.IGNORECASE)
"""Names of fields that hold the names of models, such as ``model``, ``models``, ``model_id`` or ``fallbackModel``.

In any case, because servers written in Go or for .NET find ``MODEL`` where they look for ``model``.
"""

SHORTEST_NAMING = len('{"model":"a"}')
"""Bytes of the shortest value that names a model, unless the member itself is called like one."""

_MODEL_IN_PATH = re.compile(r"/models/([^/:]+)")


@lru_cache(maxsize=1024)
def _is_model_field(name: str) -> bool:
    return _MODEL_FIELD.fullmatch(name) is not None


def _may_hold_model(text: bytes) -> bool:
    """Return whether some JSON may have a field that names a model: by its name, or by one that is written with escapes."""
    return b"\\u" in text or b"odel" in text.lower()


def _respelled(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names that are not in lower case, by what they are in it."""
    letters = "".join(names)
    if not letters or (letters.isascii() and letters.islower()):
        return {}
    found: dict[str, list[str]] = {}
    for name in names:
        if (folded := name.casefold()) != name:
            found.setdefault(folded, []).append(name)
    return found


def _names_in(field: str, value: object) -> list[str]:
    """Return the models in the value of a field: a name, a list of names, or an object that has one."""
    # Long names are not cached: a caller who varies them could fill the cache with megabytes.
    if not (_is_model_field(field) if len(field) <= MAX_NAME_CHARS else _MODEL_FIELD.fullmatch(field)):
        return []
    names = value if isinstance(value, list) else [value.get("id"), value.get("name")] if isinstance(value, dict) else [value]
    return [name for name in names if isinstance(name, str)]


def models_in(field: str, raw: bytes) -> list[str] | None:
    """Return the models that a field's JSON names, itself or at any depth; None if it cannot be read."""
    found: list[str] = []

    def note(members: list[tuple[str, Any]]) -> dict[str, Any]:
        # Every member, also one whose name stands in the object twice: nobody knows which of them is read.
        for name, value in members:
            found.extend(_names_in(name, value))
        return dict(members)

    try:
        return _names_in(field, json.loads(raw.decode(), object_pairs_hook=note)) + found
    except (ValueError, RecursionError):
        return None


def models_anywhere(body: bytes, path: str) -> tuple[str, ...] | None:
    """Return every model that a request of an unknown kind names, in its path and at any depth of its body.

    None if the body is not JSON, is too long to be looked through while other calls wait, or names what is not a model's name.
    """
    found = models_in("", body) if 0 < len(body) <= MAX_NAMING_BYTES else None if body else []
    named = dict.fromkeys([*_MODEL_IN_PATH.findall(path), *(found or ())])
    return tuple(named) if found is not None and all(map(is_model_name, named)) else None


def first_duplicate(raw: bytes, top: dict[str, msgspec.Raw]) -> str | None:
    """Return the first name that a JSON object holds twice: parsers differ in which one wins, so no call may have one.

    ``top`` holds the members that the parser kept. If they fill an object written without spaces to the byte, there is
    no room for a duplicate. Otherwise walk along them, parsing only the names and comparing the values by bytes: bodies
    written with spaces are common, so this must be fast too.
    """
    if sum(map(len, top)) + sum(map(len, top.values())) + 4 * len(top) + 1 == len(raw):
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
