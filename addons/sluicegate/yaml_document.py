"""YAML with positions: plain values, and for every key the line it stands on. YAML 1.2 words, so ``on`` is a string.

Numbers with a point stay decimal: ``0.1`` in a policy is a tenth of a dollar, not the nearest binary fraction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

import yaml

Location = tuple[str | int, ...]

MAX_DEPTH = 40
"""Levels of nesting; the deepest place of a policy is at 7."""

MAX_ALIASED_VALUES = 100_000
"""Values that aliases may repeat, besides ten for each that is written."""

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, Any] = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
} | dict.fromkeys(("", "~", "null", "Null", "NULL"))


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in one place of one file."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        # One problem is one line, whatever stands in the file.
        said = f"{self.path[:300]}: {self.message[:700]}" if self.path else self.message[:700]
        return where + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in said)


@dataclass(slots=True)
class Document:
    """A parsed file: its value, the line of every place in it, and what was wrong with it."""

    file: str
    value: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, place: Location) -> int:
        """The line of a place, or of the nearest one around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def problem(self, place: Location, message: str) -> None:
        """Note that something is wrong at a place."""
        self.problems.append(Problem(self.file, self.line(place), dotted(place), message))


def dotted(place: Location) -> str:
    """A place as people write it: ``virtual_keys[0].budget.max_limit``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def parse(data: bytes, file: str) -> Document:
    """Parse one file. Never raises: what is wrong is in ``problems``."""
    doc = Document(file)
    try:
        _Builder(doc).build(yaml.parse(data.decode("utf-8"), Loader=YAML_LOADER))
    except UnicodeDecodeError as e:
        doc.problems.append(Problem(file, data[: e.start].count(b"\n") + 1, "", "the file is not UTF-8 text"))
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        what = " ".join(x for x in (e.context, e.problem) if x)
        doc.problems.append(Problem(file, mark.line + 1 if mark else 1, "", f"this is not valid YAML: {what}"))
    except yaml.YAMLError as e:
        doc.problems.append(Problem(file, 1, "", f"this is not valid YAML: {str(e).splitlines()[0][:200]}"))
    return doc


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    value: Any
    place: Location
    anchor: str | None
    size: int
    """Values written and repeated before it began."""
    key: str | None = None
    """The key that waits for its value."""


class _Hopeless(yaml.YAMLError):
    """The rest of the file is not worth reading; what is wrong with it has been noted."""


class _Builder:
    """Builds a document's value from its events.

    Not from PyYAML's nodes: composing those, deep nesting overflows the C stack and ends the process, and a few lines of
    aliases to aliases unfold to more than any memory.
    """

    def __init__(self, doc: Document) -> None:
        self.doc = doc
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        """Values that may be repeated, and how many values each holds."""
        self.written = self.repeated = 0

    def build(self, events: Iterable[yaml.Event]) -> None:
        """Set the document's value. Raises yaml.YAMLError."""
        try:
            for event in events:
                self.take(event)
        except _Hopeless:
            return

    def take(self, event: yaml.Event) -> None:
        stack = self.stack
        if isinstance(event, yaml.ScalarEvent):
            top = stack[-1] if stack else None
            if top is not None and isinstance(top.value, dict) and top.key is None:
                self.name(top, event)
            else:
                self.put(_scalar(event), event)
        elif isinstance(event, yaml.CollectionStartEvent):
            value: Any = [] if isinstance(event, yaml.SequenceStartEvent) else {}
            place = self.put(value, event)
            if len(stack) >= MAX_DEPTH:
                self.stop(event, place, "this is nested too deeply")
            stack.append(_Open(value, place, event.anchor, self.written + self.repeated))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = stack.pop()
            if done.anchor is not None:
                self.anchors[done.anchor] = done.value, self.written + self.repeated - done.size + 1
        elif isinstance(event, yaml.AliasEvent):
            known = self.anchors.get(event.anchor or "")
            place = self.put(known[0] if known else None, event)
            if known is None:
                self.stop(event, place, f"'*{event.anchor}' repeats nothing that stands before it")
            else:
                self.repeated += known[1]
                if self.repeated > MAX_ALIASED_VALUES + 10 * self.written:
                    self.stop(event, place, "aliases repeat too much")
        elif isinstance(event, yaml.DocumentStartEvent) and self.written:
            self.stop(event, (), "a second document begins here; a policy is one")

    def name(self, top: _Open, event: yaml.ScalarEvent) -> None:
        """A mapping's next key."""
        key, line = event.value, _line(event)
        place = (*top.place, key)
        first = self.doc.lines.get(place, 0)
        self.doc.lines[place] = line
        if key in top.value:
            self.doc.problem(place, f"'{key}' is here twice, first in line {first}; the second would silently win")
        top.key = key

    def put(self, value: Any, event: yaml.Event) -> Location:
        """Put a value where it belongs, and return where that is. A key's value counts from the key's line on."""
        self.written += 1
        top = self.stack[-1] if self.stack else None
        place: Location
        if top is None:
            place, self.doc.value = (), value
        elif isinstance(top.value, list):
            place = (*top.place, len(top.value))
            top.value.append(value)
        elif top.key is None:
            self.stop(event, top.place, "a key must be a plain word")
        else:
            place = (*top.place, top.key)
            top.value.setdefault(top.key, value)
            top.key = None
        self.doc.lines.setdefault(place, _line(event))
        if isinstance(event, yaml.ScalarEvent) and event.anchor is not None:
            self.anchors[event.anchor] = value, 1
        return place

    def stop(self, event: yaml.Event, place: Location, message: str) -> NoReturn:
        self.doc.lines[place] = _line(event)
        self.doc.problem(place, message)
        raise _Hopeless


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _scalar(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    if event.style in ("'", '"', "|", ">"):
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text) and len(text) < 40:
        return int(text)
    if _FLOAT.fullmatch(text):
        try:
            return Decimal(text.replace(".inf", "Infinity").replace(".nan", "NaN") if text[-1].isalpha() else text)
        except InvalidOperation:
            return text
    return text


_WORD = re.compile(
    r"[A-Za-z][A-Za-z0-9._/+@-]*( [A-Za-z0-9._/+@-]+)*"
    r"|sha256:[0-9a-f]{64}|\d{1,6}[smhdwMY]|\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-][0-9:]+)"
)


def is_plain_scalar(text: str) -> bool:
    """Whether a text may stand in YAML without quotes and stay that text."""
    return bool(_WORD.fullmatch(text)) and text not in _WORDS and len(text) < 200
