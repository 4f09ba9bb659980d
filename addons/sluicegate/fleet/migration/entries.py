"""Moving entries: audit trail, policy history and adjustments, by the ids that a gateway would send them with itself."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from sluicegate.fleet.entries.exchange import FETCHED, PER_BATCH
from sluicegate.fleet.entries.rows import KINDS, Entry, Kind, own_entries
from sluicegate.fleet.entries.table import Entries
from sluicegate.fleet.migration.holdings import ENTRIES, Sums, sum_of
from sluicegate.fleet.store.session import Session

if TYPE_CHECKING:
    import psycopg

_KNOWN = "SELECT id, entry->>'amount_nano' FROM entries WHERE id = ANY(%s)"
_LAST = "SELECT coalesce(max(position), 0) FROM entries"


def move_entries(conn: sqlite3.Connection, session: Session, node: tuple[str, str], here: Sums, there: Sums) -> list[str]:
    """Bring a node's entries to the store and compare; return in words what differs. ``node`` is its id and name.

    Raises FleetError and sqlite3.Error.
    """
    differences: list[str] = []
    for kind in KINDS:
        after = 0
        while True:
            after, found = own_entries(conn, kind, after, PER_BATCH, node)
            if not found:
                break
            Entries(session).put(node[0], found)
            differences += _compare(session, kind, found, here, there)
    return differences


def delivered(conn: sqlite3.Connection) -> dict[str, int]:
    """Return what a folder notes once all of its entries are in the store."""
    return {
        f"shipped_{kind.name}": conn.execute(f"SELECT coalesce(max({kind.number}), 0) FROM {kind.table}").fetchone()[0]  # noqa: S608
        for kind in KINDS
    }


def nothing_fetched(session: Session) -> dict[str, int]:
    """Return what a folder notes that was in another store: the others' entries until now it has from there."""
    return {FETCHED: int(session.run(lambda conn: (conn.execute(_LAST).fetchone() or (0,))[0]))}


def _compare(session: Session, kind: Kind, found: list[Entry], here: Sums, there: Sums) -> list[str]:
    def known(conn: psycopg.Connection) -> dict[str, int]:
        return {i: int(amount or 0) for i, amount in conn.execute(_KNOWN, ([e.id for e in found],))}

    kept, differences = session.run(known), []
    what, unit = ENTRIES[kind.name]
    for entry in found:
        amount = int(entry.values["amount_nano"]) if unit == "usd" else 1
        sum_of(here, what, "all", unit).add(amount)
        if entry.id not in kept:
            differences.append(f"{what}: the store lacks the entry of {entry.values['at']}")
            continue
        moved = kept[entry.id] if unit == "usd" else 1
        sum_of(there, what, "all", unit).add(moved)
        if moved != amount:
            differences.append(
                f"{what}: the entry of {entry.values['at']} is of {amount} nano-dollars here, and {moved} in the store"
            )
    return differences
