"""The usage table: one row per limit, with what is used, in flight and left. Live, or read from the file by others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson

from sluicegate.ledger import Claim, Counter, Ledger, Reservation
from sluicegate.policy import Limit, Policy
from sluicegate.records import usd
from sluicegate.windows import iso

Row = dict[str, Any]


def usage_rows(policy: Policy, ledger: Ledger, now: int) -> list[Row]:
    """One row per limit. Money columns are exact decimal text, counts integers; the others' columns are None."""
    return rows_of(policy.all_limits(), ledger, now)


def rows_of(limits: Iterable[Limit], ledger: Ledger, now: int) -> list[Row]:
    """The rows of some limits."""
    return [row_of(limit, *ledger.usage(limit, now)) for limit in sorted(limits, key=_order)]


def row_of(limit: Limit, used: int, reserved: int, start: int, end: int | None) -> Row:
    """A limit and its numbers as a row."""
    money = limit.unit == "usd"
    shown: Callable[[int], Any] = usd if money else int
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
    }


def usage_rows_from(path: Path, policy: Policy, now: int) -> list[Row]:
    """The same rows read from a database file, while a gateway runs or not. Raises sqlite3.Error."""
    return usage_rows(policy, read_ledger(path), now)


def read_ledger(path: Path) -> Ledger:
    """The ledger as it is on file; an empty one where there is no file yet. Raises sqlite3.Error."""
    ledger = Ledger()
    if not path.exists():
        return ledger
    conn = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2)
    try:
        for name, anchor, start, end, used in conn.execute("SELECT name, anchor, window_start, window_end, used FROM counters"):
            ledger.counters[name] = Counter(name, anchor, start, end, used)
        for number, call_id, at, claims in conn.execute("SELECT number, call_id, at, claims FROM reservations"):
            ledger.restore(Reservation(call_id, at, number, [Claim(*c) for c in orjson.loads(claims)]))
    finally:
        conn.close()
    return ledger


_KINDS = ("customer", "team", "project", "user", "virtual_key", "provider_config", "provider", "model")


def _order(limit: Limit) -> tuple[int, str, str]:
    return _KINDS.index(limit.scope_kind), limit.scope_id, limit.unit
