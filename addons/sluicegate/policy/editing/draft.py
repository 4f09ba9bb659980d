"""A policy being changed: plain values and what has been done to them. Knows no file, no YAML text and no HTTP.

A change names only what it changes: fields that are absent stay, null removes. ``Draft`` collects changes and checks
each entity's own shape; the whole is checked by the loader, like any other policy, before it replaces anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from sluicegate.policy.entities import KINDS, REFERENCES, AmbiguousName, Kind, NameIndex, id_from_name, id_of
from sluicegate.policy.errors import describe_errors, did_you_mean
from sluicegate.yaml_document import Document, dotted

Fields = Mapping[str, Any]
Value = dict[str, Any]


class EditError(Exception):
    """A change that cannot be made. ``field`` is where in the change the reason lies, ``details`` is for programs."""

    def __init__(self, message: str, field: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.field, self.details = field, details


class NotFound(EditError):
    """There is no such entity."""


class Conflict(EditError):
    """The change does not fit what is there."""


@dataclass(slots=True)
class DraftEntry:
    """One entity. ``before`` is what is in the file, ``after`` what is to be; None where it is not there."""

    kind: Kind
    id: str
    doc: int | None
    """Which of the policy's files it is in."""
    place: int | str | None
    """Its index or key in that file's list or mapping; None for a new one."""
    before: Value | None
    after: Value | None
    touched: bool = False

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return self.touched and self.before != self.after


@dataclass(slots=True)
class Draft:
    """The policy's files as plain values, and the changes made to them so far."""

    docs: Sequence[Document]
    created: list[DraftEntry] = field(default_factory=list)
    """Entities made because something named them."""
    _entries: dict[str, dict[str, DraftEntry]] = field(default_factory=dict)
    _names: dict[str, NameIndex] = field(default_factory=dict)

    def entries(self, kind: Kind) -> dict[str, DraftEntry]:
        """Every entity of a kind by id, those to be deleted included, in the order of the files."""
        found = self._entries.get(kind.name)
        if found is None:
            found = self._entries[kind.name] = {}
            for number, doc in enumerate(self.docs):
                held = doc.value.get(kind.name) if isinstance(doc.value, dict) else None
                if held is None:
                    continue
                if not isinstance(held, dict if kind.name == "providers" else list):
                    raise Conflict(f"{kind.name} in {doc.file} is not what it must be; put it right first")
                for place, value in held.items() if isinstance(held, dict) else enumerate(held):
                    value = {} if value is None else value
                    if not isinstance(value, dict):
                        raise Conflict(f"{kind.name} in {doc.file} is not what it must be; put it right first")
                    name = str(place) if isinstance(held, dict) else id_of(kind, value)
                    found[name] = DraftEntry(kind, name, number, place, value, value)
        return found

    def find(self, kind: Kind, called: str) -> DraftEntry | None:
        """The entity called this by id, slug or name. Raises Conflict where several are."""
        entry = self.entries(kind).get(called)
        if entry is not None and entry.after is not None:
            return entry
        names = self._names.get(kind.name)
        if names is None:
            present = {i: e.after.get("name") for i, e in self.entries(kind).items() if e.after is not None}
            names = self._names[kind.name] = NameIndex(kind, present)
        try:
            found = names.find(called)
        except AmbiguousName as e:
            raise Conflict(str(e), candidates=e.candidates) from e
        return self.entries(kind)[found] if found is not None else None

    def get(self, kind: Kind, called: str) -> DraftEntry:
        """Like ``find``, for an entity that must be there. Raises NotFound or Conflict."""
        entry = self.find(kind, called)
        if entry is None:
            near = did_you_mean(called, (i for i, e in self.entries(kind).items() if e.after is not None))
            raise NotFound(f"{kind.label} not found: there is no {kind.singular} '{called}'{near}")
        return entry

    def upsert(self, kind: Kind, name: str, fields: Fields, *, create_teams: bool = False) -> DraftEntry:
        """Change the entity with this id, or make it. Raises EditError naming the field that is wrong."""
        fields = self._resolve_references(_exact_numbers(fields), create_teams)
        entry = self.entries(kind).get(name)
        if entry is None:
            entry = self.entries(kind)[name] = DraftEntry(kind, name, None, None, None, None)
        present = entry.after
        if present is None:
            present = {} if kind.name in ("providers", "model_configs") else {"id": name}
        after = merge_fields(present, fields)
        validate_entity(kind, after)
        if kind.name in self._names:
            if present.get("name") != after.get("name") and entry.before is not None:
                del self._names[kind.name]
            else:
                self._names[kind.name].add(name, after.get("name"))
        entry.after, entry.touched = order_fields(kind, after) if entry.before is None else after, True
        return entry

    def delete(self, entry: DraftEntry, *, detach: bool = False) -> list[DraftEntry]:
        """Delete an entity, and what it is named by only with ``detach``. Returns those that were detached."""
        field = f"{entry.kind.singular}_id"
        referring = [e for e in self._all() if e.after and field in REFERENCES and e.after.get(field) == entry.id]
        if referring and not detach:
            names = [f"{e.kind.singular} {e.id}" for e in referring]
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise Conflict(
                f"{entry.kind.label} '{entry.id}' is still named by {shown}: change them first, or delete with detach=true",
                referred_by=names,
            )
        for other in referring:
            self.upsert(other.kind, other.id, {field: None})
        entry.after, entry.touched = None, True
        self._names.pop(entry.kind.name, None)
        return referring

    def changes(self) -> list[DraftEntry]:
        """What is to be written."""
        return [e for e in self._all(loaded=True) if e.changed]

    def _all(self, loaded: bool = False) -> Iterator[DraftEntry]:
        for kind in KINDS.values():
            if not loaded or kind.name in self._entries:
                yield from list(self.entries(kind).values())

    def _resolve_references(self, fields: Fields, create_teams: bool) -> Fields:
        """The same fields with references by slug or name replaced by ids."""
        resolved = dict(fields)
        for name, target in REFERENCES.items():
            called = fields.get(name)
            if not isinstance(called, str):
                continue
            kind = KINDS[target]
            try:
                entry = self.find(kind, called)
            except Conflict as e:
                raise Conflict(str(e), name, **e.details) from e
            if entry is None and create_teams and kind.name == "teams":
                entry = self.upsert(kind, called if is_valid_id(called) else make_id(kind, called, name), {})
                self.created.append(entry)
            if entry is None:
                near = did_you_mean(called, (i for i, e in self.entries(kind).items() if e.after is not None))
                raise EditError(f"there is no {kind.singular} '{called}'{near}", name)
            resolved[name] = entry.id
        return resolved


