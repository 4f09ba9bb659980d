"""Which budgets are spend limits: those of customers, teams and users that reset each day, week or month."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sluicegate.calls.claude_code.headers import period_word
from sluicegate.limits.ledger import Ledger
from sluicegate.policy import schema
from sluicegate.policy.entities import KINDS, Kind
from sluicegate.policy.limit import Limit, limits_of
from sluicegate.policy.model import Policy
from sluicegate.values import NANO
from sluicegate.web.spend_limits.scopes import KIND_BY_TYPE, scope_of
from sluicegate.web.views import written_entities

NANO_PER_CENT = NANO // 100


@dataclass(frozen=True, slots=True)
class SpendLimit:
    """One budget that is a spend limit."""

    id: str
    kind: Kind
    owner: str
    """The id of the customer, team or user."""
    period: str
    zone: str | None
    """The time zone of the calendar that it resets with, None without: in this the budgets of one period differ."""
    limit: Limit

    def used(self, ledger: Ledger, now: int) -> int:
        """Return the nano-dollars charged in the window at a time, epoch milliseconds."""
        return ledger.usage(self.limit, now)[0]


def spend_limits(policy: Policy, kinds: tuple[Kind, ...] = tuple(KIND_BY_TYPE.values())) -> Iterator[SpendLimit]:
    """Yield every spend limit: those of customers, of teams, of users, each in the policy's order."""
    for kind in kinds:
        for owner, entity in written_entities(policy, kind).items():
            yield from limits_in(kind, owner, entity)


def limits_in(kind: Kind, owner: str, entity: schema.Limited) -> Iterator[SpendLimit]:
    """Yield the spend limits of one entity."""
    for limit in limits_of(entity, kind.scope, owner, ""):
        period = period_word(limit.period.text) if limit.unit == "usd" and limit.period is not None else None
        if period is not None and limit.period is not None:
            zone = limit.period.timezone if limit.period.aligned else None
            yield SpendLimit(id_of_limit(kind, owner, period, zone), kind, owner, period, zone, limit)


def id_of_limit(kind: Kind, owner: str, period: str, zone: str | None) -> str:
    """Return the id of a limit: made of what it is, because the policy has no field to keep an id in.

    It does not depend on a budget's number in the list: a deletion that is sent twice must not delete the next one.
    """
    return "spl_" + hashlib.sha256(f"{kind.scope}/{owner}/{period}/{zone or '-'}".encode()).hexdigest()[:32]


def zone_of(budget: Mapping[str, Any], defaults: schema.Defaults) -> str | None:
    """Return the time zone of the calendar that a budget as it is written resets with, None without."""
    aligned, zone = budget.get("calendar_aligned"), budget.get("timezone")
    if not (defaults.calendar_aligned if aligned is None else aligned):
        return None
    return str(defaults.timezone if zone is None else zone)


def find(policy: Policy, limit_id: str) -> SpendLimit | None:
    """Return the limit with an id, None if there is none."""
    return next((found for found in spend_limits(policy) if found.id == limit_id), None)


def whole_cents(nano: int) -> str:
    """Return an amount as whole cents, rounded down."""
    return str(nano // NANO_PER_CENT)


def exact_cents(nano: int) -> str:
    """Return an amount as cents with their fraction."""
    return f"{(Decimal(nano) / NANO_PER_CENT).normalize():f}"


def limit_view(policy: Policy, found: SpendLimit, times: Mapping[tuple[str, str], tuple[str, str]], spent: int) -> dict[str, Any]:
    """Return a limit as answers show it; ``times`` are the first and last change of entities, ``spent`` nano-dollars."""
    created, updated = times[found.kind.singular, found.owner]
    amount = whole_cents(found.limit.maximum)
    view = {
        "type": "spend_limit",
        "id": found.id,
        "created_at": created,
        "updated_at": updated,
        "scope": scope_of(policy, found.kind, found.owner),
        "amount": amount,
        "currency": "USD",
        "period": found.period,
        "is_enabled": True,
    }
    if found.kind is KINDS["teams"]:
        pool = {"amount": amount, "paused": False, "currency": "USD", "period_to_date_spend": exact_cents(spent)}
        view["pooled_budget"] = pool
    return view
