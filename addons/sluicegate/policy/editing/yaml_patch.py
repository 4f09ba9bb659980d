"""Writing changes into a policy's text so that only the changed entity's lines change.

For a policy of ten thousand keys ruamel takes half a minute and half a gigabyte, and it changes the layout of everything
it writes. So ruamel is given one entity at a time: the lines of that entity are cut out, changed keeping their comments,
and put back. Whichever strategy is used, the result is parsed again and must be exactly the expected value, else the
next strategy is tried.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sluicegate.policy.editing.round_trip import dump, new_node, round_trip_yaml, update_node
from sluicegate.yaml_document import Document, parse

_ITEM = re.compile(r"( *)-( +)(?=\S)")
"""The dash of a list item, with the spaces before and after it."""

Edit = tuple[int, int, list[str]]
"""Lines ``[start, end)`` of a text and what replaces them."""


class NotPatchableError(Exception):
    """A text that cannot be changed without changing its meaning or losing a comment."""


@dataclass(frozen=True, slots=True)
class Change:
    """The new value of one entity of a file. ``position`` is None for a new one, ``value`` None to delete it."""

    section: str
    position: int | str | None
    value: Any
    name: str = ""
    """The key of a new entity, where the section is a mapping."""
    is_section: bool = False
    """Whether ``value`` is that of the whole section."""


def rewrite(doc: Document, text: str, changes: Sequence[Change]) -> tuple[str, Document]:
    """Return the file's text with the changes made, and the document it parses to. Raises NotPatchableError."""
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
            rewritten = strategy()
        except (YAMLError, NotPatchableError, ValueError):
            continue
        rewritten = rewritten.replace("\n", "\r\n") if has_crlf else rewritten
        parsed = parse(rewritten.encode(), doc.file)
        if not parsed.problems and parsed.value == expected:
            return rewritten, parsed
    raise NotPatchableError(
        f"{doc.file} cannot be changed by a program without losing a comment or changing its meaning: edit it by hand"
    )


def reordered(doc: Document, text: str, section: str, entries: Sequence[Any]) -> str:
    """Return a file's text with a list's items in this order, each with the comments before it. Raises NotPatchableError."""
    lines = text.replace("\r\n", "\n").split("\n")
    start = doc.lines[(section,)] - 1
    following = (doc.lines[(name,)] - 1 for name in doc.value)
    end = _trim_end(lines, start, min((n for n in following if n > start), default=len(lines)), 1)
    items, present = _items(doc, lines, section, start, end), doc.value[section]
    if items is None or len(present) != len(entries):
        raise NotPatchableError(f"{doc.file}: {section} cannot be put in another order by a program: edit it by hand")
    begins = [start + 1, *(stop for _, stop in items[:-1])]
    blocks = [lines[begin:stop] for begin, (_, stop) in zip(begins, items, strict=True)]
    lines[start + 1 : items[-1][1]] = [line for entry in entries for line in blocks[present.index(entry)]]
    rewritten = ("\r\n" if "\r\n" in text else "\n").join(lines)
    parsed = parse(rewritten.encode(), doc.file)
    if parsed.problems or parsed.value != {**doc.value, section: [*entries]}:
        raise NotPatchableError(f"{doc.file}: {section} cannot be put in another order by a program: edit it by hand")
    return rewritten


def _expected_value(value: dict[str, Any], changes: Iterable[Change]) -> dict[str, Any]:
    """Return the value the file must have after the changes."""
    expected = dict(value)
    deleted: dict[str, set[int]] = {}
    for change in changes:
        if change.is_section:
            expected[change.section] = change.value
            continue
        section = expected.get(change.section)
        if isinstance(section, dict) or (section is None and change.name):
            section = expected[change.section] = dict(section or {})
            key = change.name if change.position is None else str(change.position)
            section[key] = change.value
            if change.value is None:
                del section[key]
            continue
        items = expected[change.section] = list(section or ())
        if change.position is None:
            items.append(change.value)
        elif change.value is None:
            deleted.setdefault(change.section, set()).add(int(change.position))
        else:
            items[int(change.position)] = change.value
    for name, positions in deleted.items():
        expected[name] = [x for i, x in enumerate(expected[name]) if i not in positions]
    return expected


