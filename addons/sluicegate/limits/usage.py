"""The usage table: one row per limit, with what is used, what is reserved, and a forecast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import Limit
from sluicegate.policy.model import Policy
from sluicegate.values import usd
from sluicegate.windows import iso

Row = dict[str, Any]


def usage_rows(policy: Policy, ledger: Ledger, now: int) -> list[Row]:
    """Return one row per limit. Money is exact decimal text, counts are integers; columns of the other kind are None."""
    return limit_rows(policy.all_limits(), ledger, now)


def limit_rows(limits: Iterable[Limit], ledger: Ledger, now: int, part: slice = slice(None)) -> list[Row]:
    """Return the rows of some limits, in the order of their scopes; of a ``part`` of them if only that is wanted."""
    return [limit_row(limit, *ledger.usage(limit, now), now) for limit in sorted(limits, key=_order)[part]]


def limit_row(limit: Limit, used: int, reserved: int, start: int, end: int | None, now: int) -> Row:
    """Return a limit and its numbers as a row."""
    limit = limit.at(now)
    money = limit.unit == "usd"
    shown: Callable[[int], Any] = usd if money else int
    predicted = forecast(used, start, end, now) if money else None
    full_at = exhausted_at(used, limit.maximum, start, end, now) if limit.period else None
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
        "forecast_usd": usd(predicted) if predicted is not None else None,
        "exhausted_at": iso(full_at) if full_at is not None else None,
    }


END_OF_CALENDAR_MS = 253_402_300_800_000
"""The year 10000: ISO times end before it."""

MIN_OBSERVED_MS = 3_600_000
"""How long a window without an end must have lasted before a forecast is made."""


def is_long_enough(start: int, end: int | None, now: int) -> bool:
    """Return whether enough of a window has passed for a forecast: a window may begin with its first call.

    In the first hundredth of a window, a single call would forecast an exhausted limit.
    """
    return now - start >= (MIN_OBSERVED_MS if end is None else max(1, (end - start) // 100))


def forecast(used: int, start: int, end: int | None, now: int) -> int | None:
    """Return what will be used at the window's end at the present rate; None where it is too early to say."""
    if end is None or not is_long_enough(start, end, now):
        return None
    return used * (end - start) // (now - start)


def exhausted_at(used: int, maximum: int, start: int, end: int | None, now: int) -> int | None:
    """Return when the limit is reached at the present rate: ``now`` if it has been, None if not in this window or unknown."""
    if used >= maximum:
        return now
    if used <= 0 or not is_long_enough(start, end, now):
        return None
    # Rounded up, so that the limit has been reached at that time.
    at = start - (-maximum * (now - start) // used)
    return at if at < (END_OF_CALENDAR_MS if end is None else end) else None


def with_names_and_parents(rows: Iterable[Row], policy: Policy) -> list[Row]:
    """Return the rows with each scope's name, and the nearest scope above it that has a row as well."""
    rows = list(rows)
    present = {(r["kind"], r["id"]) for r in rows}
    names = scope_names(policy)
    parents_of = {("user", u.id): (u.team_id, u.customer_id) for u in policy.file.users}
    parents_of |= {("project", p.id): (p.team_id, p.customer_id) for p in policy.file.projects}
    of_team = {t.id: t.customer_id for t in policy.file.teams}

    def above(kind: str, scope_id: str) -> Iterator[tuple[str, str | None]]:
        team, customer = parents_of.get((kind, scope_id), (None, None))
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
    for kind, scope_id in present:
        found = next((a for a in above(kind, scope_id) if a in present), None)
        parents[kind, scope_id] = {"kind": found[0], "id": str(found[1])} if found is not None else None
    return [r | {"name": names.get((r["kind"], r["id"]), r["id"]), "parent": parents[r["kind"], r["id"]]} for r in rows]


def scope_names(policy: Policy) -> Mapping[tuple[str, str], str]:
    """Return the names that scopes are shown by, by kind and id."""
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
