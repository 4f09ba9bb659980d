"""The gateway's health: for load balancers, for everyone, and in full for its operators."""

from __future__ import annotations

import sqlite3
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sluicegate import __version__
from sluicegate.calls.record import Record
from sluicegate.policy.fields import Instant
from sluicegate.policy.guarantees import guarantees
from sluicegate.policy.model import Policy
from sluicegate.policy.provider import Provider
from sluicegate.policy.source import refusal_of_copy
from sluicegate.services import Services
from sluicegate.storage.call_reader import deleted_before, oldest_call
from sluicegate.storage.store import FILENAME
from sluicegate.web.endpoint import OPEN, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.query import AnyQuery
from sluicegate.web.responses import ResponseModel
from sluicegate.web.shared_health import FleetHealth, WorkerWork, fleet_health, reservations, work_of_workers
from sluicegate.windows import iso, parse_iso

MAX_WARNINGS = 100


class HookTime(ResponseModel):
    """One hook of an addon: how often it ran and how long that took in total."""

    hook: str
    calls: int
    seconds: float


class AddonTime(ResponseModel):
    """The time one addon of the chain has taken."""

    addon: str
    hooks: list[HookTime]
    us_per_call: float | None = Field(description="Microseconds per request in all hooks; null: no request yet.")


class LedgerHealth(ResponseModel):
    """The ledger and its database."""

    error: str | None
    reservations: int = Field(description="Calls in flight that hold money or a slot.")
    counters: int
    bytes: int = Field(description="Size of the database on disk.")
    wal_bytes: int


class AuditHealth(ResponseModel):
    """The records of calls."""

    mode: Literal["required", "best_effort"]
    error: str | None
    lag_ms: int = Field(description="Age of the oldest record that is not yet in the database; its line is in audit.jsonl.")
    backlog: int = Field(description="Records that are not yet in the database or not yet in audit.jsonl.")


class RecordsHealth(ResponseModel):
    """How far back the records in the database go."""

    oldest_at: Instant | None = Field(description="When the oldest call on record began; null: there is none.")
    deleted_before: Instant | None = Field(description="Calls from before were deleted for their age; null: none was.")


class PolicyHealth(ResponseModel):
    """The policy in force."""

    revision: str
    loaded_at: Instant
    source: str
    error: dict[str, Any] | None = Field(description="What is wrong with the last edit; null: the files on disk are in force.")
    reload_errors: int
    warnings: list[str] = Field(description=f"The first {MAX_WARNINGS}.")
    warning_count: int


class PricesHealth(ResponseModel):
    """The operator's prices."""

    error: str | None = Field(description="What is wrong with prices.yaml; those from before stay in force. null: it is in force.")


class ProviderKeyHealth(ResponseModel):
    """A provider's key and whether it can be used."""

    name: str
    source: str
    usable: bool
    set_aside_until: Instant | None


class ProviderHealth(ResponseModel):
    """A provider and its keys."""

    simulate: bool
    keys: list[ProviderKeyHealth]


class OptionRefused(ResponseModel):
    """An option of mitmproxy that was refused while the gateway ran."""

    option: str
    why: str


class GuaranteeState(ResponseModel):
    """Whether a rule is enforced or cooperative, and why."""

    what: str
    how: Literal["enforced", "cooperative"]
    why: str


class ProbeHealth(BaseModel):
    """Whether the gateway works. Staff get more: version, components, policy, ledger, audit, content, recovered, providers."""

    model_config = ConfigDict(extra="allow")

    status: Literal["ok", "degraded"]
    same_user: Literal["cooperative"] = Field(alias="same-user", description="An agent of the same user can go around the gateway.")


class Ready(ResponseModel):
    """Whether the gateway takes calls."""

    ready: bool


class Health(ResponseModel):
    """The gateway's health in full."""

    status: Literal["ok", "degraded"]
    version: str
    uptime_s: int
    draining: bool
    lookers: int = Field(description="Open streams of /api/events.")
    recovered: dict[str, int] = Field(description="What the start after the last crash had to recover.")
    ledger: LedgerHealth
    audit: AuditHealth
    records: RecordsHealth
    policy: PolicyHealth
    prices: PricesHealth
    providers: dict[str, ProviderHealth]
    chain: list[AddonTime]
    options_refused: list[OptionRefused]
    fleet: FleetHealth | None = Field(description="null: it shares its limits with no other gateway.")
    workers: list[WorkerWork] | None = Field(description="Those of this host that answer; null: there is one process.")
    enforcement: list[GuaranteeState]


def endpoints() -> list[Endpoint]:
    """Declare ``/health`` and ``/ready``, open to everyone, and ``/api/health``."""
    health, ready = "Whether the gateway works; for staff with policy and providers", "Whether to send calls here"
    in_full = "The gateway's health in full: addon chain, ledger, records, policy, providers"
    return [
        read_endpoint("/health", _health, health, ProbeHealth, roles=OPEN, query=AnyQuery),
        read_endpoint("/ready", _ready, ready, Ready, roles=OPEN, query=AnyQuery, other_responses={503: Ready}),
        read_endpoint("/api/health", _health_in_full, in_full, Health),
    ]


