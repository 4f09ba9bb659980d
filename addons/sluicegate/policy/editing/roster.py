"""A roster: a table with a row for each person, and what a policy lacks to be as it says: users, teams, one key each.

A row changes what its cells say; an empty cell changes nothing, ``none`` removes. Applied again it changes nothing. Every
mistake of every row is found before anything is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from sluicegate.policy import short_forms
from sluicegate.policy.editing import operations, people
from sluicegate.policy.editing.draft import Draft, DraftEntry, EditError, is_valid_id, make_id, validate_entity
from sluicegate.policy.editing.operations import KEYS
from sluicegate.policy.editing.people import USERS
from sluicegate.policy.editing.roster_words import describe
from sluicegate.policy.entities import KINDS, Kind
from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.short_forms import ShortFormError

COLUMNS = (
    "user", "name", "team", "customer", "project", "budget", "rate", "tokens", "concurrent", "models", "model", "labels", "key",
    "active",
)  # fmt: skip
"""Columns a roster may have, besides those of single labels. Limits and labels are the user's, models and project the key's."""

LABEL = "label:"
"""The beginning of a column of one label: ``label:cost_center``."""

_LIMITS = ("budget", "rate", "tokens", "concurrent")
_ACTIVE = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}

Missing = Literal["report", "disable", "delete"]
"""What becomes of users that no row names."""


class Mistake(NamedTuple):
    """What is wrong in one cell."""

    row: int
    column: str
    message: str

    def __str__(self) -> str:
        return f"row {self.row}, {self.column}: {self.message}"


class RosterError(EditError):
    """A roster with mistakes; nothing of it was applied."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__("\n".join([f"{count}; nothing was applied", *map(str, mistakes)]))
        self.mistakes = mistakes


class RosterChange(NamedTuple):
    """One entity that changes, the row that says so (None for a user that no row names), and how in words."""

    row: int | None
    action: str
    kind: str
    id: str
    what: str


@dataclass(slots=True)
class Applied:
    """What a roster changed, the users that no row names and are left as they are, and the values of new keys."""

    changes: list[RosterChange]
    missing: list[str]
    notes: list[str]
    secrets: dict[str, str]


def apply_roster(draft: Draft, rows: Sequence[tuple[int, Mapping[str, str]]], *, missing: Missing, now: int) -> Applied:
    """Change a draft to what the numbered rows say. Raises RosterError with every mistake."""
    roster = _Roster(draft)
    for number, cells in rows:
        roster.apply(number, cells)
    if roster.mistakes:
        raise RosterError(roster.mistakes)
    left = [e for e in list(draft.entries(USERS).values()) if e.after is not None and e.id not in roster.row_of_user]
    if missing == "disable":
        for user in left:
            draft.upsert(USERS, user.id, {"is_active": False})
    elif missing == "delete":
        for user in left:
            people.delete_user(draft, user.id, with_keys=True, now=now)
    names = [e.id for e in left if missing == "report"]
    return Applied([*roster.changes()], names, roster.notes, roster.secrets)


