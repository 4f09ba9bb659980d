"""Taking a person out of one entry that gateways exchange: of the audit trail, of the policy's history, or an adjustment."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from sluicegate.calls.personal_data import Person
from sluicegate.logs.erasure import policy_without


def entry_without(person: Person, kind: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an entry's values without the person; that something was done stays."""
    if kind == "audit":
        return _of_trail(person, values)
    if kind == "revision":
        return _revision(person, values)
    if kind == "adjustment":
        made = person.erase(dict(values) | {"charges": orjson.loads(values["charges"])})
        return made | {"charges": orjson.dumps(made["charges"]).decode()}
    return values


def _of_trail(person: Person, values: Mapping[str, Any]) -> Mapping[str, Any]:
    kind, entity = values["entity_kind"], values["entity_id"]
    erased = person.scope(kind, entity)
    texts = {n: _text_without(person, values[n]) if erased == entity else None for n in ("before", "after")}
    return {**values, **texts, "entity_id": erased, "who": values["who"] and person.without(values["who"])}


def _text_without(person: Person, text: str | None) -> str | None:
    if not text or not replace(person, shared=frozenset()).is_in(text):
        return text
    value = orjson.loads(text)
    erased = person.without_in(value)
    return text if erased == value else orjson.dumps(erased).decode()


def _revision(person: Person, values: Mapping[str, Any]) -> Mapping[str, Any]:
    files = orjson.loads(zlib.decompress(base64.b64decode(values["files"])))
    may_be_in = replace(person, shared=frozenset()).is_in
    who = values["who"] and person.without(values["who"])
    if who == values["who"] and not may_be_in(values["summary"]) and not any(map(may_be_in, files.values())):
        return values
    packed = base64.b64encode(zlib.compress(orjson.dumps(policy_without(files, person)), 6)).decode()
    return {**values, "who": who, "summary": person.without(values["summary"]), "files": packed}
