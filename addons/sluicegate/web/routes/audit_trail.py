"""The audit trail of administration, the configuration in force and the usage of every limit, over REST."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from sluicegate import __version__
from sluicegate.background import low_priority
from sluicegate.limits.ledger import Ledger
from sluicegate.limits.usage import limit_row, limit_rows, with_names_and_parents
from sluicegate.policy.fields import Instant
from sluicegate.policy.limit import Limit
from sluicegate.web.endpoint import ADMINS, ALL_ROLES, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.query import Query
from sluicegate.web.responses import ResponseModel
from sluicegate.web.routes import settings
from sluicegate.windows import iso


class AuditPage(Query):
    """A part of the audit trail, newest first."""

    limit: int = Field(100, ge=1, le=1000)
    before: int | None = Field(
        None, ge=1, le=1 << 53, description="Only entries with a lower id: next_before of the previous page."
    )
    who: str | None = Field(None, max_length=200)
    action: str | None = Field(None, max_length=200)
    entity_kind: str | None = Field(None, max_length=200)
    entity_id: str | None = Field(None, max_length=200)


class AuditEntry(ResponseModel):
    """One change to one entity, without secrets."""

    id: int
    at: Instant
    who: str
    action: str
    entity_kind: str
    entity_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    revision_before: str
    revision_after: str


class AuditList(ResponseModel):
    """A page of the audit trail."""

    entries: list[AuditEntry]
    count: int
    total_count: int
    next_before: int | None = Field(description="Send it as before for the next page; null: this was the last.")


class PolicyState(ResponseModel):
    """The policy in force."""

    revision: str
    source: str
    loaded_at: Instant
    error: dict[str, Any] | None
    warnings: list[str]
    managed_by: Literal["api", "git"] = Field(description="git: over REST it can only be read.")


class OperatorState(ResponseModel):
    """An operator of the gateway."""

    id: str
    role: Literal["admin", "viewer"]


class ConfigState(ResponseModel):
    """The configuration in force, without secrets, and what of it Bifrost's clients look for."""

    client_config: dict[str, Any]
    framework_config: dict[str, Any]
    auth_config: dict[str, Any]
    is_db_connected: bool
    is_cache_connected: bool
    is_logs_connected: bool

    version: str
    policy: PolicyState
    audit: Literal["required", "best_effort"]
    unpriced: Literal["family", "deny", "fallback"]
    fallback_price: dict[str, float] | None
    free_request_max_limit: int
    required_headers: list[str]
    egress: dict[str, Any]
    server: dict[str, Any]
    operators: list[OperatorState]


class Scope(ResponseModel):
    """A level of the hierarchy."""

    kind: str
    id: str


class UsageRow(ResponseModel):
    """A limit and its usage; money as exact decimal text."""

    kind: str
    id: str
    unit: str
    window: str | None
    limit_usd: str | None
    used_usd: str | None
    reserved_usd: str | None
    limit: int | None
    used: int | None
    reserved: int | None
    enforcement: str
    starts_at: Instant
    resets_at: Instant | None
    forecast_usd: str | None = Field(description="Spent by the end of the window at the present pace; null: too early to say.")
    exhausted_at: Instant | None = Field(description="When the limit is reached at that pace; null: not in this window.")
    name: str
    parent: Scope | None = Field(description="The nearest level above that has a limit too.")


class UsageQuery(Query):
    """Which limits, and in what order."""

    unit: Literal["usd"] | None = Field(None, description="Only budgets.")
    sort_by: Literal["share", "size"] | None = Field(
        None, description="share: closest to its limit first; size: largest of the highest level first. Absent: by scope."
    )
    limit: int | None = Field(None, ge=1, le=1000, description="At most this many; absent: all.")


LEVELS = ("customer", "team", "project", "user", "virtual_key")
"""Kinds of scopes from the highest level on; others come after them."""


def _by_size(limit: Limit) -> tuple[int, int]:
    return LEVELS.index(limit.scope_kind) if limit.scope_kind in LEVELS else len(LEVELS), -limit.maximum


def _rows(limits: Iterable[Limit], page: UsageQuery, ledger: Ledger, now: int) -> list[dict[str, Any]]:
    """Return the rows that were asked for; where few are wanted of many limits, only those are made."""
    chosen = [limit for limit in limits if page.unit in (None, limit.unit)]
    if page.sort_by is None:
        return limit_rows(chosen, ledger, now)[: page.limit]
    if page.sort_by == "size":
        chosen.sort(key=_by_size)
    else:
        chosen.sort(key=lambda x: ledger.usage(x, now)[0] / x.maximum if x.maximum else float("inf"), reverse=True)
    return [limit_row(limit, *ledger.usage(limit, now), now) for limit in chosen[: page.limit]]


class UsageList(ResponseModel):
    """Every limit the caller may see."""

    usage: list[UsageRow]


def endpoints() -> list[Endpoint]:
    """Declare ``/api/audit``, ``/api/config`` and ``/api/usage``."""
    trail = "What administrators changed, newest first"
    usage = "Every limit with its live usage; for a virtual key its own"
    return [
        read_endpoint("/api/audit", _audit, trail, AuditList, query=AuditPage, roles=ADMINS, errors=(503,)),
        read_endpoint("/api/config", _config, "The configuration in force, without secrets", ConfigState),
        read_endpoint("/api/usage", _usage, usage, UsageList, query=UsageQuery, roles=ALL_ROLES),
    ]


async def _audit(request: ApiRequest) -> ApiResponse:
    page = request.query
    chosen = page.model_dump(exclude={"limit", "before"})
    entries, total = await request.run_in_thread(
        lambda: request.services.audit_trail.read(limit=page.limit, before=page.before, **chosen)
    )
    more = entries[-1]["id"] if len(entries) == page.limit else None
    return ApiResponse({"entries": entries, "count": len(entries), "total_count": total, "next_before": more})


async def _config(request: ApiRequest) -> ApiResponse:
    services, policy = request.services, request.services.policy
    fallback = policy.file.fallback_price
    body: dict[str, Any] = {
        "version": __version__,
        "policy": {
            "revision": policy.revision,
            "source": policy.source,
            "loaded_at": iso(policy.loaded_at),
            "error": services.policy_watcher.error,
            "warnings": policy.warnings,
            "managed_by": policy.file.policy.managed_by,
        },
        "audit": policy.audit,
        "unpriced": policy.unpriced,
        "fallback_price": {"input": fallback.input, "output": fallback.output} if fallback else None,
        "free_request_max_limit": policy.free_request_max_limit,
        "required_headers": policy.required_headers,
        "egress": policy.egress.model_dump(),
        "server": policy.server.model_dump(exclude={"otlp": {"headers"}}),
        "operators": [{"id": o.id, "role": o.role} for o in policy.file.operators],
    }
    return ApiResponse(settings.in_bifrosts_words(services, policy) | body, revision=policy.revision)


async def _usage(request: ApiRequest) -> ApiResponse:
    services, policy, page = request.services, request.services.policy, request.query
    key = policy.virtual_keys.get(request.caller.virtual_key_id or "")
    limits = policy.all_limits() if request.caller.role != "developer" else policy.limits_of_key(key) if key else ()

    def work() -> list[dict[str, Any]]:
        with low_priority():
            rows = _rows(limits, page, services.ledger, services.clock())
            return with_names_and_parents(rows, policy)

    return ApiResponse({"usage": await request.run_in_thread(work)}, revision=policy.revision)
