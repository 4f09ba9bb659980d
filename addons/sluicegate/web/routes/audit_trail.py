"""The audit trail of administration and the configuration in force, over REST."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sluicegate import __version__
from sluicegate.fleet.fleet import host_of
from sluicegate.policy.fields import Instant
from sluicegate.web.endpoint import ADMINS, ApiRequest, ApiResponse, Endpoint, read_endpoint
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
    node: str | None = Field(None, max_length=63, description="Only what was done on the gateway with this name.")


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
    node: str | None = Field(description="The gateway on which it was done, by name; null: there is only one.")


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


def endpoints() -> list[Endpoint]:
    """Declare ``/api/audit`` and ``/api/config``."""
    trail = "What administrators changed, newest first"
    return [
        read_endpoint("/api/audit", _audit, trail, AuditList, query=AuditPage, roles=ADMINS, errors=(503,)),
        read_endpoint("/api/config", _config, "The configuration in force, without secrets", ConfigState),
    ]


async def _audit(request: ApiRequest) -> ApiResponse:
    page = request.query
    chosen = page.model_dump(exclude={"limit", "before"}) | {"here": host_of(request.services.fleet)}
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
