"""Gathering records: a worker's thread that takes its own to the database that all workers of a host share.

Logs, statistics, exports and the dashboard of any worker are about that database. A worker's own has what it must know after a
crash: its counters, open calls, and the records that are not gathered yet; those that are and that the journal has are
deleted from it. As in ``shipping.py``, a crash at any moment repeats a few rows and leaves out none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from sluicegate.calls.record import COLUMNS
from sluicegate.database import connection, transaction
from sluicegate.fleet.erasure.carrying_out import Erasing
from sluicegate.fleet.records import Records
from sluicegate.fleet.shipping import RECORDS_PER_BATCH, ROWS_PER_STEP, UNCONFIRMED, Ends, Shipping, steps, write_fetched
from sluicegate.storage.adjustment_rows import INSERT_ADJUSTMENT, read_adjustments, row_of_adjustment
from sluicegate.storage.migrations import CONNECTION_COLUMNS
from sluicegate.storage.store import AGREED_ADJUSTMENT, AGREED_CALL, DELETED_BEFORE_MS, INSERT_CALL, SHIPPED, read_meta, set_meta
from sluicegate.windows import parse_iso

GATHERED_ADJUSTMENT, GATHERED_CONNECTION = "gathered_adjustment", "gathered_connection"
"""Names in ``meta`` of a worker's database: the last rows of these tables that the shared one has."""

DELETED_AT_ONCE, STEPS_PER_ROUND, PAUSE_S = 10, 25, 0.01
"""Gathered calls deleted in one statement, statements in one round, and the pause after each.

Calls are written to the same file, and are refused if they cannot be for 50 ms. So each write to it is one statement: a
transaction of several would hold the lock while this thread waits for the interpreter.
"""

_ID = list(COLUMNS).index("id")
_OWN = f"SELECT rowid, {','.join(COLUMNS)} FROM calls WHERE rowid > ? ORDER BY rowid LIMIT ?"  # noqa: S608
_GATHERED = "SELECT rowid, started_at FROM calls WHERE rowid < ? ORDER BY rowid LIMIT ?"
_ORIGIN = "SELECT c.rowid, f.origin FROM calls AS c LEFT JOIN fetched_calls AS f ON f.row = c.rowid WHERE c.id = ?"
_CONNECTIONS = f"SELECT rowid, {','.join(CONNECTION_COLUMNS)} FROM connections WHERE rowid > ? ORDER BY rowid LIMIT ?"  # noqa: S608
_INSERT_CONNECTION = f"INSERT OR IGNORE INTO connections VALUES ({','.join('?' * len(CONNECTION_COLUMNS))})"  # noqa: S608
_COUNTED = "SELECT rowid, minute, source, reason, count FROM refusals LIMIT ?"
_ADD_REFUSALS = (
    "INSERT INTO refusals VALUES (?, ?, ?, ?) ON CONFLICT (minute, source, reason) DO UPDATE SET count = count + excluded.count"
)
_AGREE_ON_CALLS = "INSERT OR REPLACE INTO meta SELECT ?, coalesce(max(rowid), 0) FROM calls"
_AGREE_ON_ADJUSTMENTS = "INSERT OR REPLACE INTO meta SELECT ?, coalesce(max(number), 0) FROM adjustments"