@dataclass(slots=True)
class _Roster:
    draft: Draft
    mistakes: list[Mistake] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    row_of_user: dict[str, int] = field(default_factory=dict)
    _rows: dict[tuple[str, str], int] = field(default_factory=dict)
    """The row that first changed an entity, by kind and id."""
    _keys: dict[str, list[DraftEntry]] = field(default_factory=dict)
    """The keys of each user before anything was changed."""

    def __post_init__(self) -> None:
        for key in self.draft.entries(KEYS).values():
            if key.after is not None and key.after.get("user_id"):
                self._keys.setdefault(str(key.after["user_id"]), []).append(key)

    def changes(self) -> Iterator[RosterChange]:
        """Yield what has changed, in the order of the rows; what no row names comes last."""
        found = [(self._rows.get((e.kind.name, e.id)), e) for e in self.draft.changes()]
        for row, entry in sorted(found, key=lambda pair: (pair[0] is None, pair[0] or 0)):
            action, what = describe(entry.before, entry.after)
            yield RosterChange(row, action, entry.kind.singular, entry.id, what)

    @contextmanager
    def _noting(self, row: int, column: str) -> Iterator[None]:
        """Note what is wrong instead of raising it."""
        try:
            yield
        except ShortFormError as e:
            self.mistakes.append(Mistake(row, column, str(e)))
        except EditError as e:
            problems = e.details.get("problems") or [(e.field or "", str(e).removeprefix(f"{e.field}: "))]
            self.mistakes += [Mistake(row, _column_of(where) or column, words) for where, words in problems]

    def apply(self, row: int, cells: Mapping[str, str]) -> None:
        """Change the draft to what one row says, or note its mistakes."""
        before = len(self.mistakes)
        for column in cells:
            if column not in COLUMNS and not column.startswith(LABEL):
                self.mistakes.append(Mistake(row, column, f"is not a column{did_you_mean(column, COLUMNS)}"))
        user_id = self._user_id(row, cells)
        fields = self._user_fields(row, cells)
        owners = self._owners(row, cells)
        models = cells.get("models") or cells.get("model")
        configs: dict[str, Any] = {}
        with self._noting(row, "models"):
            configs = short_forms.model_fields(models.replace(",", " ").split()) if models else {}
        if user_id is None or len(self.mistakes) > before:
            self._note_other_mistakes(row, {"id": user_id or "x"} | fields, {"id": "x"} | configs)
            return
        present = dict(self.draft.entries(USERS)[user_id].after or {}) if user_id in self.draft.entries(USERS) else None
        with self._noting(row, "user"):
            user = self.draft.upsert(USERS, user_id, fields | {k: v for k, v in owners.items() if k != "project_id"})
            self._rows.setdefault(("users", user_id), row)
            after = user.after or {}
            if after.get("is_active") is False and "is_active" not in fields:
                self.notes.append(f"row {row}: user {user_id} is disabled and stays so; write yes under active to enable it")
            if present is not None and any(present.get(n) != after.get(n) for n in ("team_id", "customer_id")):
                keys = self._keys.get(user_id, [])
                people.move_keys(self.draft, user, keys)
                self._rows |= {("virtual_keys", key.id): row for key in keys}
            project = {"project_id": owners["project_id"]} if "project_id" in owners else {}
            self._key(row, cells, user, project, configs)

    def _note_other_mistakes(self, row: int, fields: dict[str, Any], configs: dict[str, Any]) -> None:
        """Note what would be wrong with a row's values if its other mistakes were mended."""
        for kind, values in ((USERS, fields), (KEYS, configs)):
            with self._noting(row, "user"):
                validate_entity(kind, {n: v for n, v in values.items() if v is not None})

    def _user_id(self, row: int, cells: Mapping[str, str]) -> str | None:
        text = cells.get("user")
        if text is None:
            self.mistakes.append(Mistake(row, "user", "a row needs the user's id, such as alice or alice@acme.example"))
            return None
        with self._noting(row, "user"):
            entry = self.draft.find(USERS, text)
            if entry is None:
                operations.require_new(self.draft.alike(USERS, text), text, "user")
            name = entry.id if entry is not None else text
            first = self.row_of_user.setdefault(name, row)
            if first != row:
                raise EditError(f"'{name}' is in row {first} already")
            return name
        return None

    def _user_fields(self, row: int, cells: Mapping[str, str]) -> dict[str, Any]:
        fields: dict[str, Any] = {"name": cells["name"]} if "name" in cells else {}
        for column in _LIMITS:
            if column in cells:
                with self._noting(row, column):
                    only: dict[str, Any] = {column: cells[column]}
                    for name, value in short_forms.limit_fields(**only).items():
                        fields[name] = value if not isinstance(value, dict) else fields.get(name, {}) | value
        if "active" in cells:
            active = _ACTIVE.get(cells["active"].lower())
            if active is None:
                self.mistakes.append(Mistake(row, "active", f"'{cells['active']}' is neither yes nor no"))
            # Left out where it is so anyway: the policy does not say what needs no saying.
            fields["is_active"] = active or None
            if active is False:
                fields["is_active"] = False
        with self._noting(row, "labels"):
            if labels := self._labels(cells):
                entry = self.draft.find(USERS, cells.get("user", ""))
                present = dict((entry.after or {}).get("labels") or {}) if entry is not None else {}
                merged = {n: v for n, v in (present | labels).items() if v is not None}
                fields["labels"] = merged or None
        return fields

    def _labels(self, cells: Mapping[str, str]) -> dict[str, str | None]:
        found = short_forms.labels_of(part for part in cells.get("labels", "").split(";") if part.strip())
        for column, text in cells.items():
            if column.startswith(LABEL):
                found[column.removeprefix(LABEL)] = None if text == "none" else text
        return found

    def _owners(self, row: int, cells: Mapping[str, str]) -> dict[str, Any]:
        """Return the references of a row, to entities that are created where they are new."""
        found: dict[str, Any] = {}
        for column in ("customer", "team", "project"):
            text = cells.get(column)
            if text is None:
                continue
            with self._noting(row, column):
                new = {"customer_id": found["customer_id"]} if column == "team" and found.get("customer_id") else {}
                found[f"{column}_id"] = None if text == "none" else self._owner(row, KINDS[f"{column}s"], text, new)
        team = self.draft.entries(KINDS["teams"]).get(found.get("team_id") or "")
        of_team = (team.after or {}).get("customer_id") if team is not None else None
        customer = found.get("customer_id")
        if of_team is not None and customer is not None and of_team != customer:
            message = f"team '{found['team_id']}' belongs to customer '{of_team}', not to '{customer}'"
            self.mistakes.append(Mistake(row, "customer", message))
        if found.get("team_id") and (of_team is not None or customer is None):
            # The team says whose customer it is; a user who says so too would stay behind when the team moves.
            found["customer_id"] = None
        return found

    def _owner(self, row: int, kind: Kind, text: str, fields: dict[str, Any]) -> str:
        entry = self.draft.find(kind, text)
        if entry is None:
            own_id = text if is_valid_id(text) else make_id(kind, text, kind.singular)
            operations.require_new(self.draft.alike(kind, own_id), text, kind.singular)
            entry = self.draft.upsert(kind, own_id, fields | ({"name": text} if text != own_id else {}))
            self._rows.setdefault((kind.name, entry.id), row)
        return entry.id

    # -- the user's key --------------------------------------------------------------------------------------------------

    def _key(self, row: int, cells: Mapping[str, str], user: DraftEntry, project: dict[str, Any], configs: dict[str, Any]) -> None:
        """Create the user's key, or change what the row says of it. Raises EditError."""
        key = self._key_of(cells, user)
        if key is None and (cells.get("key") is not None or not self._keys.get(user.id)):
            if (user.after or {}).get("is_active") is False:
                return
            wanted = cells.get("key") or self.draft.free_id(KEYS, make_id(KEYS, user.id.removeprefix("user-"), "user"))
            fields = {"id": wanted, "name": cells.get("name"), "user_id": user.id} | self._payer(user, project) | project | configs
            saved = operations.create(self.draft, KEYS, {n: v for n, v in fields.items() if v is not None})
            self._rows[KEYS.name, wanted] = row
            if saved.secret is not None:
                self.secrets[wanted] = saved.secret
            return
        changes = dict(project)
        if key is None:
            if project or configs:
                names = ", ".join(k.id for k in self._keys[user.id])
                raise EditError(f"has several keys ({names}): name the one that is meant in a column key", "user")
            return
        present = key.after or {}
        if project and project["project_id"] != present.get("project_id"):
            changes |= self._payer(user, project)
        if configs:
            changes["provider_configs"] = _merged_configs(present.get("provider_configs"), configs["provider_configs"])
        if changes:
            self.draft.upsert(KEYS, key.id, changes)
            self._rows.setdefault((KEYS.name, key.id), row)

    def _key_of(self, cells: Mapping[str, str], user: DraftEntry) -> DraftEntry | None:
        """Return the key that a row is about: the one it names, else the user's only one. Raises EditError."""
        keys = self._keys.get(user.id, [])
        if (named := cells.get("key")) is None:
            return keys[0] if len(keys) == 1 else None
        entry = self.draft.find(KEYS, named)
        if entry is not None and (entry.after or {}).get("user_id") != user.id:
            raise EditError(f"key '{entry.id}' is not one of user '{user.id}'", "key")
        return entry

    def _payer(self, user: DraftEntry, project: dict[str, Any]) -> dict[str, Any]:
        """Return the team and customer that a key must name itself, because its project would say otherwise."""
        entry = self.draft.entries(KINDS["projects"]).get(project.get("project_id") or "")
        of_project = (entry.after or {}) if entry is not None else {}
        own = {n: (user.after or {}).get(n) for n in ("team_id", "customer_id")}
        names_another = any(of_project.get(n) is not None for n in own) and any(own.values())
        return own if names_another else dict.fromkeys(own)


def _column_of(field: str) -> str | None:
    """Return the column that a field of the policy is from."""
    name = field.partition(".")[0].partition("[")[0].removesuffix("_id")
    return {"provider_configs": "models", "rate_limit": "rate", "is_active": "active", "id": "user"}.get(name, name) or None


def _merged_configs(present: Any, wanted: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Return a key's provider configs with other models, keeping what else they say."""
    if wanted is None:
        return None
    own = {c.get("provider"): c for c in present or ()}
    return [{**own.get(config["provider"], {}), **config} for config in wanted]
