"""What a caller has left, in the form in which Claude Code asks for it: ``GET /api/oauth/usage``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sluicegate.calls.claude_code.headers import period_word
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import Limit
from sluicegate.policy.model import Policy, VirtualKey
from sluicegate.values import NANO
from sluicegate.web.endpoint import ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.query import AnyQuery
from sluicegate.web.responses import ResponseModel
from sluicegate.web.routes.managed_settings import key_of_client
from sluicegate.windows import SECOND_MS, iso

PATH = "/api/oauth/usage"

NANO_PER_CENT = NANO // 100

type Severity = Literal["normal", "warning", "critical"]

SEVERITIES: tuple[tuple[int, Severity], ...] = ((95, "critical"), (75, "warning"), (0, "normal"))
"""From which percent on, the highest first."""


class ExtraUsage(ResponseModel):
    """The fullest budget, in cents and whole percent."""

    is_enabled: bool
    monthly_limit: int | None = Field(description="Of the fullest budget, whatever its window; null: none applies.")
    used_credits: int | None
    utilization: int | None
    currency: Literal["USD"]


class SpendLimit(ResponseModel):
    """The same budget as a limit."""

    kind: Literal["spend"]
    group: str = Field(description="daily, weekly, monthly; else the budget's window as policy writes it.")
    percent: int
    resets_at: str | None = Field(description="The second that is in the headers of answers; null: never.")
    severity: Severity
    is_active: bool


class OAuthUsage(ResponseModel):
    """What Claude Code reads."""

    extra_usage: ExtraUsage
    limits: list[SpendLimit] = Field(description="The fullest budget; empty where none applies.")


def endpoints() -> list[Endpoint]:
    """Declare the path."""
    summary = "The fullest budget of the key or sign-in that asks, as Claude Code reads it"
    return [read_endpoint(PATH, _usage, summary, OAuthUsage, roles=("developer",), query=AnyQuery, finds_caller=True)]


async def _usage(request: ApiRequest) -> ApiResponse:
    services = request.services
    key, policy = key_of_client(request), services.policy
    return ApiResponse(usage_of(policy, key, services.ledger, services.clock()), headers={"cache-control": "no-store"})


def usage_of(policy: Policy, key: VirtualKey, ledger: Ledger, now: int) -> dict[str, Any]:
    """Return the fullest of a key's budgets at a time, epoch milliseconds; of two as full the narrower."""
    budgets = [(limit.at(now), *_used(limit, ledger, now)) for limit in policy.limits_of_key(key) if limit.unit == "usd"]
    if not budgets:
        none = {"is_enabled": True, "monthly_limit": None, "used_credits": None, "utilization": None, "currency": "USD"}
        return {"extra_usage": none, "limits": []}
    limit, used, end = max(budgets, key=lambda b: b[1] / b[0].maximum if b[0].maximum else 1.0)
    percent = used * 100 // limit.maximum if limit.maximum else 100
    window = limit.period.text if limit.period is not None else None
    extra = {
        "is_enabled": True,
        "monthly_limit": limit.maximum // NANO_PER_CENT,
        "used_credits": used // NANO_PER_CENT,
        "utilization": percent,
        "currency": "USD",
    }
    spend = {
        "kind": "spend",
        "group": period_word(window) or window or "never",
        "percent": percent,
        "resets_at": None if end is None else iso(-(-end // SECOND_MS) * SECOND_MS),
        "severity": next(word for share, word in SEVERITIES if percent >= share),
        "is_active": True,
    }
    return {"extra_usage": extra, "limits": [spend]}


def _used(limit: Limit, ledger: Ledger, now: int) -> tuple[int, int | None]:
    used, _, _, end = ledger.usage(limit, now)
    return used, end
