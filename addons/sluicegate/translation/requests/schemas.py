"""JSON Schema as each API takes it: Gemini's own subset and back, Anthropic's rules for answers, OpenAI's for strict ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluicegate.translation.conversation import Untranslatable
from sluicegate.translation.requests.typed import as_object

type Schema = dict[str, Any]

MAX_NODES = 20_000
"""Nodes of one schema; references that refer to references could make any number of them."""

_COMBINED = ("anyOf", "oneOf", "allOf")
_LISTS = (*_COMBINED, "prefixItems")
_MAPS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_SINGLE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedProperties")
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")

_REFUSED_BY_ANTHROPIC = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "maxItems",
        "uniqueItems",
    }
    | {"minProperties", "maxProperties", "patternProperties", "propertyNames", "contains", "if", "then", "else", "not"}
    | {"default", "examples", "$schema"}
)
"""Keywords that Anthropic's structured outputs do not take; its own library leaves them out too."""


class _Walk:
    """Visits each schema inside a schema once, bounded."""

    def __init__(self) -> None:
        self.nodes = 0

    def count(self) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise Untranslatable("a JSON schema in the request is too large; make it smaller or refer to itself less")

    def inside(self, schema: Schema, change: Any) -> Schema:
        """Return the schema with ``change`` applied to every schema directly inside it."""
        self.count()
        found: Schema = {}
        for key, value in schema.items():
            if key in _MAPS and isinstance(value, dict):
                found[key] = {name: change(inner) for name, inner in value.items()}
            elif key in _LISTS and isinstance(value, list):
                found[key] = [change(inner) for inner in value]
            elif key in _SINGLE and isinstance(value, dict):
                found[key] = change(value)
            else:
                found[key] = value
        return found


def for_tool(schema: Mapping[str, Any]) -> Schema:
    """Return the schema of a tool's arguments with an object at its root, as Anthropic and OpenAI ask for."""
    found = with_branches(schema)
    properties = found.get("properties")
    found["properties"] = properties if isinstance(properties, dict) else {}
    return found if found.get("type") == "object" else {**found, "type": "object"}


def with_branches(schema: Mapping[str, Any]) -> Schema:
    """Return a schema without alternatives at its root, whose properties stand beside its own instead."""
    found = dict(schema)
    for key in _COMBINED:
        branches = found.pop(key, None)
        for branch in branches if isinstance(branches, list) else ():
            if isinstance(branch, dict) and isinstance(branch.get("properties"), dict):
                mine = found.get("properties")
                found["properties"] = {**branch["properties"], **(mine if isinstance(mine, dict) else {})}
    return found


def for_anthropic_answer(schema: Mapping[str, Any]) -> Schema:
    """Return the schema of an answer without what Anthropic refuses; every object is closed."""
    walk = _Walk()

    def change(inner: Any) -> Any:
        if not isinstance(inner, dict):
            return inner
        found = walk.inside({key: value for key, value in inner.items() if key not in _REFUSED_BY_ANTHROPIC}, change)
        if "oneOf" in found:
            found["anyOf"] = found.pop("oneOf")
        if found.get("type") == "object" or "properties" in found:
            found["additionalProperties"] = False
        if found.get("minItems") not in (None, 0, 1):
            del found["minItems"]
        return found

    return as_object(change(dict(schema)), "the schema")


def is_strict(schema: Mapping[str, Any]) -> bool:
    """Whether OpenAI takes a schema as a strict one: all objects are closed and require all their properties."""
    walk = _Walk()
    strict = [True]

    def change(inner: Any) -> Any:
        if isinstance(inner, dict):
            if inner.get("type") == "object" or "properties" in inner:
                properties, required = inner.get("properties") or {}, inner.get("required") or []
                names = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
                named = isinstance(properties, dict) and properties.keys() <= names
                strict[0] = strict[0] and named and inner.get("additionalProperties") is False
            walk.inside(inner, change)
        return inner

    change(dict(schema))
    return strict[0] and schema.get("type") == "object"


# -- Gemini's own form ---------------------------------------------------------------------------------------------------


def from_gemini(schema: Any) -> Any:
    """Return a schema in Gemini's own form as JSON Schema: types in lower case, null as a type, counts as numbers."""
    walk = _Walk()

    def change(inner: Any) -> Any:
        if not isinstance(inner, dict):
            return inner
        kept = {key: value for key, value in inner.items() if key not in ("propertyOrdering", "nullable", "example", "any_of")}
        if "any_of" in inner:
            kept["anyOf"] = inner["any_of"]
        found = walk.inside(kept, change)
        kind = found.get("type")
        if isinstance(kind, str):
            found["type"] = kind.lower() if kind.isupper() else kind
            if found["type"] == "type_unspecified":
                del found["type"]
        if found.get("format") == "enum":
            del found["format"]
        for key in _COUNTS:
            if isinstance(found.get(key), str) and found[key].isdecimal() and len(found[key]) < 16:
                found[key] = int(found[key])
        return _nullable(found) if inner.get("nullable") is True else found

    return change(schema)


def _nullable(schema: Schema) -> Schema:
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
        if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
            # In JSON Schema null must stand in the enumeration too; in Gemini's it is said beside it.
            schema["enum"] = [*schema["enum"], None]
    elif "anyOf" in schema and isinstance(schema["anyOf"], list):
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    return schema