def make_id(kind: Kind, name: str, field: str) -> str:
    """The id a name makes. Raises EditError where it makes none."""
    try:
        return id_from_name(kind, name)
    except ValueError as e:
        raise EditError(f"{field}: {e}", field) from e


def is_valid_id(called: str) -> bool:
    """Whether a text can be an id as it is."""
    return not any(field == "id" for field, _ in validation_errors(KINDS["teams"], {"id": called}))


def _exact_numbers(value: Any) -> Any:
    """The same values as a policy file would give them: decimals instead of binary fractions, lists."""
    if isinstance(value, Mapping):
        return {k: _exact_numbers(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_exact_numbers(v) for v in value]
    return Decimal(repr(value)) if isinstance(value, float) else value


def merge_fields(present: Fields, fields: Fields) -> Value:
    """``present`` with ``fields`` changed: absent stays, null goes, limits field by field, provider keys by name."""
    after = dict(present)
    for name, value in fields.items():
        if value is None:
            after.pop(name, None)
        elif name in ("budget", "rate_limit") and isinstance(value, dict):
            part = _merge_limits(present.get(name) or {}, value)
            if part:
                after[name] = part
            else:
                after.pop(name, None)
        elif name == "keys" and isinstance(value, list):
            after[name] = _merge_keys(present.get(name) or (), value)
        else:
            after[name] = value
    return after


def _merge_limits(present: Fields, fields: Fields) -> Value:
    """A budget or rate limit with some of its fields changed; one without a maximum is none."""
    part = dict(present)
    for name, value in fields.items():
        if value is None:
            part.pop(name, None)
            if name.endswith("max_limit") and (period := name.removesuffix("max_limit") + "reset_duration") not in fields:
                part.pop(period, None)
        else:
            part[name] = value
    removed = any(v is None for v in fields.values())
    return {} if removed and not any(n.endswith("max_limit") or n == "max_concurrent" for n in part) else part


def _merge_keys(present: Sequence[Fields], given: Sequence[Any]) -> list[Any]:
    keys: list[Any] = [dict(k) for k in present]
    for new in given:
        same = next((k for k in keys if isinstance(new, dict) and k.get("name") == new.get("name")), None)
        if same is None:
            keys.append(new)
        else:
            for name, value in new.items():
                if value is None:
                    same.pop(name, None)
                else:
                    same[name] = value
    return keys


def validation_errors(kind: Kind, value: Fields) -> list[tuple[str, str]]:
    """What is wrong with an entity by itself: field and words."""
    try:
        kind.model.model_validate(value)
    except ValidationError as e:
        return [(dotted(place), words) for place, words in describe_errors(e, kind.model)]
    return []


def validate_entity(kind: Kind, value: Fields) -> None:
    """Raises EditError with all that is wrong with an entity by itself."""
    found = validation_errors(kind, value)
    if found:
        where, words = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise EditError(f"{where}: {words}{more}" if where else words + more, where or None, problems=found)


def order_fields(kind: Kind, value: Fields) -> Value:
    """A new entity's fields as people write them: who it is, what it belongs to, its limits, the rest."""
    limits = ("budget", "budgets", "rate_limit")
    own = [n for n in kind.model.model_fields if n not in limits]
    first = own.index("is_active") if "is_active" in own else len(own)
    order = [*own[:first], *limits, *own[first:]]
    return {n: value[n] for n in sorted(value, key=order.index)}
