"""Quotas: every budget and rate limit with its live usage, and for a virtual key those that apply to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from sluicegate.policy.entities import KINDS
from sluicegate.policy.fields import Id
from sluicegate.policy.model import Policy
from sluicegate.policy.schema import Limited
from sluicegate.web import views
from sluicegate.web.auth import key_asking
from sluicegate.web.endpoint import ALL_ROLES, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.limit_states import BudgetState, RateLimitState, ResponseModel
from sluicegate.web.query import FROM_MEMORY, Query
from sluicegate.web.responses import ProviderConfigState

BASE = "/api/governance"
KEYS = KINDS["virtual_keys"]


class LimitPage(Query):
    """A part of a list of limits."""

    limit: int | None = Field(None, ge=1, le=1000, description="At most this many; absent: all.")
    offset: int = Field(0, ge=0, le=1 << 40)
    search: str | None = Field(None, max_length=200, description="Part of the scope's id.")
    sort_by: Literal["id"] | None = Field(None, description="By the scope's id. Absent: in the policy's order, level by level.")
    order: Literal["asc", "desc"] = "asc"
    from_memory: bool | None = FROM_MEMORY


class LimitRow(ResponseModel):
    """The scope of a limit."""

    id: str
    scope_kind: str
    scope_id: str


class BudgetRow(BudgetState, LimitRow):
    """A budget and its scope."""


class RateLimitRow(RateLimitState, LimitRow):
    """A rate limit and its scope."""


class BudgetList(ResponseModel):
    """Every budget."""

    budgets: list[BudgetRow] | dict[str, BudgetRow]
    count: int
    total_count: int


class RateLimitList(ResponseModel):
    """Every rate limit."""

    rate_limits: list[RateLimitRow] | dict[str, RateLimitRow]
    count: int
    total_count: int


class SourcedBudget(BudgetState):
    """A budget that applies to a key, and its level."""

    source: str
    scope_id: str


class SourcedRateLimit(RateLimitState):
    """A rate limit that applies to a key, and its level."""

    source: str
    scope_id: str


class Quota(ResponseModel):
    """What a virtual key may still do."""

    virtual_key_id: Id
    virtual_key_name: str
    kind: Literal["value", "session"] = Field(description="session: its user signs in; it has no value.")
    is_active: bool
    expires_at: str | None
    budgets: list[SourcedBudget]
    rate_limit: RateLimitState | None = Field(description="The key's own.")
    rate_limits: list[SourcedRateLimit]
    provider_configs: list[ProviderConfigState] | None
    model_configs: list[None] = Field(description="For Bifrost's clients: a model's limits are those of all callers together.")


def endpoints() -> list[Endpoint]:
    """Declare the quota and the lists of limits. The quota comes before the route that would take its name for a key's id."""
    quota = "What the calling virtual key may still do"
    return [
        # A key that is inactive may still learn what became of it, so the handler looks for it itself.
        read_endpoint(f"{BASE}/virtual-keys/quota", _quota, quota, Quota, roles=ALL_ROLES, finds_caller=True),
        read_endpoint(f"{BASE}/budgets", _budgets, "Every budget with its live usage", BudgetList, query=LimitPage),
        read_endpoint(f"{BASE}/rate-limits", _rate_limits, "Every rate limit with its live usage", RateLimitList, query=LimitPage),
    ]


async def _quota(request: ApiRequest) -> ApiResponse:
    services, policy = request.services, request.services.policy
    key = policy.virtual_keys.get(request.caller.virtual_key_id or "")
    if key is None:
        key = key_asking(request.http, services)
    now = services.clock()

    def work() -> dict[str, Any]:
        written_key = views.written_entities(policy, KEYS)[key.id]
        own = views.entity_view(policy, KEYS, key.id, written_key, services.ledger, now)
        budgets: list[dict[str, Any]] = []
        rates: list[dict[str, Any]] = []
        for kind in KINDS.values():
            name: str | None = key.id if kind is KEYS else getattr(key, f"{kind.singular}_id", None)
            written = views.written_entities(policy, kind).get(name) if name is not None else None
            if name is None or written is None:
                continue
            limits = views.limits_view(written, kind.scope, name, services.ledger, now)
            scope = {"source": kind.singular, "scope_id": name}
            budgets += [scope | b for b in (limits["budget"], *limits["budgets"]) if b]
            rates += [scope | limits["rate_limit"]] if limits["rate_limit"] else []
        return {
            "virtual_key_id": key.id,
            "virtual_key_name": key.name,
            "kind": own["kind"],
            "is_active": key.is_active,
            "expires_at": own["expires_at"],
            "budgets": budgets,
            "rate_limit": own["rate_limit"],
            "rate_limits": rates,
            "provider_configs": own["provider_configs"],
            "model_configs": [],
        }

    return ApiResponse(await request.run_in_thread(work), revision=policy.revision)


async def _budgets(request: ApiRequest) -> ApiResponse:
    def of(view: views.View) -> list[views.View]:
        return [b for b in (view["budget"], *view["budgets"]) if b]

    return await _limits(request, "budgets", lambda written: (written.budget is not None) + len(written.budgets), of)


async def _rate_limits(request: ApiRequest) -> ApiResponse:
    return await _limits(request, "rate_limits", lambda written: written.rate_limit is not None, lambda view: [view["rate_limit"]])


async def _limits(
    request: ApiRequest, name: str, count: Callable[[Limited], int], of: Callable[[views.View], list[views.View]]
) -> ApiResponse:
    """Return a page of the limits of all entities; how each is used is looked up for those of the page alone."""
    services, policy, page = request.services, request.services.policy, request.query

    def work() -> dict[str, Any]:
        found = [(kind, of_, written, i) for kind, of_, written in _searched(policy, page) for i in range(count(written))]
        now = services.clock()
        part = [
            {"scope_kind": kind, "scope_id": scope} | of(views.limits_view(written, kind, scope, services.ledger, now))[i]
            for kind, scope, written, i in found[page.offset : page.offset + page.limit if page.limit is not None else None]
        ]
        shown = {row["id"]: row for row in part} if page.from_memory else part
        return {name: shown, "count": len(part), "total_count": len(found)}

    return ApiResponse(await request.run_in_thread(work), revision=policy.revision)


def _searched(policy: Policy, page: LimitPage) -> list[tuple[str, str, Limited]]:
    part = (page.search or "").casefold()
    found = [row for row in views.limited_entities(policy) if part in row[1].casefold()]
    if page.sort_by == "id":
        found.sort(key=lambda row: row[1].casefold())
    return found[::-1] if page.order == "desc" else found