async def _health(request: ApiRequest) -> ApiResponse:
    services, policy = request.services, request.services.policy
    body: dict[str, Any] = {"status": status(services), "same-user": "cooperative"}
    if request.caller.role != "developer":
        work = await request.run_in_thread(lambda: work_of_workers(services))
        body |= {
            "version": __version__,
            "components": {"database": "error" if services.writer.store_error else "ok"},
            "policy": {
                "revision": policy.revision,
                "loaded_at": iso(policy.loaded_at),
                "source": policy.source,
                "error": services.policy_watcher.error,
                "warnings": policy.warnings,
            },
            "prices": {"error": services.price_watcher.error},
            "ledger": {"error": services.writer.store_error, "reservations": reservations(services, work)},
            "audit": {"mode": policy.audit, "error": services.writer.journal_error},
            "records": await request.run_in_thread(lambda: _records_health(services)),
            "content": {"error": services.content.error, "dropped": services.content.dropped},
            "recovered": services.recovered,
            "fleet": fleet_health(services),
            "workers": work,
            "providers": {p.name: provider_health(services, p) for p in policy.providers.values()},
        }
    return ApiResponse(body)


async def _ready(request: ApiRequest) -> ApiResponse:
    services = request.services
    can_record = services.policy.audit != "required" or not services.writer.journal_error
    is_ready = (
        not services.draining
        and not services.writer.store_error
        and can_record
        and refusal_of_copy(services.policy_watcher.source) is None
    )
    return ApiResponse({"ready": is_ready}, 200 if is_ready else 503)


def status(services: Services) -> str:
    """Return ``ok``, or ``degraded`` if something cannot be read or written."""
    unread = services.policy_watcher.error or services.price_watcher.error
    if services.fleet is not None and (services.fleet.membership.error or services.fleet.shipping.error):
        return "degraded"
    return "degraded" if unread or services.writer.store_error or services.writer.journal_error else "ok"


def provider_health(services: Services, provider: Provider) -> dict[str, object]:
    """Return a provider's keys, without their values."""
    now, callers = services.clock(), len(services.policy.virtual_keys)
    set_aside_until = {k.name: services.keyring.set_aside_until(provider, k, callers, now) for k in provider.keys}
    return {
        "simulate": provider.simulate,
        "keys": [
            {
                "name": k.name,
                "source": k.source,
                "usable": k.is_usable,
                "set_aside_until": iso(until) if (until := set_aside_until[k.name]) else None,
            }
            for k in provider.keys
        ],
    }


async def _health_in_full(request: ApiRequest) -> ApiResponse:
    services, policy = request.services, request.services.policy
    unwritten: list[Record] = services.writer.rows.calls[:1]

    def work() -> dict[str, Any]:
        workers = work_of_workers(services)
        return {
            "status": status(services),
            "version": __version__,
            "uptime_s": (services.clock() - services.opened_at) // 1000,
            "draining": services.draining,
            "lookers": services.live_calls.watchers,
            "recovered": services.recovered,
            "ledger": {
                "error": services.writer.store_error,
                "reservations": reservations(services, workers),
                "counters": len(services.ledger.counters),
                "bytes": _size(services, FILENAME),
                "wal_bytes": _size(services, f"{FILENAME}-wal"),
            },
            "audit": {
                "mode": policy.audit,
                "error": services.writer.journal_error,
                "lag_ms": max(0, services.clock() - _ended_at(unwritten[0])) if unwritten else 0,
                "backlog": len(services.writer.rows.calls) + len(services.journal.backlog),
            },
            "records": _records_health(services),
            "policy": _policy_health(services, policy),
            "prices": {"error": services.price_watcher.error},
            "providers": {p.name: provider_health(services, p) for p in policy.providers.values()},
            "chain": chain(services),
            "options_refused": [{"option": name, "why": why} for name, why in list(services.options_refused.items())],
            "fleet": fleet_health(services),
            "workers": workers,
            "enforcement": [f._asdict() for f in guarantees(policy, services.is_exposed)],
        }

    return ApiResponse(await request.run_in_thread(work), revision=policy.revision)


def _records_health(services: Services) -> dict[str, Any]:
    try:
        oldest, deleted = oldest_call(services.database), deleted_before(services.database)
    except sqlite3.Error:
        # What is wrong with the database shows in its next write.
        return {"oldest_at": None, "deleted_before": None}
    return {"oldest_at": None if oldest is None else iso(oldest), "deleted_before": iso(deleted) if deleted else None}


def _policy_health(services: Services, policy: Policy) -> dict[str, Any]:
    return {
        "revision": policy.revision,
        "loaded_at": iso(policy.loaded_at),
        "source": policy.source,
        "error": services.policy_watcher.error,
        "reload_errors": services.policy_watcher.reload_errors,
        "warnings": policy.warnings[:MAX_WARNINGS],
        "warning_count": len(policy.warnings),
    }


def _ended_at(record: Record) -> int:
    return parse_iso(record["started_at"]) + (record["latency_ms"] or 0)


def _size(services: Services, name: str) -> int:
    try:
        return (services.state_dir / name).stat().st_size
    except OSError:
        return 0


def chain(services: Services) -> list[dict[str, Any]]:
    """Return the addons in their order, with the time each has taken."""
    spent: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in services.chain()}
    for (addon, hook), (seconds, count) in list(services.hook_time.items()):
        spent.setdefault(addon, {})[hook] = seconds, count
    calls = max((hooks["request"][1] for hooks in spent.values() if "request" in hooks), default=0)
    return [
        {
            "addon": addon,
            "hooks": [{"hook": h, "calls": count, "seconds": seconds} for h, (seconds, count) in hooks.items()],
            "us_per_call": round(sum(hooks[h][0] for h in hooks if h in _CALL_HOOKS) / calls * 1e6, 1) if calls else None,
        }
        for addon, hooks in spent.items()
    ]


_CALL_HOOKS = frozenset({"http_connect", "requestheaders", "request", "commit", "responseheaders", "response", "error"})
