"""Personal data in records: what of a call, an adjustment or a counter tells of a person, and what stands there once erased."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sluicegate.calls.record import Record

PERSONAL_COLUMNS = (
    *("session_id", "agent_id", "user_agent", "client_address", "message", "labels"),
    *("claimed_project", "source"),
)
"""Columns of calls and connections that are emptied: they tell where and with what a person worked."""

_SHARED = ("team", "customer", "project", "provider", "model")
"""Kinds of scope whose ids are not a person's, though they may be spelled alike."""


@dataclass(frozen=True)
class Person:
    """A user to be erased, the keys that are the user's alone, and the names people know them by."""

    user_id: str
    pseudonym: str
    """What stands in the place of the user's id: random, so that it does not lead back."""
    keys: Mapping[str, str]
    """By the id of a key, what stands in its place."""
    names: tuple[str, ...] = ()

    @cached_property
    def instead(self) -> Mapping[str, str]:
        """Return by id, of the user or a key, what stands in its place."""
        return {self.user_id: self.pseudonym, **self.keys}

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Match every id and name where it stands as a word of its own."""
        words = sorted({*self.instead, *self.names} - {""}, key=len, reverse=True)
        return re.compile(rf"(?<![\w.@+-])(?:{'|'.join(map(re.escape, words))})(?![\w@+-])(?!\.\w)", re.IGNORECASE)

    def without(self, text: str) -> str:
        """Return a text with the pseudonym in the place of every id and name."""
        return self.pattern.sub(lambda found: self.instead.get(found[0], self.pseudonym), text)

    def is_in(self, text: str) -> bool:
        """Return whether any id or name stands in a text."""
        return self.pattern.search(text) is not None

    def made(self, record: Mapping[str, Any]) -> bool:
        """Return whether a call or connection is the person's."""
        return record.get("user_id") == self.user_id or record.get("virtual_key_id") in self.keys

    def owns_counter(self, name: str) -> bool:
        """Return whether a counter is of the user or of one of the keys, and of nobody else."""
        kind, _, rest = name.partition("/")
        return kind not in _SHARED and any(rest.startswith(f"{i}/") for i in self.instead)

    def erase(self, record: Record) -> Record:
        """Return a call, a connection or an adjustment without the person; all that is counted stays."""
        if "charges" in record:
            return self._adjustment(record)
        if not self.made(record):
            return record
        erased = record | {name: None for name in PERSONAL_COLUMNS if name in record}
        if erased.get("user_id") is not None:
            erased["user_id"] = self.instead.get(erased["user_id"], erased["user_id"])
        erased["virtual_key_id"] = self.keys.get(record.get("virtual_key_id") or "", record.get("virtual_key_id"))
        if record.get("limits"):
            erased["limits"] = [[c[0], self._scope(c[0], c[1]), *c[2:]] for c in record["limits"]]
        return erased

    def _adjustment(self, record: Record) -> Record:
        erased = dict(record)
        for name in ("user_id", "virtual_key_id"):
            erased[name] = self.instead.get(record.get(name) or "", record.get(name))
        if record.get("scope_id") is not None:
            erased["scope_id"] = self._scope(str(record.get("scope_kind")), record["scope_id"])
        if record.get("reason"):
            erased["reason"] = self.without(record["reason"])
        erased["charges"] = [[self._counter(name), *rest] for name, *rest in record["charges"]]
        return erased

    def _counter(self, name: str) -> str:
        kind, _, rest = name.partition("/")
        return f"{kind}/{self.without(rest)}" if self.owns_counter(name) else name

    def _scope(self, kind: str, scope_id: str) -> str:
        if kind in _SHARED:
            return scope_id
        first, slash, rest = scope_id.partition("/")
        return self.instead.get(scope_id) or self.instead.get(first, first) + slash + rest
