"""Write a JSON schema in the subset of OpenAPI that Gemini takes: no references, one type each, text enumerations.

What the subset can't say is left out; a value of any type is asked for as text. Source: the type ``Schema`` of
google-genai 3.6.1 and the API's documentation of structured output (2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluicegate.translation.conversation import Untranslatable
from sluicegate.translation.requests.schemas import MAX_NODES, Schema, with_branches

_KEPT = ("title", "description", "minItems", "maxItems", "minimum", "maximum", "minLength", "maxLength", "pattern")
_FORMATS = {"STRING": ("date-time",), "NUMBER": ("float", "double"), "INTEGER": ("int32", "int64")}
_TYPES = ("string", "number", "integer", "boolean", "array", "object")


def for_gemini(schema: Mapping[str, Any]) -> Schema:
    """Return the schema in Gemini's form. Raises Untranslatable for one that its references make too large."""
    return _Writer(schema).write(schema, ())


class _Writer:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = root
        self.nodes = 0

    def write(self, schema: Any, seen: tuple[str, ...]) -> Schema:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise Untranslatable("a JSON schema in the request is too large; make it smaller or refer to itself less")
        if not isinstance(schema, Mapping) or not schema:
            return {"type": "STRING"}
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return self._referred(reference, schema, seen)
        merged = _merged(schema)
        branches = merged.get("anyOf") or merged.get("oneOf")
        if not isinstance(branches, list) or not branches:
            return self._typed(merged, seen)
        if "type" in merged or "properties" in merged:
            # The branches only narrow what stands beside them; what they add to an object's properties is kept.
            return self._typed(with_branches(merged), seen)
        return self._any_of(merged, branches, seen)

    def _referred(self, reference: str, schema: Mapping[str, Any], seen: tuple[str, ...]) -> Schema:
        target: Any = self.root
        for step in reference.removeprefix("#").split("/")[1:]:
            target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
        if reference in seen or not reference.startswith("#") or not isinstance(target, Mapping):
            return {"type": "OBJECT"}
        annotations: Schema = {key: value for key, value in schema.items() if key in ("title", "description")}
        return self.write({**target, **annotations}, (*seen, reference))

    def _any_of(self, schema: Schema, branches: list[Any], seen: tuple[str, ...]) -> Schema:
        real = [branch for branch in branches if not (isinstance(branch, Mapping) and branch.get("type") == "null")]
        annotations: Schema = {key: schema[key] for key in ("title", "description") if key in schema}
        if not real:
            return {"type": "STRING", "nullable": True, **annotations}
        written = [self.write(branch, seen) for branch in real]
        if len(written) < len(branches):
            written = [{**branch, "nullable": True} for branch in written]
        if len(written) == 1:
            return {**written[0], **annotations}
        # Beside anyOf no other field may stand, so the description goes to the first branch.
        written[0] = {**annotations, **written[0]}
        return {"anyOf": written}

    def _typed(self, schema: Schema, seen: tuple[str, ...]) -> Schema:
        kinds, nullable = _types(schema)
        if len(kinds) > 1:
            return self._any_of(schema, [{**schema, "type": kind} for kind in (*kinds, *(["null"] * nullable))], seen)
        kind = kinds[0].upper()
        found: Schema = {"type": kind}
        if schema.get("format") in _FORMATS.get(kind, ()):
            found["format"] = schema["format"]
        found |= {key: schema[key] for key in _KEPT if schema.get(key) is not None}
        if nullable:
            found["nullable"] = True
        self._values(schema, kind, found)
        if kind == "ARRAY":
            items = schema.get("items")
            first = schema.get("prefixItems") or [None]
            found["items"] = self.write(
                items if isinstance(items, Mapping) else first[0] if isinstance(first, list) else None, seen
            )
        if kind == "OBJECT":
            self._properties(schema, found, seen)
        return found

    def _properties(self, schema: Schema, found: Schema, seen: tuple[str, ...]) -> None:
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or not properties:
            return
        found["properties"] = {name: self.write(inner, seen) for name, inner in properties.items()}
        required = schema.get("required")
        names = [name for name in required if isinstance(name, str) and name in properties] if isinstance(required, list) else []
        if names:
            found["required"] = names

    @staticmethod
    def _values(schema: Schema, kind: str, found: Schema) -> None:
        """Write an enumeration: as one where it is of texts, and in words where Gemini has no enumeration of such values."""
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if not isinstance(values, list):
            return
        if None in values:
            found["nullable"] = True
        texts = [value for value in values if isinstance(value, str) and value]
        if kind == "STRING" and texts and "" not in values:
            found["enum"] = texts
        elif kind != "STRING":
            words = "One of: " + ", ".join(str(value) for value in values if value is not None)
            found["description"] = f"{found['description']} {words}" if found.get("description") else words


def _merged(schema: Mapping[str, Any]) -> Schema:
    """Return a schema with the branches of its ``allOf`` joined into it."""
    found = dict(schema)
    branches = found.pop("allOf", None)
    for branch in branches if isinstance(branches, list) else ():
        if not isinstance(branch, Mapping):
            continue
        for key, value in branch.items():
            mine = found.get(key)
            if isinstance(mine, Mapping) and isinstance(value, Mapping):
                found[key] = {**value, **mine}
            elif isinstance(mine, list) and isinstance(value, list) and key == "required":
                found[key] = list(dict.fromkeys(name for name in (*mine, *value) if isinstance(name, str)))
            else:
                found.setdefault(key, value)
    return found


def _types(schema: Schema) -> tuple[list[str], bool]:
    """Return the types that a schema allows besides null, at least one, and whether it allows null."""
    given = schema.get("type")
    named = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    kinds = [kind for kind in _TYPES if kind in named]
    if not kinds:
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        kinds = ["object"] if "properties" in schema else ["array"] if "items" in schema else [_kind_of(values)]
    return kinds, "null" in named or schema.get("nullable") is True


def _kind_of(values: Any) -> str:
    first = next((value for value in values if value is not None), "") if isinstance(values, list) else ""
    if isinstance(first, bool):
        return "boolean"
    return "number" if isinstance(first, int | float) else "string"