# -- entity by entity -------------------------------------------------------------------------------------------------


def _patch_items(doc: Document, text: str, changes: Sequence[Change]) -> str:
    """Change only the lines of the entities that change."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    tail: list[str] = []
    by_section: dict[str, list[Change]] = {}
    for change in changes:
        by_section.setdefault(change.section, []).append(change)
    starts = sorted(doc.lines[(name,)] - 1 for name in doc.value)
    edits: list[Edit] = []
    for name, section_changes in by_section.items():
        if name not in doc.value:
            tail += ["", *_new_section(name, section_changes)]
            continue
        start = doc.lines[(name,)] - 1
        end = next((s for s in starts if s > start), len(lines))
        end = _trim_end(lines, start, end, 1)
        items = _items(doc, lines, name, start, end)
        present = doc.value[name]
        left = len(present or ()) - sum(c.value is None for c in section_changes)
        # A list that becomes empty is written as [], which cannot be done item by item.
        if items is None or not left:
            edits.append((start, end, _patch_section(name, present, lines[start:end], section_changes)))
        else:
            edits += _item_edits(lines, items, present, section_changes)
    # From the end up, so that the line numbers of the remaining edits stay right.
    for start, end, replacement in sorted(edits, key=lambda c: c[:2], reverse=True):
        lines[start:end] = replacement
    # The marker of the document's end must stay last.
    end = len(lines) - (lines[-1:] == ["..."])
    lines[end:end] = tail
    return "\n".join(lines) + "\n"


def _items(doc: Document, lines: list[str], name: str, start: int, end: int) -> list[tuple[int, int]] | None:
    """Return the lines ``[start, end)`` of each item of a list, None if the list is not in block style."""
    present = doc.value[name]
    if not isinstance(present, list) or not present:
        return None
    firsts = [doc.lines[(name, i)] - 1 for i in range(len(present))]
    marks = [_ITEM.match(lines[f]) for f in firsts]
    columns = {len(m[1]) if m else -1 for m in marks}
    # Flow style puts items on the section's own line or several on one line; neither can be cut out by lines.
    if firsts[0] <= start or len(set(firsts)) < len(firsts) or len(columns) > 1 or -1 in columns:
        return None
    column = columns.pop()
    return [(f, _trim_end(lines, f, e, column + 1)) for f, e in zip(firsts, [*firsts[1:], end], strict=True)]


def _trim_end(lines: list[str], start: int, end: int, column: int) -> int:
    """Move ``end`` up over empty lines and comments left of ``column``, which belong to what follows."""
    while end > start + 1:
        line = lines[end - 1]
        bare = line.strip()
        if bare and bare != "..." and not (bare.startswith("#") and len(line) - len(line.lstrip()) < column):
            break
        end -= 1
    return end


def _item_edits(lines: list[str], items: list[tuple[int, int]], present: list[Any], changes: Sequence[Change]) -> list[Edit]:
    edits: list[Edit] = []
    new_items: list[str] = []
    last = items[-1]
    mark = _ITEM.match(lines[last[0]])
    assert mark is not None
    flow = lines[last[0]][mark.end() :].startswith("{")
    for change in changes:
        if change.position is None:
            new_items += _as_list_item(_new_text(change.value, flow), mark)
        elif change.value is None:
            start, end = items[int(change.position)]
            # Between two blank lines, one of them goes with the item.
            alone = not lines[start - 1].strip() and not "".join(lines[end : end + 1]).strip()
            edits.append((start - alone, end, []))
        else:
            start, end = items[int(change.position)]
            edits.append((start, end, _patch_item(lines[start:end], present[int(change.position)], change.value)))
    if new_items:
        edits.append((last[1], last[1], new_items))
    return edits


def _patch_item(lines: list[str], present: Any, value: Any) -> list[str]:
    """Return the lines of a list item changed from ``present`` to ``value``."""
    mark = _ITEM.match(lines[0])
    assert mark is not None
    width = mark.end()
    inner = [lines[0][width:]]
    # A comment may stand left of the item's column: it is moved inside, or the text would not parse by itself.
    for line in lines[1:]:
        inner.append(line[width:] if not line[:width].strip() else line.lstrip())
    yaml = round_trip_yaml(inner)
    node = yaml.load("\n".join(inner) + "\n")
    node = update_node(node, present, value)
    return _as_list_item(dump(yaml, node), mark)


def _as_list_item(text: str, mark: re.Match[str]) -> list[str]:
    """Return the lines of a mapping's text as an item of a list."""
    pad = " " * mark.end()
    lines = [pad + x if x else "" for x in text.rstrip("\n").split("\n")]
    return [mark[0] + lines[0][mark.end() :], *lines[1:]]


