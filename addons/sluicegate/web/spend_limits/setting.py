"""Setting and deleting spend limits in a draft of the policy: of a budget that is there only its amount changes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sluicegate.calls.claude_code.headers import PERIODS
from sluicegate.policy import schema
from sluicegate.policy.editing.draft import ConflictError, Draft, DraftEntry, EditError, NotFoundError
from sluicegate.policy.entities import Kind
from sluicegate.web.spend_limits.limits import SpendLimit, zone_of
from sluicegate.web.spend_limits.shapes import LimitSent

_WINDOWS = {word: window for window, word in PERIODS.items()}

EACH_MEMBER = (
    "amount: what each member of a group may spend alone cannot be set here: a team's budget is what all spend together. "
    'Send it as pooled_budget, {"amount": "5000"}, with amount null or not below it; or set limits of users'
)


def amount_of(sent: LimitSent) -> Decimal:
    """Return the dollars of a limit that is to be set. Raises EditError where it means what no budget can."""
    if sent.scope.type != "rbac_group":
        if sent.pooled_budget is not None:
            raise EditError("pooled_budget: only a group has one; send amount", "pooled_budget")
        if sent.amount is None:
            message = "amount: send the limit in cents; to have none, DELETE /v1/organizations/spend_limits/{id}"
            raise EditError(message, "amount")
        return Decimal(sent.amount) / 100
    if sent.pooled_budget is None or (sent.amount is not None and int(sent.amount) < int(sent.pooled_budget.amount)):
        raise EditError(EACH_MEMBER, "amount")
    return Decimal(sent.pooled_budget.amount) / 100


def set_limit(draft: Draft, kind: Kind, owner: str, period: str, dollars: Decimal) -> None:
    """Give the budget of this period this amount; a new one resets with the calendar. Raises EditError."""
    entry = draft.get(kind, owner)
    single, several, found = _budgets_of(entry, period)
    if len(found) > 1:
        raise ConflictError(
            f"{kind.singular} '{entry.id}' has {len(found)} {period} budgets, of different time zones: "
            f"change them with PUT /api/governance/{kind.path}/{entry.id}",
            "period",
        )
    change: dict[str, Any]
    if not found:
        new = {"max_limit": dollars, "reset_duration": _WINDOWS[period], "calendar_aligned": True}
        change = {"budget": new} if single is None and not several else {"budgets": [*several, new]}
    elif found[0] is single:
        change = {"budget": {"max_limit": dollars}}
    else:
        change = {"budgets": [b | {"max_limit": dollars} if b is found[0] else b for b in several]}
    draft.upsert(kind, entry.id, change)


def delete_limit(draft: Draft, limit: SpendLimit, defaults: schema.Defaults) -> None:
    """Delete a budget. Raises NotFoundError where it has been deleted meanwhile."""
    entry = draft.get(limit.kind, limit.owner)
    single, several, of_period = _budgets_of(entry, limit.period)
    found = [b for b in of_period if zone_of(b, defaults) == limit.zone]
    if not found:
        raise NotFoundError("Spend limit not found: it has been deleted meanwhile")
    gone = found[0]
    rest = [b for b in several if b is not gone]
    change: dict[str, Any] = {"budget": None} if gone is single else {"budgets": rest or None}
    draft.upsert(limit.kind, entry.id, change)


def _budgets_of(entry: DraftEntry, period: str) -> tuple[Any, list[Any], list[Any]]:
    """Return what an entity has as ``budget`` and as ``budgets``, and which of them reset with this period."""
    present = entry.after or {}
    single, several = present.get("budget"), list(present.get("budgets") or ())
    return single, several, [b for b in (single, *several) if b and b.get("reset_duration") == _WINDOWS[period]]
