"""The kinds of entities in a policy, their names in file and API, and finding one by id or name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sluicegate.policy import schema
from sluicegate.policy.secrets import ENV, FILE, is_reference

REDACTED = "********"
"""Shown in place of a secret."""

MAX_ID_LENGTH = 128

_FILLER_WORDS = frozenset({"team", "corp", "inc", "ltd", "llc", "gmbh", "group"})


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of entity. ``name`` is its key in the policy, ``singular`` the word for one, ``path`` its path in the API."""

    name: str
    singular: str
    path: str
    label: str
    scope: str
    """The scope kind that its limits are counted under."""
    prefix: str
    """Prefix of ids made from names; empty where names are not used."""
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
"""Fields that refer to another entity, and the kind it is of."""


class AmbiguousNameError(ValueError):
    """A name that several entities have; ``candidates`` are their ids."""

    def __init__(self, name: str, candidates: Iterable[str]) -> None:
        self.candidates = sorted(candidates)
        super().__init__(f"'{name}' may be any of {', '.join(self.candidates)}: give the id of one")


def id_from_name(kind: Kind, name: str) -> str:
    """Return the id made from a name: ``customer-acme`` for ``Acme Corp``. Raises ValueError where no id can be made."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", plain)
    if words[:1] == [kind.prefix]:
        words = words[1:]
    kept = [w for w in words if w not in _FILLER_WORDS] or words
    if not kept:
        raise ValueError(f"no id can be made from the name '{name}': give an id")
    return "-".join([kind.prefix, *kept])[:MAX_ID_LENGTH].rstrip("-")


def id_of(kind: Kind, value: Mapping[str, Any]) -> str:
    """Return the id of an entity from its fields in the policy."""
    if kind.name != "model_configs":
        return str(value.get("id"))
    model = str(value.get("model_name"))
    return f"{value['provider']}/{model}" if value.get("provider") else model


class NameIndex:
    """The entities of one kind, found by id, by the id made from their name, or by name."""

    def __init__(self, kind: Kind, names: Mapping[str, str | None]) -> None:
        self.kind, self.ids = kind, set(names)
        self._ids_by_word: dict[str, set[str]] = {}
        for entity_id, name in names.items():
            self.add(entity_id, name)

    def add(self, entity_id: str, name: str | None) -> None:
        """Add an entity."""
        self.ids.add(entity_id)
        for word in self._words(name) if name and self.kind.prefix else ():
            self._ids_by_word.setdefault(word, set()).add(entity_id)

    def find(self, id_or_name: str) -> str | None:
        """Return the id of the entity with this id or name, None if there is none. Raises AmbiguousNameError."""
        # An id always means the entity that has it, even where it is another one's name.
        if id_or_name in self.ids:
            return id_or_name
        if not self.kind.prefix:
            return None
        words = self._words(id_or_name)
        found = {entity_id for word in words for entity_id in self._ids_by_word.get(word, ())} | (words & self.ids)
        if len(found) > 1:
            raise AmbiguousNameError(id_or_name, found)
        return found.pop() if found else None

    def _words(self, name: str) -> set[str]:
        try:
            return {" " + name.casefold(), id_from_name(self.kind, name)}
        except ValueError:
            return {" " + name.casefold()}


_REFERENCES_ALLOWED: Mapping[str, tuple[str, ...]] = {"value": (ENV,)} | dict.fromkeys(
    ("provider_key", "url", "secret", "admin_key", "client_secret"), (ENV, FILE)
)
"""Fields that hold a secret or a reference of these kinds to one."""


def redacted(value: Any, field: str = "") -> Any:
    """Return the same values with every secret replaced; references to secrets are kept."""
    if isinstance(value, Mapping):
        if field == "headers":
            return {k: redacted(v, "secret") for k, v in value.items()}
        return {k: redacted(v, "provider_key" if (field, k) == ("keys", "value") else k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(v, field) for v in value]
    if field in ("value_hash", "previous_value_hash", "token_hash") and value is not None:
        return REDACTED
    kinds = _REFERENCES_ALLOWED.get(field)
    if kinds is not None and isinstance(value, str) and not is_reference(value, kinds):
        return REDACTED
    return value
