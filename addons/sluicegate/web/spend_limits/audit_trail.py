"""The changes of spend limits on the audit trail: each entry tells of a whole customer, team or user before and after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from sluicegate.calls.claude_code.headers import period_word
from sluicegate.policy.audit_trail import AuditTrail
from sluicegate.policy.entities import KINDS, Kind
from sluicegate.policy.model import Policy
from sluicegate.values import NANO
from sluicegate.web.spend_limits.limits import id_of_limit, whole_cents, zone_of
from sluicegate.web.spend_limits.scopes import KIND_BY_TYPE, scope_of

PER_ENTRY = 100
"""The numbers that each entry of the trail has for its events: more budgets than one entity may have of these periods."""

_CHUNK = 500
"""Entries read at once."""

_KINDS = {kind.singular: kind for kind in KIND_BY_TYPE.values()}

type Entry = dict[str, Any]
type Budgets = dict[str, dict[str, Any]]


def times_of(trail: AuditTrail, loaded_at: str) -> Mapping[tuple[str, str], tuple[str, str]]:
    """Return when each entity was first and last changed over the API, by kind and id; else when the policy was read."""
    found: dict[tuple[str, str], tuple[str, str]] = defaultdict(lambda: (loaded_at, loaded_at))
    found.update(trail.spans(tuple(_KINDS)))
    return found


def events(policy: Policy, trail: AuditTrail, *, limit: int, after: int | None) -> tuple[list[dict[str, Any]], bool]:
    """Return the newest changes, older than the event ``after``, and whether there are more. Raises AuditTrailError."""
    found: list[dict[str, Any]] = []

    def read(before: int | None) -> list[Entry]:
        return trail.read(limit=_CHUNK, before=before, entity_kind=tuple(_KINDS))[0]

    for event in _newest_first(policy, read, after // PER_ENTRY + 1 if after is not None else None):
        if after is not None and int(event["id"]) >= after:
            continue
        if len(found) == limit:
            return found, True
        found.append(event)
    return found, False


def _newest_first(policy: Policy, read: Callable[[int | None], list[Entry]], before: int | None) -> Iterator[dict[str, Any]]:
    while True:
        entries = read(before)
        for entry in entries:
            yield from _events_of(policy, entry)
        if len(entries) < _CHUNK:
            return
        before = entries[-1]["id"]


def _events_of(policy: Policy, entry: Entry) -> Iterator[dict[str, Any]]:
    """Yield what an entry has changed, in the order of falling numbers."""
    kind = _KINDS[entry["entity_kind"]]
    before, after = (_limits(policy, kind, entry["entity_id"], entry[when]) for when in ("before", "after"))
    changed = [i for i in dict.fromkeys((*before, *after)) if before.get(i) != after.get(i)]
    for number, limit_id in sorted(enumerate(changed[:PER_ENTRY]), reverse=True):
        yield {
            "type": "audit_event",
            "id": str(entry["id"] * PER_ENTRY + number),
            "created_at": entry["at"],
            "actor": entry["who"],
            "action": "spend_limit.upsert" if limit_id in after else "spend_limit.delete",
            "target_id": limit_id,
            "before": before.get(limit_id),
            "after": after.get(limit_id),
            "reason": None,
        }


def _limits(policy: Policy, kind: Kind, owner: str, entity: Entry | None) -> Budgets:
    """Return the spend limits among an entity's budgets as the trail has them, by id."""
    found: Budgets = {}
    for budget in ((entity or {}).get("budget"), *((entity or {}).get("budgets") or ())):
        period = period_word(budget.get("reset_duration")) if budget else None
        if period is None:
            continue
        limit_id = id_of_limit(kind, owner, period, zone_of(budget, policy.file.defaults))
        amount = whole_cents(int(Decimal(str(budget["max_limit"])) * NANO))
        view = {"id": limit_id, "scope": scope_of(policy, kind, owner), "amount": amount, "period": period, "currency": "USD"}
        if kind is KINDS["teams"]:
            view["pooled_budget"] = {"amount": amount, "paused": False}
        found[limit_id] = view
    return found
