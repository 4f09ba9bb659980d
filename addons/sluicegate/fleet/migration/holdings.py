"""What a state folder has that a fleet counts or shows: sums per level, exact to the nano-dollar. It only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluicegate.database import connection
from sluicegate.fleet.entries.rows import KINDS
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import unit_of_counter
from sluicegate.storage.store import FILENAME, OWN_CALLS, load_ledger
from sluicegate.values import usd

LEVELS = ("customer", "team", "project", "user", "virtual_key")
"""Levels at which a record counts, by its columns ``LEVEL_id``."""

WINDOW, RECORD = "used in present windows", "records of calls"

ENTRIES = {"audit": ("audit trail", "entries"), "revision": ("policy history", "entries"), "adjustment": ("adjustments", "usd")}
"""By the kind of an entry, what it is called and what its amount is in."""


@dataclass(slots=True)
class Sum:
    """What there is of one kind at one level; the amount is nano-dollars, or a count of what ``unit`` says."""

    what: str
    level: str
    unit: str = "usd"
    entries: int = 0
    amount: int = 0

    def add(self, amount: int, entries: int = 1) -> None:
        """Count one more, or several."""
        self.entries += entries
        self.amount += amount

    @property
    def text(self) -> str:
        """Return the amount for people: exact dollars, or a count with what is counted."""
        return f"${usd(self.amount)}" if self.unit == "usd" else f"{self.amount:,} {self.unit}"


Sums = dict[tuple[str, str, str], Sum]
"""By kind, level and unit."""


def sum_of(sums: Sums, what: str, level: str, unit: str = "usd") -> Sum:
    """Return a sum to add to."""
    return sums.setdefault((what, level, unit), Sum(what, level, unit))


def add_window(sums: Sums, counter: str, used: int) -> None:
    """Count what is used of a present window."""
    sum_of(sums, WINDOW, counter.partition("/")[0], unit_of_counter(counter)).add(used)


def add_record(sums: Sums, ids: Iterable[Any], cost: int) -> None:
    """Count a record under each level whose id it has, in the order of ``LEVELS``."""
    sum_of(sums, RECORD, "all").add(cost)
    for level, name in zip(LEVELS, ids, strict=True):
        if name is not None:
            sum_of(sums, RECORD, level).add(cost)


def used_of(ledger: Ledger, now: int) -> dict[str, int]:
    """Return by counter what is used of the window at a time, where that is anything."""
    present = (c for c in ledger.counters.values() if c.end is None or now < c.end)
    return {c.name: c.used for c in present if c.used}


@dataclass(slots=True)
class Holdings:
    """What a folder has."""

    sums: Sums
    open_calls: int
    """Calls that were in flight when this was last written: they are charged first, as a start does."""


def read_holdings(folder: Path, now: int) -> Holdings:
    """Return what a folder has, whether a gateway runs or not. Raises sqlite3.Error."""
    sums: Sums = {}
    ledger = Ledger()
    with connection(folder / FILENAME, "ro") as conn:
        load_ledger(conn, ledger)
        for name, used in used_of(ledger, now).items():
            add_window(sums, name, used)
        for level, count, cost in _sums_of_records(conn):
            if count:
                sum_of(sums, RECORD, level).add(cost, count)
        for kind in KINDS:
            what, unit = ENTRIES[kind.name]
            amount = "coalesce(sum(amount_nano), 0)" if unit == "usd" else "count(*)"
            count, total = conn.execute(f"SELECT count(*), {amount} FROM {kind.table} WHERE node IS NULL").fetchone()  # noqa: S608
            if count:
                sum_of(sums, what, "all", unit).add(total, count)
    return Holdings(sums, len(ledger.open))


def _sums_of_records(conn: sqlite3.Connection) -> list[tuple[str, int, int]]:
    names = {"all": "id"} | {level: f"{level}_id" for level in LEVELS}
    columns = ", ".join(f"count({c}), coalesce(sum(CASE WHEN {c} IS NOT NULL THEN cost_nano END), 0)" for c in names.values())
    row = conn.execute(f"SELECT {columns} FROM calls WHERE {OWN_CALLS}").fetchone()  # noqa: S608
    return [(level, row[2 * i], row[2 * i + 1]) for i, level in enumerate(names)]


def table_rows(here: Sums, there: Mapping[tuple[str, str, str], Sum] | None = None) -> list[dict[str, Any]]:
    """Return the sums as rows of a table, with what the store has of each where that is known."""
    rows = []
    for key in sorted(here.keys() | (there or {}).keys(), key=_order):
        one = here.get(key) or Sum(*key)
        row: dict[str, Any] = {"what": one.what, "level": one.level, "entries": one.entries, "amount": one.text}
        if there is not None:
            other = there.get(key) or Sum(*key)
            row |= {"entries_in_store": other.entries, "amount_in_store": other.text}
        rows.append(row)
    return rows


def _order(key: tuple[str, str, str]) -> tuple[str, bool, str, str]:
    what, level, unit = key
    return what, level != "all", level, unit
