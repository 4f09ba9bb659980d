"""Writing changes into a policy's text so that only the changed entity's lines change.

A policy of ten thousand keys takes ruamel half a minute and half a gigabyte, and what it writes anew it also lays out
anew. So it is given one entity at a time: the lines of that entity are cut out, changed keeping their comments, and put
back. Whatever way was taken, the result is read again and must say exactly what was expected, or it is not used.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sluicegate.yaml_document import Document, is_plain_scalar, parse

if TYPE_CHECKING:
    from ruamel.yaml import YAML

_ITEM = re.compile(r"( *)-( +)(?=\S)")
_MAX_INLINE_COLUMNS = 110
"""Columns a mapping or list may take on one line."""


class NotPatchable(Exception):
    """The text is laid out in a way that cannot be changed without changing what it says."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entity of a file as it is to be. ``place`` is None for a new one, ``value`` None to delete it."""

    section: str
    place: int | str | None
    value: dict[str, Any] | None
    name: str = ""
    """The key of a new one, where the section is a mapping."""


def rewrite(doc: Document, text: str, changes: Sequence[Change]) -> tuple[str, Document]:
    """The file's text with the changes made, and how it reads. Raises NotPatchable."""
    from ruamel.yaml.error import YAMLError

    has_crlf = "\r\n" in text and "\n" not in text.replace("\r\n", "")
    plain = text.replace("\r\n", "\n") if has_crlf else text
    expected = _expected_value(doc.value, changes)
    strategies: list[Callable[[], str]] = [
        lambda: _patch_items(doc, plain, changes),
        lambda: _rewrite_file(plain, doc.value, expected),
    ]
    if plain.lstrip().startswith("{"):
        strategies.insert(0, lambda: _rewrite_json(plain, expected))
    for strategy in strategies:
        try:
            fresh = strategy()
        except (YAMLError, NotPatchable, ValueError):
            continue
        fresh = fresh.replace("\n", "\r\n") if has_crlf else fresh
        read = parse(fresh.encode(), doc.file)
        if not read.problems and read.value == expected:
            return fresh, read
    raise NotPatchable(
        f"{doc.file} is laid out so that a program cannot change it and keep its comments and meaning: edit it by hand"
    )


def _expected_value(value: dict[str, Any], changes: Iterable[Change]) -> dict[str, Any]:
    """What the file is to say."""
    expected = dict(value)
    gone: dict[str, set[int]] = {}
    for change in changes:
        held = expected.get(change.section)
        if isinstance(held, dict) or (held is None and change.name):
            held = expected[change.section] = dict(held or {})
            key = change.name if change.place is None else str(change.place)
            held[key] = change.value
            if change.value is None:
                del held[key]
            continue
        items = expected[change.section] = list(held or ())
        if change.place is None:
            items.append(change.value)
        elif change.value is None:
            gone.setdefault(change.section, set()).add(int(change.place))
        else:
            items[int(change.place)] = change.value
    for section, places in gone.items():
        expected[section] = [x for i, x in enumerate(expected[section]) if i not in places]
    return expected


# -- entity by entity -------------------------------------------------------------------------------------------------


def _patch_items(doc: Document, text: str, changes: Sequence[Change]) -> str:
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    tail: list[str] = []
    by_section: dict[str, list[Change]] = {}
    for change in changes:
        by_section.setdefault(change.section, []).append(change)
    starts = sorted(doc.lines[(name,)] - 1 for name in doc.value)
    edits: list[tuple[int, int, list[str]]] = []
    for name, mine in by_section.items():
        if name not in doc.value:
            tail += ["", *_new_section(name, mine)]
            continue
        start = doc.lines[(name,)] - 1
        end = next((s for s in starts if s > start), len(lines))
        end = _trim_end(lines, start, end, 1)
        items = _items(doc, lines, name, start, end)
        held = doc.value[name]
        left = len(held or ()) - sum(c.value is None for c in mine)
        if items is None or not left:
            edits.append((start, end, _patch_section(name, held, lines[start:end], mine)))
        else:
            edits += _item_edits(lines, items, held, mine)
    for start, end, fresh in sorted(edits, key=lambda c: c[:2], reverse=True):
        lines[start:end] = fresh
    end = len(lines) - (lines[-1:] == ["..."])
    lines[end:end] = tail
    return "\n".join(lines) + "\n"


