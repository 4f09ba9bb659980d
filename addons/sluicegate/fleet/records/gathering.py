"""Gathering records: a worker's thread that takes its own to the database that all workers of a host share.

Logs, statistics, exports and the dashboard of any worker are about that database. A worker's own has what it must know after a
crash: its counters, open calls, and the records that are not gathered yet; those that are and that the journal has are
deleted from it. As in ``shipping.py``, a crash at any moment repeats a few rows and leaves out none.
"""

from __future__ import annotations

import sqlite3

from sluicegate.calls.record import COLUMNS
from sluicegate.database import connection, transaction, uri_of
from sluicegate.fleet.erasure.carrying_out import Erasing
from sluicegate.fleet.records.fetched import ROWS_PER_STEP, UNCONFIRMED, steps, write_fetched
from sluicegate.fleet.records.rounds import RECORDS_PER_BATCH, Ends, Rounds
from sluicegate.fleet.records.shipping import Shipping
from sluicegate.storage.adjustment_rows import INSERT_ADJUSTMENT, read_adjustments, row_of_adjustment
from sluicegate.storage.migrations import CONNECTION_COLUMNS
from sluicegate.storage.store import AGREED_ADJUSTMENT, AGREED_CALL, DELETED_BEFORE_MS, SHIPPED, read_meta, set_meta
from sluicegate.windows import parse_iso

GATHERED_ADJUSTMENT, GATHERED_CONNECTION = "gathered_adjustment", "gathered_connection"
"""Names in ``meta`` of a worker's database: the last rows of these tables that the shared one has."""

DELETED_AT_ONCE, STEPS_PER_ROUND, PAUSE_S = 10, 25, 0.01
"""Gathered calls deleted in one statement, statements in one round, and the pause after each.

Calls are written to the same file, and are refused if they cannot be for 50 ms. So each write to it is one statement: a
transaction of several would hold the lock while this thread waits for the interpreter.
"""

_COLUMNS = ",".join(COLUMNS)
_NEXT = "SELECT max(rowid), count(*) FROM (SELECT rowid FROM own.calls WHERE rowid > ? ORDER BY rowid LIMIT ?)"
_STEP = "FROM own.calls WHERE rowid > ? AND rowid <= ?"
_COPY = f"INSERT OR IGNORE INTO calls ({_COLUMNS}) SELECT {_COLUMNS} {_STEP} ORDER BY rowid"
_DELETE_FOUND = f"DELETE FROM calls WHERE id IN (SELECT id {_STEP}) AND rowid IN (SELECT row FROM fetched_calls WHERE origin = ?)"  # noqa: S608
_GATHERED = "SELECT rowid, started_at FROM calls WHERE rowid < ? ORDER BY rowid LIMIT ?"
_CONNECTIONS = f"SELECT rowid, {','.join(CONNECTION_COLUMNS)} FROM connections WHERE rowid > ? ORDER BY rowid LIMIT ?"  # noqa: S608
_INSERT_CONNECTION = f"INSERT OR IGNORE INTO connections VALUES ({','.join('?' * len(CONNECTION_COLUMNS))})"  # noqa: S608
_COUNTED = "SELECT rowid, minute, source, reason, count FROM refusals LIMIT ?"
_ADD_REFUSALS = (
    "INSERT INTO refusals VALUES (?, ?, ?, ?) ON CONFLICT (minute, source, reason) DO UPDATE SET count = count + excluded.count"
)
_AGREE_ON_CALLS = "INSERT OR REPLACE INTO meta SELECT ?, coalesce(max(rowid), 0) FROM calls"
_AGREE_ON_ADJUSTMENTS = "INSERT OR REPLACE INTO meta SELECT ?, coalesce(max(number), 0) FROM adjustments"


class Gathering(Rounds):
    """The rounds of one worker. Where the worker's database is the shared one, nothing has to be taken anywhere."""

    def __init__(self, ends: Ends, beyond: Shipping | None = None) -> None:
        """``beyond`` exchanges the records of the shared database with those of other hosts; one worker does that for all."""
        super().__init__()
        self._ends, self._beyond = ends, beyond
        self._is_apart = ends.shared != ends.database

    @property
    def asked(self) -> Erasing | None:
        """Return this host's part in erasures."""
        return None if self._beyond is None else self._beyond.asked

    def round(self) -> None:
        """Take all that is new to the shared database, and from there to other hosts."""
        self._ship_all()
        self._note_unconfirmed()
        if self._beyond is not None and self._ends.is_our_turn():
            self._beyond.round()

    def ship(self) -> bool:
        """Take some of this worker's records to the shared database; return whether there are more."""
        if not self._is_apart:
            return False
        with connection(self._ends.database, "rw") as own, connection(self._ends.shared, "rw") as shared:
            count = self._ship_calls(own, shared)
            self.delivered += count
            self.lag = 0 if count < RECORDS_PER_BATCH else RECORDS_PER_BATCH
            self._gather_others(own, shared)
            self._forget_gathered(own)
        return count == RECORDS_PER_BATCH

    def _ship_calls(self, own: sqlite3.Connection, shared: sqlite3.Connection) -> int:
        """Copy some rows; return how many."""
        shared.execute("ATTACH ? AS own", (uri_of(self._ends.database, "ro"),))
        before = after = read_meta(own, SHIPPED)
        copied, is_replaced = 0, False
        while copied < RECORDS_PER_BATCH:
            last, count = shared.execute(_NEXT, (after, ROWS_PER_STEP)).fetchone()
            if count:
                is_replaced |= _copy(shared, after, last, count)
                after, copied = last, copied + count
            self.lag = copied
            if count < ROWS_PER_STEP:
                break
        if is_replaced:
            self._ends.on_replaced()
        if after != before:
            set_meta(own, SHIPPED, after)
        return copied

    def finish(self) -> None:
        """Do nothing: ``close_store`` delivers what goes to other hosts."""

    def close_store(self) -> None:
        """Deliver what is left to other hosts, if that is this worker's part."""
        if self._beyond is not None and self._ends.is_our_turn():
            self._beyond.close()

    def _note_unconfirmed(self) -> None:
        """Record the calls of workers that have disappeared."""
        records = list(self._ends.unconfirmed())
        if records and self._ends.is_our_turn():
            with connection(self._ends.shared, "rw") as conn:
                for step in steps(records):
                    write_fetched(conn, step, UNCONFIRMED)

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
            condition = f"FROM {table} WHERE {number} < ?"
            # Not even the lock is taken where there is nothing to delete: calls are written to the same file.
            if own.execute(f"SELECT 1 {condition} LIMIT 1", (gathered,)).fetchone():
                own.execute(f"DELETE {condition}", (gathered,))


def _copy(shared: sqlite3.Connection, after: int, last: int, count: int) -> bool:
    """Copy a worker's own rows in one transaction; return whether one has taken the place of what others had found.

    They are copied in one statement: after each one this thread may have to wait for the interpreter, and other workers for it.
    """
    is_replaced = False
    with transaction(shared):
        if shared.execute(_COPY, (after, last)).rowcount < count:
            # A crash repeats some; or others had recorded a call while its worker was away.
            is_replaced = shared.execute(_DELETE_FOUND, (after, last, UNCONFIRMED)).rowcount > 0
            shared.execute(_COPY, (after, last))
        # The journal of the shared folder has no lines of them: a start of a gateway without workers does not miss any.
        shared.execute(_AGREE_ON_CALLS, (AGREED_CALL,))
    return is_replaced
