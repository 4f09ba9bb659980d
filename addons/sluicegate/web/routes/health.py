"""How the gateway is: for load balancers, for whoever asks, and in full for those who look after it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sluicegate import __version__
from sluicegate.calls.record import Record
from sluicegate.guarantees import guarantees
from sluicegate.policy.fields import Instant
from sluicegate.policy.model import Policy, Provider
from sluicegate.services import Services
from sluicegate.storage.store import FILENAME
from sluicegate.web.endpoint import OPEN, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.query import AnyQuery
from sluicegate.web.responses import ResponseModel
from sluicegate.windows import iso, parse_iso

MOST_WARNINGS = 100


class HookTime(ResponseModel):
    """One hook of an addon: how often it ran and how long that took in all."""

    hook: str
    calls: int
    seconds: float


class AddonTime(ResponseModel):
    """One addon of the chain."""

    addon: str
    hooks: list[HookTime]
    us_per_call: float | None = Field(description="Microseconds, all its hooks together, per request that came; null: none came.")


class LedgerHealth(ResponseModel):
    """The books."""

    error: str | None
    reservations: int = Field(description="Calls in flight that hold money or a slot.")
    counters: int
    bytes: int = Field(description="Size of the database on disk.")
    wal_bytes: int


class AuditHealth(ResponseModel):
    """The records."""

    mode: Literal["required", "best_effort"]
    error: str | None
    lag_ms: int = Field(description="Age of the oldest record that is not in the database yet; its line is in audit.jsonl.")
    backlog: int = Field(description="Records that are not in the database, or not in audit.jsonl, yet.")


class PolicyHealth(ResponseModel):
    """The policy in force."""

    revision: str
    loaded_at: Instant
    source: str
    error: dict[str, Any] | None = Field(description="What is wrong with the last edit; null: what is on disk is in force.")
    reload_errors: int
    warnings: list[str] = Field(description=f"The first {MOST_WARNINGS}.")
    warning_count: int


class ProviderKeyHealth(ResponseModel):
    """A provider's key."""

    name: str
    source: str
    usable: bool
    set_aside_until: Instant | None


class ProviderHealth(ResponseModel):
    """A provider."""

    simulate: bool
    keys: list[ProviderKeyHealth]


class OptionRefused(ResponseModel):
    """An option of mitmproxy's that somebody tried to set."""

    option: str
    why: str


class FootingState(ResponseModel):
    """What a rule rests on."""

    what: str
    how: Literal["enforced", "cooperative"]
    why: str


class ProbeHealth(BaseModel):
    """Whether the gateway works. Staff get more: version, policy, ledger, audit, content, recovered, providers."""

    model_config = ConfigDict(extra="allow")

    status: Literal["ok", "degraded"]
    same_user: Literal["cooperative"] = Field(alias="same-user", description="An agent of the same user can go around the gateway.")


class Ready(ResponseModel):
    """Whether the gateway takes calls."""

    ready: bool


class Health(ResponseModel):
    """How the gateway is."""

    status: Literal["ok", "degraded"]
    version: str
    uptime_s: int
    draining: bool
    lookers: int = Field(description="Open streams of /api/events.")
    recovered: dict[str, int] = Field(description="What the last unclean end had left to do.")
    ledger: LedgerHealth
    audit: AuditHealth
    policy: PolicyHealth
    providers: dict[str, ProviderHealth]
    chain: list[AddonTime]
    options_refused: list[OptionRefused]
    enforcement: list[FootingState]


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
        body |= {
            "version": __version__,
            "policy": {
                "revision": policy.revision,
                "loaded_at": iso(policy.loaded_at),
                "source": policy.source,
                "error": services.policy_watcher.error,
                "warnings": policy.warnings,
            },
            "ledger": {"error": services.writer.store_error, "reservations": len(services.ledger.open)},
            "audit": {"mode": policy.audit, "error": services.writer.journal_error},
            "content": {"error": services.content.error, "dropped": services.content.dropped},
            "recovered": services.recovered,
            "providers": {p.name: provider_health(services, p) for p in policy.providers.values()},
        }
    return ApiResponse(body)


