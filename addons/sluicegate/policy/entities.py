"""The kinds of things a policy knows, what they are called, and how one is found by what people call it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sluicegate.policy import schema
from sluicegate.policy.secrets import ENV, FILE, is_reference

REDACTED = "********"
"""Stands where a secret is."""

_NOISE = frozenset({"team", "corp", "inc", "ltd", "llc", "gmbh", "group"})


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. ``name`` is its key in the policy, ``singular`` the word for a single one, ``path`` its place in the API."""

    name: str
    singular: str
    path: str
    label: str
    scope: str
    """The word limits are counted under."""
    prefix: str
    """What ids made of names begin with."""
    model: type[schema.Limited]


KINDS: Mapping[str, Kind] = {
    k.name: k
    for k in (
        Kind("customers", "customer", "customers", "Customer", "customer", "customer", schema.Customer),
        Kind("teams", "team", "teams", "Team", "team", "team", schema.Team),
        Kind("users", "user", "users", "User", "user", "user", schema.User),
        Kind("projects", "project", "projects", "Project", "project", "project", schema.Project),
        Kind("virtual_keys", "virtual_key", "virtual-keys", "Virtual key", "virtual_key", "vk", schema.VirtualKey),
        Kind("model_configs", "model_config", "model-configs", "Model config", "model", "", schema.ModelConfig),
        Kind("providers", "provider", "providers", "Provider", "provider", "", schema.Provider),
    )
}

REFERENCES: Mapping[str, str] = {f"{KINDS[name].singular}_id": name for name in ("customers", "teams", "users", "projects")}
"""Fields that name another entity, and of which kind."""


class AmbiguousName(ValueError):
    """Several entities are called this; ``candidates`` are their ids."""

    def __init__(self, called: str, candidates: Iterable[str]) -> None:
        self.candidates = sorted(candidates)
        super().__init__(f"'{called}' may be any of {', '.join(self.candidates)}: say which by its id")


def id_from_name(kind: Kind, name: str) -> str:
    """The id a name makes: ``Acme Corp`` is ``customer-acme``. Raises ValueError where nothing of the name can stand in one."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", plain)
    if words[:1] == [kind.prefix]:
        words = words[1:]
    kept = [w for w in words if w not in _NOISE] or words
    if not kept:
        raise ValueError(f"no id can be made of the name '{name}': give one as id")
    return "-".join([kind.prefix, *kept])[:128].rstrip("-")


def id_of(kind: Kind, value: Mapping[str, Any]) -> str:
    """The id of an entity as it stands in a policy's list."""
    if kind.name != "model_configs":
        return str(value.get("id"))
    model = str(value.get("model_name"))
    return f"{value['provider']}/{model}" if value.get("provider") else model


class NameIndex:
    """What the entities of one kind are called: looked up by id, by the id a name makes, or by name."""

    def __init__(self, kind: Kind, names: Mapping[str, str | None]) -> None:
        self.kind, self.ids = kind, set(names)
        self._called: dict[str, set[str]] = {}
        for one, name in names.items():
            self.add(one, name)

    def add(self, entity_id: str, name: str | None) -> None:
        """Take note of an entity."""
        self.ids.add(entity_id)
        for word in self._words(name) if name and self.kind.prefix else ():
            self._called.setdefault(word, set()).add(entity_id)

    def find(self, called: str) -> str | None:
        """The id of the entity that is called this. Raises AmbiguousName. An id always means the entity that has it."""
        if called in self.ids:
            return called
        if not self.kind.prefix:
            return None
        words = self._words(called)
        found = {one for word in words for one in self._called.get(word, ())} | (words & self.ids)
        if len(found) > 1:
            raise AmbiguousName(called, found)
        return found.pop() if found else None

    def _words(self, name: str) -> set[str]:
        try:
            return {" " + name.casefold(), id_from_name(self.kind, name)}
        except ValueError:
            return {" " + name.casefold()}


_SOURCES: Mapping[str, tuple[str, ...]] = {"value": (ENV,)} | dict.fromkeys(("provider_key", "url", "secret"), (ENV, FILE))
"""Fields that hold a secret, or begin with one of these and say where it is."""


def redacted(value: Any, field: str = "") -> Any:
    """The same values with every secret replaced; where a secret comes from may be shown."""
    if isinstance(value, Mapping):
        return {k: redacted(v, "provider_key" if (field, k) == ("keys", "value") else k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(v, field) for v in value]
    if field in ("value_hash", "previous_value_hash", "token_hash") and value is not None:
        return REDACTED
    sources = _SOURCES.get(field)
    if sources is not None and isinstance(value, str) and not is_reference(value, sources):
        return REDACTED
    return value