def _items(doc: Document, lines: list[str], name: str, start: int, end: int) -> list[tuple[int, int]] | None:
    """Where each item of a list in block style is, as lines ``[start, end)``; None if it is not in block style."""
    held = doc.value[name]
    if not isinstance(held, list) or not held:
        return None
    firsts = [doc.lines[(name, i)] - 1 for i in range(len(held))]
    marks = [_ITEM.match(lines[f]) for f in firsts]
    columns = {len(m[1]) if m else -1 for m in marks}
    if firsts[0] <= start or len(set(firsts)) < len(firsts) or len(columns) > 1 or -1 in columns:
        return None
    column = columns.pop()
    return [(f, _trim_end(lines, f, e, column + 1)) for f, e in zip(firsts, [*firsts[1:], end], strict=True)]


def _trim_end(lines: list[str], start: int, end: int, column: int) -> int:
    """``end`` without the empty lines and the comments, begun left of ``column``, that belong to what follows."""
    while end > start + 1:
        line = lines[end - 1]
        bare = line.strip()
        if bare and bare != "..." and not (bare.startswith("#") and len(line) - len(line.lstrip()) < column):
            break
        end -= 1
    return end


def _item_edits(
    lines: list[str], items: list[tuple[int, int]], held: list[Any], changes: Sequence[Change]
) -> list[tuple[int, int, list[str]]]:
    edits: list[tuple[int, int, list[str]]] = []
    fresh: list[str] = []
    last = items[-1]
    mark = _ITEM.match(lines[last[0]])
    assert mark is not None
    flow = lines[last[0]][mark.end() :].startswith("{")
    for change in changes:
        if change.place is None:
            fresh += _as_list_item(_new_text(change.value, flow), mark)
        elif change.value is None:
            start, end = items[int(change.place)]
            alone = not lines[start - 1].strip() and not "".join(lines[end : end + 1]).strip()
            edits.append((start - alone, end, []))
        else:
            start, end = items[int(change.place)]
            edits.append((start, end, _patch_item(lines[start:end], held[int(change.place)], change.value)))
    if fresh:
        edits.append((last[1], last[1], fresh))
    return edits


def _patch_item(lines: list[str], present: Any, value: Any) -> list[str]:
    mark = _ITEM.match(lines[0])
    assert mark is not None
    width = mark.end()
    inner = [lines[0][width:]]
    for line in lines[1:]:
        inner.append(line[width:] if not line[:width].strip() else line.lstrip())
    yaml = _round_trip_yaml(inner)
    node = yaml.load("\n".join(inner) + "\n")
    node = _update_node(node, present, value)
    return _as_list_item(_dump(yaml, node), mark)


def _as_list_item(text: str, mark: re.Match[str]) -> list[str]:
    """A mapping's lines as an item of a list."""
    pad = " " * mark.end()
    lines = [pad + x if x else "" for x in text.rstrip("\n").split("\n")]
    return [mark[0] + lines[0][mark.end() :], *lines[1:]]


def _patch_section(name: str, held: Any, lines: list[str], changes: Sequence[Change]) -> list[str]:
    """A whole section changed."""
    expected = _expected_value({name: held}, changes)
    if not expected[name]:
        found = re.match(r"[\w'\"]+ *:", lines[0])
        if found is None:
            raise NotPatchable
        first = f"{found[0]} {'{}' if isinstance(expected[name], dict) else '[]'}"
        return [" ".join([first, *_comments(lines[:1])]), *(x for x in lines[1:] if x.lstrip().startswith("#"))]
    if not held:
        return _new_section(name, changes)
    yaml = _round_trip_yaml(lines)
    node = yaml.load("\n".join(lines) + "\n")
    if not isinstance(node, dict) or list(node) != [name]:
        raise NotPatchable
    _update_node(node, {name: held}, expected)
    fresh = _dump(yaml, node).rstrip("\n").split("\n")
    _require_comments(lines, fresh)
    return fresh


def _comments(lines: Iterable[str]) -> list[str]:
    return [found[0].strip() for x in lines if (found := re.search(r"(^|\s)#.*", x))]


def _require_comments(lines: Sequence[str], fresh: Sequence[str]) -> None:
    """ruamel has no place for a comment inside a list it writes on one line. Raises NotPatchable."""
    if Counter(_comments(lines)) - Counter(_comments(fresh)):
        raise NotPatchable


def _new_section(name: str, changes: Sequence[Change]) -> list[str]:
    if changes[0].name:
        yaml = _round_trip_yaml(())
        return _dump(yaml, _new_node({name: {c.name: c.value for c in changes}})).rstrip("\n").split("\n")
    mark = _ITEM.match("  - x")
    assert mark is not None
    return [f"{name}:", *(line for c in changes for line in _as_list_item(_new_text(c.value, False), mark))]


def _new_text(value: Any, flow: bool) -> str:
    return _dump(_round_trip_yaml(()), _new_node(value, flow=flow, top=True))


# -- whole files ------------------------------------------------------------------------------------------------------