async def _ready(request: ApiRequest) -> ApiResponse:
    services = request.services
    can_record = services.policy.audit != "required" or not services.writer.journal_error
    is_ready = not services.draining and not services.writer.store_error and can_record
    return ApiResponse({"ready": is_ready}, 200 if is_ready else 503)


def status(services: Services) -> str:
    """``ok``, or ``degraded`` where something cannot be read or written."""
    return "degraded" if services.policy_watcher.error or services.writer.store_error or services.writer.journal_error else "ok"


def provider_health(services: Services, provider: Provider) -> dict[str, object]:
    """A provider's keys, without their values."""
    now, callers = services.clock(), len(services.policy.virtual_keys)
    resting = {k.name: services.keyring.set_aside_until(provider, k, callers, now) for k in provider.keys}
    return {
        "simulate": provider.simulate,
        "keys": [
            {
                "name": k.name,
                "source": k.source,
                "usable": bool(k.value),
                "set_aside_until": iso(until) if (until := resting[k.name]) else None,
            }
            for k in provider.keys
        ],
    }


async def _health_in_full(request: ApiRequest) -> ApiResponse:
    services, policy = request.services, request.services.policy
    waiting: list[Record] = services.writer.rows.calls[:1]

    def work() -> dict[str, Any]:
        return {
            "status": status(services),
            "version": __version__,
            "uptime_s": (services.clock() - services.opened_at) // 1000,
            "draining": services.draining,
            "lookers": services.live_calls.watchers,
            "recovered": services.recovered,
            "ledger": {
                "error": services.writer.store_error,
                "reservations": len(services.ledger.open),
                "counters": len(services.ledger.counters),
                "bytes": _size(services, FILENAME),
                "wal_bytes": _size(services, f"{FILENAME}-wal"),
            },
            "audit": {
                "mode": policy.audit,
                "error": services.writer.journal_error,
                "lag_ms": max(0, services.clock() - _ended_at(waiting[0])) if waiting else 0,
                "backlog": len(services.writer.rows.calls) + len(services.journal.backlog),
            },
            "policy": _policy(services, policy),
            "providers": {p.name: provider_health(services, p) for p in policy.providers.values()},
            "chain": chain(services),
            "options_refused": [{"option": name, "why": why} for name, why in list(services.options_refused.items())],
            "enforcement": [f._asdict() for f in guarantees(policy, services.is_exposed)],
        }

    return ApiResponse(await request.run_in_thread(work), revision=policy.revision)


def _policy(services: Services, policy: Policy) -> dict[str, Any]:
    return {
        "revision": policy.revision,
        "loaded_at": iso(policy.loaded_at),
        "source": policy.source,
        "error": services.policy_watcher.error,
        "reload_errors": services.policy_watcher.reload_errors,
        "warnings": policy.warnings[:MOST_WARNINGS],
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
    """The addons in their order, with the time each has taken."""
    spent: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in services.chain()}
    for (addon, hook), (nanoseconds, count) in list(services.hook_time.items()):
        spent.setdefault(addon, {})[hook] = nanoseconds, count
    came = max((hooks["request"][1] for hooks in spent.values() if "request" in hooks), default=0)
    return [
        {
            "addon": addon,
            "hooks": [{"hook": h, "calls": count, "seconds": ns / 1e9} for h, (ns, count) in hooks.items()],
            "us_per_call": round(sum(hooks[h][0] for h in hooks if h in _OF_CALLS) / came / 1000, 1) if came else None,
        }
        for addon, hooks in spent.items()
    ]


_OF_CALLS = frozenset({"http_connect", "requestheaders", "request", "commit", "responseheaders", "response", "error"})
