"""A draft of a policy: its entities as plain values, and the changes made to them. Independent of files, YAML and HTTP.

A change names only what it changes: absent fields stay, null removes. ``Draft`` collects changes and checks the shape of
each entity; the whole policy is validated by the loader, like any other, before it replaces anything.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from sluicegate.policy.entities import KINDS, MAX_ID_LENGTH, REFERENCES, AmbiguousNameError, Kind, NameIndex, id_from_name, id_of
from sluicegate.policy.errors import describe_errors, did_you_mean
from sluicegate.providers.known import ALWAYS_GOVERNED
from sluicegate.yaml_document import Document, dotted

Fields = Mapping[str, Any]
Value = dict[str, Any]


class EditError(Exception):
    """A change that cannot be made. ``field`` is the field that is wrong, ``details`` are for programs."""

    def __init__(self, message: str, field: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.field, self.details = field, details


class NotFoundError(EditError):
    """A change to an entity that does not exist."""


class ConflictError(EditError):
    """A change that does not fit the present policy."""


@dataclass(slots=True)
class DraftEntry:
    """One entity. ``before`` is its value in the file, ``after`` its value in the draft; None where it does not exist."""

    kind: Kind
    id: str
    doc: int | None
    """The index of the file it is in."""
    position: int | str | None
    """Its index or key in that file's list or mapping; None for a new entity."""
    before: Value | None
    after: Value | None
    touched: bool = False

    @property
    def is_changed(self) -> bool:
        """Return whether there is anything to write."""
        if not self.touched or self.before == self.after:
            return False
        # Nothing said about a provider that is there in any case is nothing to write.
        return self.before is not None or bool(self.after) or self.kind.name != "providers" or self.id not in ALWAYS_GOVERNED


@dataclass(slots=True)
class Draft:
    """The entities of parsed policy files, and the changes made to them so far."""

    docs: Sequence[Document]
    created: list[DraftEntry] = field(default_factory=list)
    """Entities created because another one refers to them."""
    _entries: dict[str, dict[str, DraftEntry]] = field(default_factory=dict)
    _names: dict[str, NameIndex] = field(default_factory=dict)
    _spellings: dict[str, dict[str, str]] = field(default_factory=dict)
    """By kind, the ids that exist by their letters without case and width."""

    def entries(self, kind: Kind) -> dict[str, DraftEntry]:
        """Return every entity of a kind by id, in the order of the files, including those to be deleted."""
        found = self._entries.get(kind.name)
        if found is None:
            found = self._entries[kind.name] = {}
            for number, doc in enumerate(self.docs):
                section = doc.value.get(kind.name) if isinstance(doc.value, dict) else None
                if section is None:
                    continue
                if not isinstance(section, dict if kind.name == "providers" else list):
                    raise ConflictError(f"{kind.name} in {doc.file} has the wrong shape; correct it first")
                for position, value in section.items() if isinstance(section, dict) else enumerate(section):
                    value = {} if value is None else value
                    if not isinstance(value, dict):
                        raise ConflictError(f"{kind.name} in {doc.file} has the wrong shape; correct it first")
                    name = str(position) if isinstance(section, dict) else id_of(kind, value)
                    found[name] = DraftEntry(kind, name, number, position, value, value)
        return found

    def find(self, kind: Kind, id_or_name: str) -> DraftEntry | None:
        """Return the entity with this id or name, None if there is none. Raises ConflictError where several do."""
        entry = self.entries(kind).get(id_or_name)
        if entry is not None and entry.after is not None:
            return entry
        names = self._names.get(kind.name)
        if names is None:
            present = {i: e.after.get("name") for i, e in self.entries(kind).items() if e.after is not None}
            names = self._names[kind.name] = NameIndex(kind, present)
        try:
            found = names.find(id_or_name)
        except AmbiguousNameError as e:
            raise ConflictError(str(e), candidates=e.candidates) from e
        return self.entries(kind)[found] if found is not None else None

    def alike(self, kind: Kind, entity_id: str) -> DraftEntry | None:
        """Return the entity whose id is this one but for case and width of its letters, None if there is none."""
        found = self._ids_by_spelling(kind).get(_spelling(entity_id))
        return self.entries(kind)[found] if found is not None else None

    def same_as(self, kind: Kind, fields: Fields) -> DraftEntry | None:
        """Return an entity of this name that these fields would not change, None if there is none."""
        changes = self._resolve_references(_exact_numbers(fields), create_teams=False)
        named = (e for e in self.entries(kind).values() if e.after is not None and e.after.get("name") == fields.get("name"))
        return next((e for e in named if merge_fields(e.after or {}, changes) == e.after), None)

    def free_id(self, kind: Kind, entity_id: str) -> str:
        """Return this id, with a number from 2 on where it is in use."""
        taken = self._ids_by_spelling(kind)
        found, number = entity_id, 1
        while _spelling(found) in taken:
            number += 1
            found = f"{entity_id[: MAX_ID_LENGTH - 1 - len(str(number))]}-{number}"
        return found

    def _ids_by_spelling(self, kind: Kind) -> dict[str, str]:
        if kind.name not in self._spellings:
            present = (i for i, e in self.entries(kind).items() if e.after is not None)
            self._spellings[kind.name] = {_spelling(i): i for i in present}
        return self._spellings[kind.name]

    def get(self, kind: Kind, id_or_name: str) -> DraftEntry:
        """Return the entity with this id or name. Raises NotFoundError or ConflictError."""
        entry = self.find(kind, id_or_name)
        if entry is None:
            hint = did_you_mean(id_or_name, (i for i, e in self.entries(kind).items() if e.after is not None))
            raise NotFoundError(f"{kind.label} not found: there is no {kind.singular} '{id_or_name}'{hint}")
        return entry

    def upsert(self, kind: Kind, name: str, fields: Fields, *, create_teams: bool = False) -> DraftEntry:
        """Change the entity with this id, or create it. Raises EditError naming the field that is wrong."""
        fields = self._resolve_references(_exact_numbers(fields), create_teams)
        entry = self.entries(kind).get(name)
        if entry is None:
            entry = self.entries(kind)[name] = DraftEntry(kind, name, None, None, None, None)
        present = entry.after
        if present is None:
            present = {} if kind.name in ("providers", "model_configs") else {"id": name}
        after = merge_fields(present, fields)
        validate_entity(kind, after)
        # A new name is added to the index; a changed one needs it built again, or the old name would still be found.
        if kind.name in self._names:
            if present.get("name") != after.get("name") and entry.before is not None:
                del self._names[kind.name]
            else:
                self._names[kind.name].add(name, after.get("name"))
        if kind.name in self._spellings:
            self._spellings[kind.name].setdefault(_spelling(name), name)
        entry.after, entry.touched = order_fields(kind, after) if entry.before is None else after, True
        return entry

    def delete(self, entry: DraftEntry, *, detach: bool = False) -> list[DraftEntry]:
        """Delete an entity; with ``detach`` also all references to it. Return the entities that lost a reference.

        Raises ConflictError where there are references that may not be removed.
        """
        field = f"{entry.kind.singular}_id"
        referring = [e for e in self._all() if e.after and field in REFERENCES and e.after.get(field) == entry.id]
        if referring and not detach:
            names = [f"{e.kind.singular} {e.id}" for e in referring]
            listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise ConflictError(
                f"{entry.kind.label} '{entry.id}' is still referred to by {listed}: change them first, or delete with detach=true",
                referred_by=names,
            )
        for other in referring:
            self.upsert(other.kind, other.id, {field: None})
        entry.after, entry.touched = None, True
        self._names.pop(entry.kind.name, None)
        self._spellings.pop(entry.kind.name, None)
        return referring

    def changes(self) -> list[DraftEntry]:
        """Return the entities to be written."""
        return [e for e in self._all(loaded=True) if e.is_changed]

    def _all(self, loaded: bool = False) -> Iterator[DraftEntry]:
        for kind in KINDS.values():
            if not loaded or kind.name in self._entries:
                yield from list(self.entries(kind).values())

    def _resolve_references(self, fields: Fields, create_teams: bool) -> Fields:
        """Return the same fields with references by name replaced by ids."""
        resolved = dict(fields)
        for name, target in REFERENCES.items():
            reference = fields.get(name)
            if not isinstance(reference, str):
                continue
            kind = KINDS[target]
            try:
                entry = self.find(kind, reference)
            except ConflictError as e:
                raise ConflictError(str(e), name, **e.details) from e
            if entry is None and create_teams and kind.name == "teams":
                entry = self.upsert(kind, reference if is_valid_id(reference) else make_id(kind, reference, name), {})
                self.created.append(entry)
            if entry is None:
                hint = did_you_mean(reference, (i for i, e in self.entries(kind).items() if e.after is not None))
                raise EditError(f"there is no {kind.singular} '{reference}'{hint}", name)
            resolved[name] = entry.id
        return resolved


