"""How the gateway is: for load balancers, for whoever asks, and in full for those who look after it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluicegate import __version__
from sluicegate.footing import footing
from sluicegate.policy import Policy, Provider
from sluicegate.records import Record
from sluicegate.schema import Instant
from sluicegate.services import FILENAME, Services
from sluicegate.web.api import Ask, Endpoint, Reply, shows
from sluicegate.web.states import State
from sluicegate.web.who import caller_of
from sluicegate.windows import iso, parse_iso

MOST_WARNINGS = 100


class HookTime(State):
    """One hook of an addon: how often it ran and how long that took in all."""

    hook: str
    calls: int
    seconds: float


class AddonTime(State):
    """One addon of the chain."""

    addon: str
    hooks: list[HookTime]
    us_per_call: float | None = Field(description="Microseconds, all its hooks together, per request that came; null: none came.")


class LedgerHealth(State):
    """The books."""

    error: str | None
    reservations: int = Field(description="Calls in flight that hold money or a slot.")
    counters: int
    bytes: int = Field(description="Size of the database on disk.")
    wal_bytes: int


class AuditHealth(State):
    """The records."""

    mode: Literal["required", "best_effort"]
    error: str | None
    lag_ms: int = Field(description="Age of the oldest record that is not in the database yet; its line is in audit.jsonl.")
    backlog: int = Field(description="Records that are not in the database, or not in audit.jsonl, yet.")


class PolicyHealth(State):
    """The policy in force."""

    revision: str
    loaded_at: Instant
    source: str
    error: dict[str, Any] | None = Field(description="What is wrong with the last edit; null: what is on disk is in force.")
    reload_errors: int
    warnings: list[str] = Field(description=f"The first {MOST_WARNINGS}.")
    warning_count: int


class ProviderKeyHealth(State):
    """A provider's key."""

    name: str
    source: str
    usable: bool
    set_aside_until: Instant | None


class ProviderHealth(State):
    """A provider."""

    simulate: bool
    keys: list[ProviderKeyHealth]


class OptionRefused(State):
    """An option of mitmproxy's that somebody tried to set."""

    option: str
    why: str


class FootingState(State):
    """What a rule rests on."""

    what: str
    how: Literal["enforced", "cooperative"]
    why: str


class Health(State):
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
    """The rows of this room."""
    return [shows("/api/health", _in_full, "How the gateway is: chain, books, records, policy, providers", Health)]


def routes(house: Services) -> list[Route]:
    """``/health`` and ``/ready``, open to everyone."""

    async def health(request: Request) -> Response:
        said: dict[str, object] = {"status": status(house), "same-user": "cooperative"}
        if (caller := caller_of(request, house)) is not None and caller.role != "developer":
            policy = house.policy
            said |= {
                "version": __version__,
                "policy": {
                    "revision": policy.revision,
                    "loaded_at": iso(policy.loaded_at),
                    "source": policy.source,
                    "error": house.source.error,
                    "warnings": policy.warnings,
                },
                "ledger": {"error": house.store_error, "reservations": len(house.ledger.open)},
                "audit": {"mode": policy.audit, "error": house.audit_error},
                "content": {"error": house.content.error, "dropped": house.content.dropped},
                "recovered": house.recovered,
                "providers": {p.name: provider_health(house, p) for p in policy.providers.values()},
            }
        return JSONResponse(said)

    async def ready(_: Request) -> Response:
        up = not house.draining and not house.store_error and (house.policy.audit != "required" or not house.audit_error)
        return JSONResponse({"ready": up}, 200 if up else 503)

    return [Route("/health", health), Route("/ready", ready)]


def status(house: Services) -> str:
    """``ok``, or ``degraded`` where something cannot be read or written."""
    return "degraded" if house.source.error or house.store_error or house.audit_error else "ok"


def provider_health(house: Services, provider: Provider) -> dict[str, object]:
    """A provider's keys, without their values."""
    now, callers = house.clock(), len(house.policy.virtual_keys)
    resting = {k.name: house.keyring.aside_until(provider, k, callers, now) for k in provider.keys}
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


async def _in_full(ask: Ask) -> Reply:
    house, policy = ask.house, ask.house.policy
    waiting: list[Record] = house.store.rows[:1]

    def work() -> dict[str, Any]:
        return {
            "status": status(house),
            "version": __version__,
            "uptime_s": (house.clock() - house.opened_at) // 1000,
            "draining": house.draining,
            "lookers": house.live.lookers,
            "recovered": house.recovered,
            "ledger": {
                "error": house.store_error,
                "reservations": len(house.ledger.open),
                "counters": len(house.ledger.counters),
                "bytes": _size(house, FILENAME),
                "wal_bytes": _size(house, f"{FILENAME}-wal"),
            },
            "audit": {
                "mode": policy.audit,
                "error": house.audit_error,
                "lag_ms": max(0, house.clock() - _ended_at(waiting[0])) if waiting else 0,
                "backlog": len(house.store.rows) + len(house.journal.backlog),
            },
            "policy": _policy(house, policy),
            "providers": {p.name: provider_health(house, p) for p in policy.providers.values()},
            "chain": chain(house),
            "options_refused": [{"option": name, "why": why} for name, why in list(house.options_refused.items())],
            "enforcement": [f._asdict() for f in footing(policy, house.exposed)],
        }

    return Reply(await ask.read(work), revision=policy.revision)


def _policy(house: Services, policy: Policy) -> dict[str, Any]:
    return {
        "revision": policy.revision,
        "loaded_at": iso(policy.loaded_at),
        "source": policy.source,
        "error": house.source.error,
        "reload_errors": house.source.reload_errors,
        "warnings": policy.warnings[:MOST_WARNINGS],
        "warning_count": len(policy.warnings),
    }


def _ended_at(record: Record) -> int:
    return parse_iso(record["started_at"]) + (record["latency_ms"] or 0)


def _size(house: Services, name: str) -> int:
    try:
        return (house.state_dir / name).stat().st_size
    except OSError:
        return 0


def chain(house: Services) -> list[dict[str, Any]]:
    """The addons in their order, with the time each has taken."""
    spent: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in house.chain()}
    for (addon, hook), (nanoseconds, count) in list(house.hook_time.items()):
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
