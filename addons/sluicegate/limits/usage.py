"""The usage table: one row per limit, with what is used, in flight and left. Live, or read from the file by others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sluicegate.limits.ledger import Ledger
from sluicegate.policy.model import Limit, Policy
from sluicegate.values import usd
from sluicegate.windows import iso

Row = dict[str, Any]


def usage_rows(policy: Policy, ledger: Ledger, now: int) -> list[Row]:
    """One row per limit. Money columns are exact decimal text, counts integers; the others' columns are None."""
    return limit_rows(policy.all_limits(), ledger, now)


def limit_rows(limits: Iterable[Limit], ledger: Ledger, now: int) -> list[Row]:
    """The rows of some limits."""
    return [limit_row(limit, *ledger.usage(limit, now), now) for limit in sorted(limits, key=_order)]


def limit_row(limit: Limit, used: int, reserved: int, start: int, end: int | None, now: int) -> Row:
    """A limit and its numbers as a row."""
    money = limit.unit == "usd"
    shown: Callable[[int], Any] = usd if money else int
    ahead = forecast(used, start, end, now) if money else None
    full = exhausted_at(used, limit.maximum, start, end, now) if limit.period else None
    return {
        "kind": limit.scope_kind,
        "id": limit.scope_id,
        "unit": limit.unit,
        "window": limit.period.text if limit.period else None,
        "limit_usd": usd(limit.maximum) if money else None,
        "used_usd": usd(used) if money else None,
        "reserved_usd": usd(reserved) if money else None,
        "limit": None if money else shown(limit.maximum),
        "used": None if money else shown(used),
        "reserved": None if money else shown(reserved),
        "enforcement": "hard" if limit.hard else "soft",
        "starts_at": iso(start),
        "resets_at": iso(end) if end is not None else None,
        "forecast_usd": usd(ahead) if ahead is not None else None,
        "exhausted_at": iso(full) if full is not None else None,
    }


END_OF_CALENDAR_MS = 253_402_300_800_000
"""The year 10000, which no time names."""

MIN_OBSERVED_MS = 3_600_000
"""Milliseconds after which a window without an end has a pace."""


def has_pace(start: int, end: int | None, now: int) -> bool:
    """Whether enough of a window has passed to say anything: a window may begin with its first call.

    In its first hundredth one call would foretell ruin.
    """
    return now - start >= (MIN_OBSERVED_MS if end is None else max(1, (end - start) // 100))


def forecast(used: int, start: int, end: int | None, now: int) -> int | None:
    """What will be used at the window's end, going on as so far; None where nothing can be said."""
    if end is None or not has_pace(start, end, now):
        return None
    return used * (end - start) // (now - start)


def exhausted_at(used: int, maximum: int, start: int, end: int | None, now: int) -> int | None:
    """When the limit is reached, going on as so far: ``now`` where it is, None where the window ends before or none can say."""
    if used >= maximum:
        return now
    if used <= 0 or not has_pace(start, end, now):
        return None
    # Rounded up: at the moment that is named it is reached.
    at = start - (-maximum * (now - start) // used)
    return at if at < (END_OF_CALENDAR_MS if end is None else end) else None


def with_names_and_parents(rows: Iterable[Row], policy: Policy) -> list[Row]:
    """The rows with what each scope is called, and the nearest level above it that has a row as well."""
    rows = list(rows)
    there = {(r["kind"], r["id"]) for r in rows}
    names = _names(policy)
    homes = {("user", u.id): (u.team_id, u.customer_id) for u in policy.file.users}
    homes |= {("project", p.id): (p.team_id, p.customer_id) for p in policy.file.projects}
    of_team = {t.id: t.customer_id for t in policy.file.teams}

    def above(kind: str, scope_id: str) -> Iterator[tuple[str, str | None]]:
        team, customer = homes.get((kind, scope_id), (None, None))
        if kind == "provider_config":
            scope_id = scope_id.rpartition(":")[0]
            yield "virtual_key", scope_id
        if kind in ("provider_config", "virtual_key"):
            key = policy.virtual_keys[scope_id]
            yield "user", key.user_id
            yield "project", key.project_id
            team, customer = key.team_id, key.customer_id
        if kind == "team":
            yield "customer", of_team.get(scope_id)
        yield "team", team
        yield "customer", customer or of_team.get(team or "")

    parents: dict[tuple[str, str], dict[str, str] | None] = {}
    for kind, scope_id in there:
        found = next((a for a in above(kind, scope_id) if a in there), None)
        parents[kind, scope_id] = {"kind": found[0], "id": str(found[1])} if found is not None else None
    return [r | {"name": names.get((r["kind"], r["id"]), r["id"]), "parent": parents[r["kind"], r["id"]]} for r in rows]


def _names(policy: Policy) -> Mapping[tuple[str, str], str]:
    file = policy.file
    names = {("virtual_key", k.id): k.name for k in policy.virtual_keys.values()}
    for kind, entities in (("customer", file.customers), ("team", file.teams), ("user", file.users), ("project", file.projects)):
        names |= {(kind, e.id): e.name or e.id for e in entities}
    for key in policy.virtual_keys.values():
        names |= {("provider_config", f"{key.id}:{c.provider}"): c.provider for c in key.provider_configs or ()}
    return names


_KINDS = ("customer", "team", "project", "user", "virtual_key", "provider_config", "provider", "model")


def _order(limit: Limit) -> tuple[int, str, str]:
    return _KINDS.index(limit.scope_kind), limit.scope_id, limit.unit