def _spelling(entity_id: str) -> str:
    return unicodedata.normalize("NFKC", entity_id).casefold()


def make_id(kind: Kind, name: str, field: str) -> str:
    """Return the id made from a name. Raises EditError where none can be made."""
    try:
        return id_from_name(kind, name)
    except ValueError as e:
        raise EditError(f"{field}: {e}", field) from e


def is_valid_id(text: str) -> bool:
    """Return whether a text is a valid id."""
    return not any(field == "id" for field, _ in validation_errors(KINDS["teams"], {"id": text}))


def _exact_numbers(value: Any) -> Any:
    """Return the values as the policy file's parser gives them: decimals instead of floats, lists instead of tuples."""
    if isinstance(value, Mapping):
        return {k: _exact_numbers(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_exact_numbers(v) for v in value]
    # By its repr: 0.1 means a tenth, not the binary fraction nearest to it.
    return Decimal(repr(value)) if isinstance(value, float) else value


def merge_fields(present: Fields, fields: Fields) -> Value:
    """Return ``present`` changed by ``fields``: absent stays, null removes, limits merge by field, provider keys by name."""
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
    """Return a budget or rate limit with some fields changed, empty if no maximum is left."""
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


def _merge_keys(present: Sequence[Fields], changes: Sequence[Any]) -> list[Any]:
    keys: list[Any] = [dict(k) for k in present]
    for new in changes:
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
    """Return what is wrong with one entity on its own, as pairs of field and message."""
    try:
        kind.model.model_validate(value)
    except ValidationError as e:
        return [(dotted(location), message) for location, message in describe_errors(e, kind.model)]
    return []


def validate_entity(kind: Kind, value: Fields) -> None:
    """Refuse an entity that is invalid on its own. Raises EditError with every problem."""
    found = validation_errors(kind, value)
    if found:
        where, words = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise EditError(f"{where}: {words}{more}" if where else words + more, where or None, problems=found)


def order_fields(kind: Kind, value: Fields) -> Value:
    """Return a new entity's fields in the usual order: its identity, what it belongs to, its limits, the rest."""
    limits = ("budget", "budgets", "rate_limit")
    own = [n for n in kind.model.model_fields if n not in limits]
    first = own.index("is_active") if "is_active" in own else len(own)
    order = [*own[:first], *limits, *own[first:]]
    return {n: value[n] for n in sorted(value, key=order.index)}
