"""Reading and writing YAML with ruamel.yaml, which keeps comments, quotes and layout of everything that is not changed.

ruamel is imported late: it takes a tenth of a second, and only a process that changes a policy needs it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sluicegate.yaml_document import is_plain_scalar

if TYPE_CHECKING:
    from ruamel.yaml import YAML

MAX_INLINE_COLUMNS = 110
"""Columns a new mapping may take on one line."""


def round_trip_yaml(lines: Iterable[str]) -> YAML:
    """Return a reader and writer that keeps the layout, with lists indented as in these lines."""
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import ScalarNode
    from ruamel.yaml.resolver import VersionedResolver
    from ruamel.yaml.tag import Tag

    class Plain(VersionedResolver):
        """A resolver that reads every word as text: our own parser decides what ``yes`` or ``22:00`` means."""

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
    """Return how far the dashes of a list are indented from its key."""
    key = 0
    for line in lines:
        bare = line.lstrip(" ")
        if bare.startswith("- "):
            return min(4, max(0, len(line) - len(bare) - key))
        if bare and not bare.startswith("#"):
            key = len(line) - len(bare)
    return 2


def dump(yaml: YAML, node: Any) -> str:
    """Return a node as text."""
    out = io.StringIO()
    yaml.dump(node, out)
    return out.getvalue()


def update_node(node: Any, present: Any, value: Any) -> Any:
    """Change a node from ``present`` to ``value`` in place, leaving alone what is equal; return it or its replacement."""
    if isinstance(value, dict) and isinstance(present, dict) and isinstance(node, dict):
        for key in [k for k in node if k not in value]:
            del node[key]
        for key, new in value.items():
            if key not in node:
                node[key] = new_node(new, flow=_is_flow(node))
            # True equals 1 in Python, but not in a policy.
            elif present[key] != new or isinstance(present[key], bool) != isinstance(new, bool):
                node[key] = update_node(node[key], present[key], new)
        return node
    if isinstance(value, list) and isinstance(present, list) and isinstance(node, list) and value and present:
        for i in range(min(len(value), len(present))):
            if value[i] != present[i]:
                node[i] = update_node(node[i], present[i], value[i])
        del node[len(value) :]
        for new in value[len(present) :]:
            node.append(new_node(new, flow=_is_flow(node)))
        return node
    return new_node(value, flow=_is_flow(node))


def _is_flow(node: Any) -> bool:
    style = getattr(node, "fa", None)
    return bool(style is not None and style.flow_style())


def new_node(value: Any, flow: bool = False, top: bool = False) -> Any:
    """Return a node for a new value: small mappings on one line, words that would be read as something else in quotes."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString, PlainScalarString

    if isinstance(value, dict):
        mapping = CommentedMap()
        small = not top and len(_one_line(value)) <= MAX_INLINE_COLUMNS and not any(isinstance(v, dict) for v in value.values())
        if value and (flow or small):
            mapping.fa.set_flow_style()
        for key, inner in value.items():
            mapping[PlainScalarString(key) if is_plain_scalar(key) else DoubleQuotedScalarString(key)] = new_node(
                inner, flow or small
            )
        return mapping
    if isinstance(value, list | tuple):
        sequence = CommentedSeq(new_node(v, flow) for v in value)
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