def _patch_section(name: str, present: Any, lines: list[str], changes: Sequence[Change]) -> list[str]:
    """Change a whole section: one that is empty, becomes empty, or is not a list in block style."""
    expected = _expected_value({name: present}, changes)
    if not expected[name]:
        return _emptied_section(lines, "{}" if isinstance(expected[name], dict) else "[]")
    if not present:
        return _filled_section(name, lines, changes)
    yaml = round_trip_yaml(lines)
    node = yaml.load("\n".join(lines) + "\n")
    if not isinstance(node, dict) or list(node) != [name]:
        raise NotPatchableError
    update_node(node, {name: present}, expected)
    rewritten = dump(yaml, node).rstrip("\n").split("\n")
    _require_comments(lines, rewritten)
    return rewritten


def _emptied_section(lines: list[str], empty: str) -> list[str]:
    """Return a section without its last entities, keeping the comments on lines of their own."""
    key = re.match(r"[\w'\"]+ *:", lines[0])
    if key is None:
        raise NotPatchableError
    return [" ".join([key[0], empty, *_comments(lines[:1])]), *(x for x in lines[1:] if x.lstrip().startswith("#"))]


def _filled_section(name: str, lines: list[str], changes: Sequence[Change]) -> list[str]:
    """Return an empty section with its first entities, after the comments in it."""
    head, *entities = _new_section(name, changes)
    kept = (x if x.lstrip().startswith("#") else f"  {comment}" for x in lines[1:] for comment in _comments([x]))
    return [" ".join([head, *_comments(lines[:1])]), *kept, *entities]


def _comments(lines: Iterable[str]) -> list[str]:
    return [found[0].strip() for x in lines if (found := re.search(r"(^|\s)#.*", x))]


def _require_comments(lines: Sequence[str], rewritten: Sequence[str]) -> None:
    """Refuse a result that lost a comment: ruamel has no room for one inside a list that it writes on one line."""
    if Counter(_comments(lines)) - Counter(_comments(rewritten)):
        raise NotPatchableError


def _new_section(name: str, changes: Sequence[Change]) -> list[str]:
    if changes[0].name or changes[0].is_section:
        yaml, value = round_trip_yaml(()), _expected_value({}, changes)
        return dump(yaml, new_node(value, top=True)).rstrip("\n").split("\n")
    mark = _ITEM.match("  - x")
    assert mark is not None
    return [f"{name}:", *(line for c in changes for line in _as_list_item(_new_text(c.value, False), mark))]


def _new_text(value: Any, flow: bool) -> str:
    return dump(round_trip_yaml(()), new_node(value, flow=flow, top=True))


# -- whole files ------------------------------------------------------------------------------------------------------


def _rewrite_json(text: str, expected: dict[str, Any]) -> str:
    """Write the whole file as JSON: a policy that is JSON stays JSON."""
    # Flow style YAML may begin with a brace as well; its comments and bare words are not JSON and raise here.
    json.loads(text)
    indent = re.search(r"\n( +)", text)

    def number(value: object) -> float:
        if isinstance(value, Decimal):
            return float(value)
        raise ValueError(f"{type(value).__name__} cannot be written as JSON")

    return json.dumps(expected, indent=len(indent[1]) if indent else None, default=number, ensure_ascii=False) + "\n"


def _rewrite_file(text: str, present: dict[str, Any], expected: dict[str, Any]) -> str:
    """Write the whole file with ruamel, for layouts that cannot be changed entity by entity."""
    yaml = round_trip_yaml(text.split("\n"))
    node = yaml.load(text)
    update_node(node, present, expected)
    rewritten = dump(yaml, node)
    _require_comments(text.split("\n"), rewritten.split("\n"))
    return rewritten