class Gathering(Shipping):
    """The thread of one worker. Where the worker's database is the shared one, nothing has to be taken anywhere."""

    def __init__(self, ends: Ends, beyond: Shipping | None = None) -> None:
        """``beyond`` exchanges the records of the shared database with those of other hosts; one worker does that for all."""
        super().__init__(ends.database, _NoRecords(), ends.node, ends.unconfirmed, ends.on_replaced)
        self._shared, self._is_our_turn, self._beyond = ends.shared, ends.is_our_turn, beyond
        self._is_apart = ends.shared != ends.database

    @property
    def asked(self) -> Erasing | None:
        """Return this host's part in erasures."""
        return None if self._beyond is None else self._beyond.erasing

    def round(self) -> None:
        """Take all that is new to the shared database, and from there to other hosts."""
        super().round()
        if self._beyond is not None and self._is_our_turn():
            self._beyond.round()

    def ship(self) -> bool:
        """Take some of this worker's records to the shared database; return whether there are more."""
        if not self._is_apart:
            return False
        with connection(self._database, "rw") as own, connection(self._shared, "rw") as shared:
            after = read_meta(own, SHIPPED)
            rows = own.execute(_OWN, (after, RECORDS_PER_BATCH)).fetchall()
            self.lag = len(rows)
            if any([_keep(shared, [row[1:] for row in step]) for step in steps(rows)]):
                self._on_replaced()
            if rows:
                set_meta(own, SHIPPED, rows[-1][0])
            self.delivered += len(rows)
            self.lag = 0 if len(rows) < RECORDS_PER_BATCH else RECORDS_PER_BATCH
            self._gather_others(own, shared)
            self._forget_gathered(own)
        return len(rows) == RECORDS_PER_BATCH

    def fetch(self) -> bool:
        """Return False: the shared database has what other workers have recorded."""
        return False

    def fetch_unconfirmed(self) -> None:
        """Record the calls of workers that have disappeared."""
        records = list(self._unconfirmed())
        if records and self._is_our_turn():
            with connection(self._shared, "rw") as conn:
                for step in steps(records):
                    write_fetched(conn, step, UNCONFIRMED)

    def close_store(self) -> None:
        """Deliver what is left to other hosts, if that is this worker's part."""
        if self._beyond is not None and self._is_our_turn():
            self._beyond.close()

    def _gather_others(self, own: sqlite3.Connection, shared: sqlite3.Connection) -> None:
        """Take adjustments, connections and the counts of refusals along."""
        adjustments = read_adjustments(own, "number > ? ORDER BY number", (read_meta(own, GATHERED_ADJUSTMENT),))
        if adjustments:
            with transaction(shared):
                shared.executemany(INSERT_ADJUSTMENT, [row_of_adjustment(a) for a in adjustments])
                shared.execute(_AGREE_ON_ADJUSTMENTS, (AGREED_ADJUSTMENT,))
            (last,) = own.execute("SELECT max(number) FROM adjustments").fetchone()
            set_meta(own, GATHERED_ADJUSTMENT, last)
        connections = own.execute(_CONNECTIONS, (read_meta(own, GATHERED_CONNECTION), RECORDS_PER_BATCH)).fetchall()
        if connections:
            with transaction(shared):
                shared.executemany(_INSERT_CONNECTION, [row[1:] for row in connections])
            set_meta(own, GATHERED_CONNECTION, connections[-1][0])
        for row, *counted in own.execute(_COUNTED, (ROWS_PER_STEP,)).fetchall():
            # Taken out where it is counted on: a crash in between counts a few strangers twice or not at all, and nothing else.
            if own.execute("DELETE FROM refusals WHERE rowid = ? AND count = ? RETURNING 1", (row, counted[-1])).fetchall():
                shared.execute(_ADD_REFUSALS, counted)

    def _forget_gathered(self, own: sqlite3.Connection) -> None:
        """Delete rows that the shared database has and that a start after a crash does not need; the newest of each stay."""
        calls = min(read_meta(own, SHIPPED), read_meta(own, AGREED_CALL))
        for _ in range(STEPS_PER_ROUND):
            old = own.execute(_GATHERED, (calls, DELETED_AT_ONCE)).fetchall()
            if not old:
                break
            # So that no start takes their lines in the journal for calls that the database has missed.
            before = max(parse_iso(started_at) for _, started_at in old) + 1
            if before > read_meta(own, DELETED_BEFORE_MS):
                set_meta(own, DELETED_BEFORE_MS, before)
            own.execute("DELETE FROM calls WHERE rowid < ? AND rowid <= ?", (calls, old[-1][0]))
            if self._stop.wait(PAUSE_S):
                return
        adjusted = min(read_meta(own, GATHERED_ADJUSTMENT), read_meta(own, AGREED_ADJUSTMENT))
        for table, number, gathered in (
            ("adjustments", "number", adjusted),
            ("connections", "rowid", read_meta(own, GATHERED_CONNECTION)),
        ):
            told = f"FROM {table} WHERE {number} < ?"
            # Not even the lock is taken where there is nothing to delete: calls are written to the same file.
            if own.execute(f"SELECT 1 {told} LIMIT 1", (gathered,)).fetchone():
                own.execute(f"DELETE {told}", (gathered,))


class _NoRecords(Records):
    """Stands for the store's records, which workers of one host do not have: their shared database is all there is."""

    def __init__(self) -> None:
        super().__init__(_never)


def _never() -> Any:
    raise AssertionError("workers of one host exchange records by a file")


def _keep(conn: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> bool:
    """Write a worker's own rows in one transaction; return whether one has taken the place of what others had found."""
    replaced = False
    with transaction(conn):
        before = conn.total_changes
        conn.executemany(INSERT_CALL, rows)
        if conn.total_changes - before < len(rows):
            for row in rows:
                replaced |= _replace(conn, row)
        # The journal of the shared folder has no lines of them: a start of a gateway without workers does not miss any.
        conn.execute(_AGREE_ON_CALLS, (AGREED_CALL,))
    return replaced


def _replace(conn: sqlite3.Connection, row: tuple[Any, ...]) -> bool:
    """Write a row whose call others had recorded while its worker was away; return False where the row is there already."""
    number, origin = conn.execute(_ORIGIN, (row[_ID],)).fetchone()
    if origin != UNCONFIRMED:
        return False
    conn.execute("DELETE FROM calls WHERE rowid = ?", (number,))
    conn.execute(INSERT_CALL, row)
    return True
