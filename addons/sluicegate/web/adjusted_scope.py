"""The scope of an adjustment: found by id or name among all kinds, with the levels above it, where its dollars count too."""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate.policy.editing.draft import NotFoundError
from sluicegate.policy.entities import KINDS, AmbiguousNameError, NameIndex
from sluicegate.policy.errors import closest_match
from sluicegate.policy.limit import Limit
from sluicegate.policy.model import Policy
from sluicegate.web.errors import ApiError
from sluicegate.web.views import entity_names, own_limits

ADJUSTABLE = ("customers", "teams", "users", "projects", "virtual_keys")
"""The kinds whose dollars belong to someone; a provider or a model is adjusted call by call."""


@dataclass(frozen=True, slots=True)
class AdjustedScope:
    """A scope, and under which ids what it spends is counted."""

    kind: str
    id: str
    columns: dict[str, str | None]

    def limits(self, policy: Policy) -> list[Limit]:
        """Return the budgets of the scope and of every level above it, without those of a key's providers."""
        found: list[Limit] = []
        for name in ADJUSTABLE[::-1]:
            kind = KINDS[name]
            level = self.columns[f"{kind.singular}_id"]
            if level is not None and level in entity_names(policy, kind):
                found += [x for x in own_limits(policy, kind, level) if x.unit == "usd" and x.scope_kind == kind.scope]
        return found


def find_scope(policy: Policy, text: str) -> AdjustedScope:
    """Return the scope with this id or name, or the one that ``KIND/ID`` says. Raises NotFoundError or ApiError."""
    prefix, slash, rest = text.partition("/")
    kinds = [KINDS[name] for name in ADJUSTABLE]
    if slash and prefix in [k.singular for k in kinds]:
        kinds, text = [k for k in kinds if k.singular == prefix], rest
    names = {k.singular: entity_names(policy, k) for k in kinds}
    # An id always means the entity that has it, even where it is another one's name.
    found = [(k.singular, text) for k in kinds if text in names[k.singular]]
    if not found:
        try:
            by_name = ((k.singular, NameIndex(k, names[k.singular]).find(text)) for k in kinds)
            found = [(kind, entity_id) for kind, entity_id in by_name if entity_id is not None]
        except AmbiguousNameError as e:
            raise ApiError(409, "conflict", f"scope: {e}", "scope") from e
    if not found:
        options = {i: f"{kind}/{i}" for kind, known in names.items() for i in known}
        near = closest_match(text, options)
        hint = f" (did you mean {options[near]}?)" if near else ""
        raise NotFoundError(f"There is no customer, team, user, project or virtual key '{text[:80]}'{hint}")
    if len(found) > 1:
        options_text = " or ".join(f"{kind}/{i}" for kind, i in found)
        raise ApiError(409, "conflict", f"scope: '{text}' may be {options_text}: say which", "scope")
    (kind, entity_id), *_ = found
    return AdjustedScope(kind, entity_id, _columns(policy, kind, entity_id))


def _columns(policy: Policy, kind: str, entity_id: str) -> dict[str, str | None]:
    """Return the ids that a call by this scope would have on its record, as far as the scope decides them."""
    columns: dict[str, str | None] = dict.fromkeys(f"{KINDS[name].singular}_id" for name in ADJUSTABLE)
    columns[f"{kind}_id"] = entity_id
    if kind == "virtual_key":
        key = policy.virtual_keys[entity_id]
        return columns | {f"{level}_id": getattr(key, f"{level}_id") for level in ("user", "team", "customer", "project")}
    entity = next((e for e in getattr(policy.file, f"{kind}s") if e.id == entity_id), None)
    columns["team_id"] = getattr(entity, "team_id", None) or columns["team_id"]
    team = next((t for t in policy.file.teams if t.id == columns["team_id"]), None)
    above = getattr(entity, "customer_id", None) or (team.customer_id if team else None)
    return columns | {"customer_id": above or columns["customer_id"]}
