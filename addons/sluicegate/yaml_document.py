"""YAML with positions: plain values, and the line of every key. Keywords are those of YAML 1.2, so ``on`` is a string.

Numbers with a point stay decimal: ``0.1`` in a policy is a tenth of a dollar, not the nearest binary fraction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn

import yaml

Location = tuple[str | int, ...]
"""The keys and indices that lead to a value."""

MAX_DEPTH = 40
"""Levels of nesting; a policy needs 7."""

MAX_ALIASED_VALUES = 100_000
"""Values that aliases may expand to, in addition to ten for each value that is written."""

MERGE_KEY = "<<"
"""The key of YAML 1.1 whose mapping fills in what the mapping around it does not say."""

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_KEYWORDS: dict[str, Any] = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
} | dict.fromkeys(("", "~", "null", "Null", "NULL"))


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, and where in which file it is."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        text = f"{self.path[:300]}: {self.message[:700]}" if self.path else self.message[:700]
        # Keys and values come from the file: line ends and escape sequences in them must not reach a terminal.
        return where + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@dataclass(slots=True)
class Document:
    """A parsed file: its value, the line of every location in it, and its mistakes."""

    file: str
    value: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, location: Location) -> int:
        """Return the line of a location, or of the nearest one around it."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def add_problem(self, location: Location, message: str) -> None:
        """Note that something is wrong at a location."""
        self.problems.append(Problem(self.file, self.line(location), dotted(location), message))


