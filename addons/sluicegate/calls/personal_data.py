"""Personal data in records: what of a call, an adjustment or a counter tells of a person, and what stands there once erased."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from sluicegate.calls.record import Record
from sluicegate.policy.labels import labels_text

PERSONAL_COLUMNS = (
    *("session_id", "agent_id", "user_agent", "client_address", "message"),
    *("claimed_project", "source"),
)
"""Columns of calls and connections that are emptied: they tell where and with what a person worked."""


@dataclass(frozen=True)
class Person:
    """A user to be erased, the keys that are the user's alone, and the names people know them by."""

    user_id: str
    pseudonym: str
    """What stands in the place of the user's id: random, so that it does not lead back."""
    keys: Mapping[str, str]
    """By the id of a key, what stands in its place."""
    names: tuple[str, ...] = ()
    shared: frozenset[str] = frozenset()
    """Ids of teams, operators and others that are spelled like the person's: as words of a text they tell of nobody."""

    group_labels: frozenset[tuple[str, str]] = frozenset()
    """Labels, by name and value, that teams, customers and projects have: they tell of nobody, and costs are added up by them."""

    @cached_property
    def instead(self) -> Mapping[str, str]:
        """Return by id, of the user or a key, what stands in its place."""
        return {self.user_id: self.pseudonym, **self.keys}

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Match every id and name where it stands as a word of its own."""
        words = sorted({*self.instead, *self.names} - {""} - self.shared, key=len, reverse=True)
        if not words:
            return re.compile(r"(?!)")
        return re.compile(rf"(?<![\w.@+-])(?:{'|'.join(map(re.escape, words))})(?![\w@+-])(?!\.\w)", re.IGNORECASE)

    def without(self, text: str) -> str:
        """Return a text with the pseudonym in the place of every id and name."""
        return self.pattern.sub(lambda found: self.instead.get(found[0], self.pseudonym), text)

    def is_in(self, text: str) -> bool:
        """Return whether any id or name stands in a text."""
        return self.pattern.search(text) is not None

    def without_in(self, value: Any, field: str = "") -> Any:
        """Return values of an entity, as JSON has them, without the person. Ids of other entities stay, however spelled."""
        if isinstance(value, dict):
            return {name: self.without_in(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.without_in(inner, field) for inner in value]
        if not isinstance(value, str):
            return value
        if field == "user_id":
            return self.scope("user", value)
        if field == "virtual_key_id":
            return self.scope("virtual_key", value)
        return value if field == "id" or field.endswith("_id") else self.without(value)

    def made(self, record: Mapping[str, Any]) -> bool:
        """Return whether a call or connection is the person's."""
        return record.get("user_id") == self.user_id or record.get("virtual_key_id") in self.keys

    def owns_counter(self, name: str) -> bool:
        """Return whether a counter is of the user or of one of the keys, and of nobody else."""
        return self._counter(name) != name

    def erase(self, record: Record) -> Record:
        """Return a call, a connection or an adjustment without the person; all that is counted stays."""
        if "charges" in record:
            return self._adjustment(record)
        if not self.made(record):
            return record
        erased = record | {name: None for name in PERSONAL_COLUMNS if name in record}
        if erased.get("user_id") is not None:
            erased["user_id"] = self.scope("user", erased["user_id"])
        if erased.get("labels"):
            labels = orjson.loads(erased["labels"])
            erased["labels"] = labels_text({n: value for n, value in labels.items() if (n, value) in self.group_labels})
        erased["virtual_key_id"] = self.keys.get(record.get("virtual_key_id") or "", record.get("virtual_key_id"))
        if record.get("limits"):
            erased["limits"] = [[c[0], self.scope(c[0], c[1]), *c[2:]] for c in record["limits"]]
        return erased

    def _adjustment(self, record: Record) -> Record:
        erased = dict(record)
        for name, kind in (("user_id", "user"), ("virtual_key_id", "virtual_key"), ("scope_id", record.get("scope_kind"))):
            if record.get(name) is not None:
                erased[name] = self.scope(str(kind), record[name])
        for name in ("reason", "actor"):
            if record.get(name):
                erased[name] = self.without(record[name])
        erased["charges"] = [[self._counter(name), *rest] for name, *rest in record["charges"]]
        return erased

    def _counter(self, name: str) -> str:
        kind, _, rest = name.partition("/")
        scope_id, slash, unit = rest.partition("/")
        return f"{kind}/{self.scope(kind, scope_id)}{slash}{unit}"

    def scope(self, kind: str, scope_id: str) -> str:
        """Return what a scope is called once the person is erased; others, also those that are spelled alike, keep their ids."""
        if kind == "user":
            return self.pseudonym if scope_id == self.user_id else scope_id
        if kind == "provider_config":
            # Of a key at a provider; a key's id may have a colon too.
            key, colon, provider = scope_id.rpartition(":")
            return self.keys.get(key, key) + colon + provider
        return self.keys.get(scope_id, scope_id) if kind == "virtual_key" else scope_id