def _rewrite_json(text: str, expected: dict[str, Any]) -> str:
    """A policy that is JSON stays JSON."""
    json.loads(text)
    indent = re.search(r"\n( +)", text)

    def number(value: object) -> float:
        if isinstance(value, Decimal):
            return float(value)
        raise ValueError(f"{type(value).__name__} is no JSON")

    return json.dumps(expected, indent=len(indent[1]) if indent else None, default=number, ensure_ascii=False) + "\n"


def _rewrite_file(text: str, present: dict[str, Any], expected: dict[str, Any]) -> str:
    yaml = _round_trip_yaml(text.split("\n"))
    node = yaml.load(text)
    _update_node(node, present, expected)
    fresh = _dump(yaml, node)
    _require_comments(text.split("\n"), fresh.split("\n"))
    return fresh


# -- ruamel -----------------------------------------------------------------------------------------------------------


def _round_trip_yaml(lines: Iterable[str]) -> YAML:
    """A reader and writer that keeps how things are written, and lists indented the way these lines have them."""
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import ScalarNode
    from ruamel.yaml.resolver import VersionedResolver
    from ruamel.yaml.tag import Tag

    class Plain(VersionedResolver):
        """Every word is text as it stands: what ``yes`` or ``22:00`` mean is for our own reader to say."""

        def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
            if kind is ScalarNode and implicit[0] and value not in ("", "~", "null", "Null", "NULL"):
                return Tag(suffix="tag:yaml.org,2002:str")
            return super().resolve(kind, value, implicit)

    yaml = YAML()
    yaml.Resolver = Plain
    yaml.preserve_quotes = True
    yaml.width = 1 << 20
    offset = _dash_offset(lines)
    yaml.indent(mapping=2, sequence=offset + 2, offset=offset)
    return yaml


def _dash_offset(lines: Iterable[str]) -> int:
    """How far the dashes of a list stand to the right of the key it belongs to."""
    key = 0
    for line in lines:
        bare = line.lstrip(" ")
        if bare.startswith("- "):
            return min(4, max(0, len(line) - len(bare) - key))
        if bare and not bare.startswith("#"):
            key = len(line) - len(bare)
    return 2


def _dump(yaml: YAML, node: Any) -> str:
    out = io.StringIO()
    yaml.dump(node, out)
    return out.getvalue()


def _update_node(node: Any, present: Any, value: Any) -> Any:
    """``node``, which says ``present``, changed in place to say ``value``; what is equal is not touched."""
    if isinstance(value, dict) and isinstance(present, dict) and isinstance(node, dict):
        for key in [k for k in node if k not in value]:
            del node[key]
        for key, new in value.items():
            if key not in node:
                node[key] = _new_node(new, flow=_is_flow(node))
            elif present[key] != new or isinstance(present[key], bool) != isinstance(new, bool):
                node[key] = _update_node(node[key], present[key], new)
        return node
    if isinstance(value, list) and isinstance(present, list) and isinstance(node, list) and value and present:
        for i in range(min(len(value), len(present))):
            if value[i] != present[i]:
                node[i] = _update_node(node[i], present[i], value[i])
        del node[len(value) :]
        for new in value[len(present) :]:
            node.append(_new_node(new, flow=_is_flow(node)))
        return node
    return _new_node(value, flow=_is_flow(node))


def _is_flow(node: Any) -> bool:
    style = getattr(node, "fa", None)
    return bool(style is not None and style.flow_style())


def _new_node(value: Any, flow: bool = False, top: bool = False) -> Any:
    """A new value for ruamel to write: small things on one line, words that would read as something else in quotes."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString, PlainScalarString

    if isinstance(value, dict):
        mapping = CommentedMap()
        small = not top and len(_one_line(value)) <= _MAX_INLINE_COLUMNS and not any(isinstance(v, dict) for v in value.values())
        if value and (flow or small):
            mapping.fa.set_flow_style()
        for key, inner in value.items():
            mapping[PlainScalarString(key) if is_plain_scalar(key) else DoubleQuotedScalarString(key)] = _new_node(
                inner, flow or small
            )
        return mapping
    if isinstance(value, list | tuple):
        sequence = CommentedSeq(_new_node(v, flow) for v in value)
        if flow or not any(isinstance(v, dict) for v in value):
            sequence.fa.set_flow_style()
        return sequence
    if isinstance(value, str):
        return PlainScalarString(value) if is_plain_scalar(value) else DoubleQuotedScalarString(value)
    if value is None:
        return None
    return PlainScalarString(_number(value))


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return format(value, "f") if isinstance(value, Decimal) else repr(value)


def _one_line(value: Any) -> str:
    return json.dumps(value, default=str)