def dotted(location: Location) -> str:
    """Return a location as people write it: ``virtual_keys[0].budget.max_limit``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def parse(data: bytes, file: str) -> Document:
    """Parse one file. Never raises: mistakes are in ``problems``."""
    doc = Document(file)
    try:
        _DocumentBuilder(doc).build(yaml.parse(data.decode("utf-8"), Loader=YAML_LOADER))
    except UnicodeDecodeError as e:
        doc.problems.append(Problem(file, data[: e.start].count(b"\n") + 1, "", "the file is not UTF-8 text"))
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        what = " ".join(x for x in (e.context, e.problem) if x)
        doc.problems.append(Problem(file, mark.line + 1 if mark else 1, "", f"this is not valid YAML: {what}"))
    except yaml.YAMLError as e:
        doc.problems.append(Problem(file, 1, "", f"this is not valid YAML: {str(e).splitlines()[0][:200]}"))
    return doc


def read_data(path: Path) -> dict[str, Any]:
    """Return the mapping in one of our own data files, which begins with ``version: 1``. Raises ValueError if it cannot be used."""
    document = parse(path.read_bytes(), str(path))
    if not isinstance(document.value, dict) or document.value.get("version") != 1:
        document.add_problem(("version",), "the file must be a mapping with version: 1")
    if document.problems:
        raise ValueError("\n".join(map(str, document.problems)))
    found: dict[str, Any] = document.value
    return found


@dataclass(slots=True)
class _OpenCollection:
    """A list or mapping whose end has not been reached."""

    value: Any
    location: Location
    anchor: str | None
    size: int
    """Values written and expanded before it began."""
    key: str | None = None
    """The key whose value comes next."""
    is_merging: bool = False
    """Whether that is a merge key, ``<<`` without quotes."""
    merged: Any = None
    """What stands under the merge key: a mapping, or a list of mappings."""


class _ParsingStopped(yaml.YAMLError):
    """Parsing ended early; the problem that ended it has been recorded."""


class _DocumentBuilder:
    """Builds a document's value from the events of the parser.

    PyYAML's nodes are not used because composing them is dangerous: deep nesting overflows the C stack and ends the
    process, and a few lines of aliases to aliases expand to more than any memory holds.
    """

    def __init__(self, doc: Document) -> None:
        self.doc = doc
        self.stack: list[_OpenCollection] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        """Values that aliases may repeat, and how many values each contains."""
        self.written = self.expanded = 0

    def build(self, events: Iterable[yaml.Event]) -> None:
        """Build the document's value. Raises yaml.YAMLError."""
        try:
            for event in events:
                self._take(event)
        except _ParsingStopped:
            return

    def _take(self, event: yaml.Event) -> None:
        stack = self.stack
        if isinstance(event, yaml.ScalarEvent):
            top = stack[-1] if stack else None
            if top is not None and isinstance(top.value, dict) and top.key is None:
                self._begin_key(top, event)
            else:
                self._add_value(_scalar(event), event)
        elif isinstance(event, yaml.CollectionStartEvent):
            value: Any = [] if isinstance(event, yaml.SequenceStartEvent) else {}
            location = self._add_value(value, event)
            if len(stack) >= MAX_DEPTH:
                self._stop(event, location, "this is nested too deeply")
            stack.append(_OpenCollection(value, location, event.anchor, self.written + self.expanded))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = stack.pop()
            if done.merged is not None:
                self._merge(done, event)
            if done.anchor is not None:
                self.anchors[done.anchor] = done.value, self.written + self.expanded - done.size + 1
        elif isinstance(event, yaml.AliasEvent):
            self._add_alias(event)
        elif isinstance(event, yaml.DocumentStartEvent) and self.written:
            self._stop(event, (), "a second document begins here; a policy must be a single document")

    def _begin_key(self, top: _OpenCollection, event: yaml.ScalarEvent) -> None:
        """Note a mapping's next key."""
        key, line = event.value, _line(event)
        location = (*top.location, key)
        first = self.doc.lines.get(location, 0)
        self.doc.lines[location] = line
        top.is_merging = key == MERGE_KEY and not event.style
        if top.is_merging:
            if top.merged is not None:
                self._stop(event, location, f"'{key}' is defined twice; write << : [*first, *second]")
            top.key = MERGE_KEY
            return
        if key in top.value:
            self.doc.add_problem(location, f"'{key}' is defined twice, first on line {first}; the second would silently win")
        top.key = key

    def _add_value(self, value: Any, event: yaml.Event) -> Location:
        """Store a value in its collection and return its location. The line of a key's value is the line of the key."""
        self.written += 1
        top = self.stack[-1] if self.stack else None
        location: Location
        if top is None:
            location, self.doc.value = (), value
        elif isinstance(top.value, list):
            location = (*top.location, len(top.value))
            top.value.append(value)
        elif top.key is None:
            self._stop(event, top.location, "a key must be a plain word")
        elif top.is_merging:
            location, top.merged, top.key, top.is_merging = (*top.location, MERGE_KEY), value, None, False
            if not isinstance(value, dict | list):
                self._stop(event, location, "only a mapping or a list of mappings can be merged, such as *defaults")
        else:
            location = (*top.location, top.key)
            top.value.setdefault(top.key, value)
            top.key = None
        self.doc.lines.setdefault(location, _line(event))
        if isinstance(event, yaml.ScalarEvent) and event.anchor is not None:
            self.anchors[event.anchor] = value, 1
        return location

    def _add_alias(self, event: yaml.AliasEvent) -> None:
        repeated = self.anchors.get(event.anchor or "")
        location = self._add_value(repeated[0] if repeated else None, event)
        if repeated is None:
            self._stop(event, location, f"'*{event.anchor}' is an alias of an anchor that is not defined before it")
        self.expanded += repeated[1]
        if self.expanded > MAX_ALIASED_VALUES + 10 * self.written:
            self._stop(event, location, "aliases expand to too many values")

    def _merge(self, mapping: _OpenCollection, event: yaml.Event) -> None:
        """Give a mapping what it does not say itself and the mappings under its merge key do, the first of them first."""
        location = (*mapping.location, MERGE_KEY)
        sources = mapping.merged if isinstance(mapping.merged, list) else [mapping.merged]
        if not all(isinstance(source, dict) for source in sources):
            self._stop(event, location, "only a mapping or a list of mappings can be merged, such as *defaults")
        line = self.doc.lines.get(location, _line(event))
        for source in sources:
            for key, value in source.items():
                if key not in mapping.value:
                    mapping.value[key] = value
                    self.doc.lines[(*mapping.location, key)] = line

    def _stop(self, event: yaml.Event, location: Location, message: str) -> NoReturn:
        self.doc.lines[location] = _line(event)
        self.doc.add_problem(location, message)
        raise _ParsingStopped


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _scalar(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    if event.style in ("'", '"', "|", ">"):
        return text
    if text in _KEYWORDS:
        return _KEYWORDS[text]
    if _INT.fullmatch(text) and len(text) < 40:
        return int(text)
    if _FLOAT.fullmatch(text):
        try:
            return Decimal(text.replace(".inf", "Infinity").replace(".nan", "NaN") if text[-1].isalpha() else text)
        except InvalidOperation:
            return text
    return text


_PLAIN = re.compile(
    r"[A-Za-z][A-Za-z0-9._/+@-]*( [A-Za-z0-9._/+@-]+)*"
    r"|sha256:[0-9a-f]{64}|\d{1,6}[smhdwMY]|\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-][0-9:]+)"
)


def is_plain_scalar(text: str) -> bool:
    """Return whether a text needs no quotes in YAML to be read as that text."""
    return bool(_PLAIN.fullmatch(text)) and text not in _KEYWORDS and len(text) < 200
