"""YAML with positions: plain values, and for every key the line it stands on. YAML 1.2 words, so ``on`` is a string.

Numbers with a point stay decimal: ``0.1`` in a policy is a tenth of a dollar, not the nearest binary fraction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import yaml

Location = tuple[str | int, ...]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?\d+")
_FLOAT = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
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
        return where + (f"{self.path}: {self.message}" if self.path else self.message)


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
        node = yaml.compose(data.decode("utf-8"), Loader=_LOADER)
        if node is not None:
            doc.value = _value(node, (), doc, 0)
    except UnicodeDecodeError as e:
        doc.problems.append(Problem(file, data[: e.start].count(b"\n") + 1, "", "the file is not UTF-8 text"))
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        what = " ".join(x for x in (e.context, e.problem) if x)
        doc.problems.append(Problem(file, mark.line + 1 if mark else 1, "", f"this is not valid YAML: {what}"))
    except (yaml.YAMLError, RecursionError) as e:
        doc.problems.append(Problem(file, 1, "", f"this is not valid YAML: {str(e).splitlines()[0][:200]}"))
    return doc


def _value(node: yaml.Node, place: Location, doc: Document, depth: int) -> Any:
    doc.lines.setdefault(place, node.start_mark.line + 1)
    if depth > 40:
        doc.problem(place, "this is nested too deeply")
        return None
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*place, i), doc, depth + 1) for i, item in enumerate(node.value)]
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            doc.lines[place] = key_node.start_mark.line + 1
            doc.problem(place, "a key must be a plain word")
            continue
        key = key_node.value
        inner = (*place, key)
        if key in result:
            first = doc.lines.get(inner, 0)
            doc.lines[inner] = key_node.start_mark.line + 1
            doc.problem(inner, f"'{key}' is here twice, first in line {first}; the second would silently win")
            continue
        doc.lines[inner] = key_node.start_mark.line + 1
        result[key] = _value(value_node, inner, doc, depth + 1)
    return result


def _scalar(node: yaml.ScalarNode) -> Any:
    text = node.value
    if node.style in ("'", '"', "|", ">"):
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


def is_text(text: str) -> bool:
    """Whether a text may stand in YAML without quotes and stay that text."""
    return bool(_WORD.fullmatch(text)) and text not in _WORDS and len(text) < 200
