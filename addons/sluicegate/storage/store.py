"""Where money and records are kept: one SQLite file in WAL mode, readable by others while the gateway runs.

``Store.write`` writes what it is given in ONE transaction: counters, reservations opened and closed, and the records of
the calls that closed them. That is why money and records can never differ.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from sluicegate.calls.adjustment import Adjustment
from sluicegate.calls.learning import Learned, LearnedKey, Ratio
from sluicegate.calls.limit_checks import from_row, to_row, to_text
from sluicegate.calls.record import COLUMNS, Record
from sluicegate.database import connect, connection, keep_log, transaction
from sluicegate.limits.changes import Changes, CounterRow, ReservationRow
from sluicegate.limits.claims import Claim, Reservation
from sluicegate.limits.corrections import WaitingCorrection
from sluicegate.limits.counter import Counter
from sluicegate.limits.ledger import Ledger
from sluicegate.storage.adjustment_rows import INSERT_ADJUSTMENT, read_adjustments, row_of_adjustment
from sluicegate.storage.errors import StoreBusy, StoreError
from sluicegate.storage.migrations import CONNECTION_COLUMNS, LEARNED_COLUMNS, migrate

FILENAME = "sluicegate.db"

AGREED_CALL, AGREED_ADJUSTMENT = "calls_rowid", "adjustments_number"
"""Names in ``meta``: the newest rows at the place in the journal up to where journal and tables were last found to agree."""

DELETED_BEFORE_MS = "calls_deleted_before"
"""Name in ``meta``: calls that began before this time, epoch milliseconds, may have been deleted for their age."""

OWN_CALLS = "rowid NOT IN (SELECT row FROM fetched_calls)"
"""The condition on rows of ``calls`` that are of this gateway's calls, and not fetched from others that share its limits."""

SHIPPED = "shipped_calls_rowid"
"""Name in ``meta``: the last row of this gateway's own calls that the store has which several gateways share."""

IDS_PER_QUERY = 500
"""SQLite binds a limited number of values in one statement."""


@dataclass(slots=True)
class Rows:
    """What goes into the database besides the ledger's changes."""

    calls: list[Record] = field(default_factory=list)
    refusals: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """How many requests without a known key were refused, by minute, source address and reason."""
    connections: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the table ``connections``."""
    adjustments: list[Adjustment] = field(default_factory=list)
    learned: dict[LearnedKey, Learned | None] = field(default_factory=dict)
    """What finished answers have taught, by virtual key and model; None for what is to be forgotten."""

    def __bool__(self) -> bool:
        """Return whether there is anything to write."""
        return bool(self.calls or self.refusals or self.connections or self.adjustments or self.learned)

    def extend(self, newer: Rows) -> None:
        """Add rows that came later."""
        self.calls += newer.calls
        for key, count in newer.refusals.items():
            self.refusals[key] = self.refusals.get(key, 0) + count
        self.connections += newer.connections
        self.adjustments += newer.adjustments
        self.learned |= newer.learned


NO_ROWS = Rows()


class Store:
    """The gateway's own connection. It never waits for a lock: callers decide how long to retry."""

    def __init__(self, path: Path) -> None:
        """Open or create the database and bring it to this version. Raises StoreError."""
        self.path = path
        try:
            self._conn = connect(path, "rwc")
            path.chmod(0o600)
            keep_log(self._conn)
            self._conn.execute("PRAGMA synchronous=NORMAL")
            migrate(self._conn)
            # What is deleted is overwritten where that costs no further write, such as the drafts of calls that have ended.
            self._conn.execute("PRAGMA secure_delete=FAST")
            # From here on only another process can hold a lock, and waiting for it inside a hook would stop every call.
            self._conn.execute("PRAGMA busy_timeout=0")
            # Housekeeping checkpoints in a thread; one inside a hook would cost a call milliseconds.
            self._conn.execute("PRAGMA wal_autocheckpoint=0")
        except sqlite3.Error as e:
            raise StoreError(f"{path}: {e}") from e

    def load(self, ledger: Ledger) -> None:
        """Fill the ledger with what is on file, calls that were in flight included."""
        load_ledger(self._conn, ledger)

    def learned(self) -> dict[LearnedKey, Learned]:
        """Return what finished answers have taught, by virtual key and model, least recently learned first."""
        # A row that is replaced gets a new rowid, so their order is the order of learning.
        rows = self._conn.execute(f"SELECT {', '.join(LEARNED_COLUMNS)} FROM learned ORDER BY rowid")  # noqa: S608
        return {(key, model): _learned_of(outputs, numbers) for key, model, outputs, *numbers in rows}

    def drafts(self) -> dict[str, Record]:
        """Return by call id the record each open reservation would get if its call had ended when it was last written."""
        rows = self._conn.execute("SELECT call_id, draft FROM reservations")
        return {i: dict(zip(COLUMNS, orjson.loads(d), strict=False)) for i, d in rows}

    def known(self, ids: Iterable[str], table: str = "calls") -> set[str]:
        """Return which of these ids are in the table ``calls``, or ``adjustments``."""
        found: set[str] = set()
        batch = list(ids)
        for i in range(0, len(batch), IDS_PER_QUERY):
            part = batch[i : i + IDS_PER_QUERY]
            marks = ",".join("?" * len(part))
            found.update(r[0] for r in self._conn.execute(f"SELECT id FROM {table} WHERE id IN ({marks})", part))  # noqa: S608
        return found

    def rows_since(self, rowid: int) -> list[Record]:
        """Return this gateway's own records in ``calls`` after a rowid, oldest first."""
        sql = f"SELECT {','.join(COLUMNS)} FROM calls WHERE rowid > ? AND {OWN_CALLS} ORDER BY rowid"  # noqa: S608
        return [from_row(row) for row in self._conn.execute(sql, (rowid,))]

    def adjustments_since(self, number: int) -> list[Adjustment]:
        """Return this gateway's own adjustments after a number, oldest first."""
        return read_adjustments(self._conn, "number > ? AND node IS NULL ORDER BY number", (number,))

    def waiting_corrections(self) -> list[WaitingCorrection]:
        """Return the corrections that the store may lack which several gateways share, in the order in which they were made."""
        return [WaitingCorrection(*row) for row in self._conn.execute("SELECT * FROM corrections ORDER BY rowid")]

    def last_rowid(self, table: str = "calls") -> int:
        """Return the newest row's rowid in ``calls``, or ``adjustments``."""
        return int(self._conn.execute(f"SELECT coalesce(max(rowid), 0) FROM {table}").fetchone()[0])  # noqa: S608

    def write_meta(self, **values: int) -> None:
        """Remember integers by name, such as up to where journal and table were last found to agree.

        In one statement, all or none. Raises StoreBusy or StoreError.
        """
        marks = ", ".join(["(?, ?)"] * len(values))
        pairs = [x for pair in values.items() for x in pair]
        self._run(lambda: self._conn.execute(f"INSERT OR REPLACE INTO meta VALUES {marks}", pairs))  # noqa: S608

    def read_meta(self, name: str) -> int:
        """Return a remembered integer, 0 if there is none."""
        return read_meta(self._conn, name)

    def write(self, changes: Changes, rows: Rows = NO_ROWS) -> None:
        """Write all of it, or nothing and raise StoreBusy or StoreError."""
        if len(changes.reservations) == 1 and changes.has_reservations_alone and not rows:
            # A single statement is a transaction by itself, and most calls come one at a time.
            self._run(lambda: self._write_reservations(changes.reservations))
        else:
            self._run(lambda: self._write_in_transaction(changes, rows))

    def _run(self, write: Callable[[], object]) -> None:
        """Write, converting SQLite's errors to StoreBusy or StoreError."""
        try:
            write()
        except sqlite3.OperationalError as e:
            kind = StoreBusy if e.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) else StoreError
            raise kind(f"{self.path}: {e}") from e
        except sqlite3.Error as e:
            raise StoreError(f"{self.path}: {e}") from e

    def _write_in_transaction(self, changes: Changes, rows: Rows) -> None:
        with transaction(self._conn):
            self._write_changes(changes)
            self._write_rows(rows)

    def _write_changes(self, changes: Changes) -> None:
        if changes.counters:
            write_counters(self._conn, changes.counters)
        if changes.closed:
            self._conn.executemany("DELETE FROM reservations WHERE number = ?", [(n,) for n in changes.closed])
        if changes.corrections:
            self._conn.executemany("INSERT OR IGNORE INTO corrections VALUES (?, ?, ?, ?, ?)", changes.corrections)
        if changes.confirmed:
            self._conn.executemany("DELETE FROM corrections WHERE id = ?", [(i,) for i in changes.confirmed])
        self._write_reservations(changes.reservations)

    def _write_reservations(self, reservations: Iterable[ReservationRow]) -> None:
        for number, call_id, at, claims, draft in reservations:
            # The values alone, in the order of COLUMNS: a short row is written in half the time of a long one.
            values = () if draft is None else tuple(draft.values())
            row = (number, call_id, at, orjson.dumps(claims).decode(), orjson.dumps(values).decode())
            self._conn.execute("INSERT OR REPLACE INTO reservations VALUES (?, ?, ?, ?, ?)", row)

    def _write_rows(self, rows: Rows) -> None:
        run = self._conn.executemany
        if rows.calls:
            insert_calls(self._conn, rows.calls)
        if rows.refusals:
            run(_ADD_REFUSALS, [(*key, count) for key, count in rows.refusals.items()])
        if rows.connections:
            run(_INSERT_CONNECTION, [tuple(row.get(n) for n in CONNECTION_COLUMNS) for row in rows.connections])
        if rows.adjustments:
            run(INSERT_ADJUSTMENT, [row_of_adjustment(a) for a in rows.adjustments])
        if rows.learned:
            run(_FORGET_LEARNED, [key for key, learned in rows.learned.items() if learned is None])
            run(_INSERT_LEARNED, [_learned_row(key, learned) for key, learned in rows.learned.items() if learned is not None])

    def close(self) -> None:
        """Close the connection, leaving a small WAL behind."""
        try:
            self._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass
        self._conn.close()


def set_meta(conn: sqlite3.Connection, name: str, value: int) -> None:
    """Note a number beside the rows that it speaks of. Raises sqlite3.Error."""
    conn.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


INSERT_CALL = f"INSERT OR IGNORE INTO calls ({','.join(COLUMNS)}) VALUES ({','.join('?' * len(COLUMNS))})"  # noqa: S608

SELDOM = (
    *("reason", "project_id", "route", "attempts", "asked_model", "shadow_usd", "shadow_nano", "message", "labels"),
    *("project_source", "claimed_project", "cache", "saved_usd", "saved_nano", "node"),
)
"""Columns that have nothing in the rows of most calls. A None takes longer to hand to SQLite than a value, so they are left out."""

_USUAL = tuple(name for name in COLUMNS if name not in (*SELDOM, "limits"))
_INSERT_USUAL = f"INSERT OR IGNORE INTO calls ({','.join(_USUAL)},limits) VALUES ({'?,' * len(_USUAL)}?)"  # noqa: S608
_seldom_of, _usual_of = itemgetter(*SELDOM), itemgetter(*_USUAL)
_NOTHING = (None,) * len(SELDOM)


def insert_calls(conn: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Add records to the table ``calls``, in their order. Raises sqlite3.Error."""
    for is_usual, some in groupby(map(_row_of, records), lambda row: row[0]):
        conn.executemany(_INSERT_USUAL if is_usual else INSERT_CALL, [row for _, row in some])


def _row_of(record: Record) -> tuple[bool, Sequence[Any]]:
    """Return whether a record has nothing in the columns that few have, and its row, then without them."""
    try:
        if _seldom_of(record) == _NOTHING:
            return True, (*_usual_of(record), to_text(record["limits"]))
    except KeyError:
        # One that an older version has written.
        pass
    return False, to_row(record)


_SAME_WINDOW = "UPDATE counters SET used = ?5 WHERE name = ?1 AND anchor = ?2 AND window_start = ?3 AND window_end IS ?4"
_ONLY_USED = {
    False: f"{_SAME_WINDOW} AND before_start IS NULL",
    True: f"{_SAME_WINDOW} AND before_start = ?6 AND before_end = ?7 AND before_used = ?8",
}
"""By whether a counter has had a window before."""
_REPLACE_COUNTER = "INSERT OR REPLACE INTO counters VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


def write_counters(conn: sqlite3.Connection, rows: Sequence[CounterRow]) -> None:
    """Write counters as they are now. Raises sqlite3.Error."""
    first, later = [row[:5] for row in rows if row[5] is None], [row for row in rows if row[5] is not None]
    # Of most nothing is new but what is used: to say that takes three quarters of the time of a row that is replaced.
    known = conn.executemany(_ONLY_USED[False], first).rowcount if first else 0
    known += conn.executemany(_ONLY_USED[True], later).rowcount if later else 0
    if known != len(rows):
        conn.executemany(_REPLACE_COUNTER, rows)


_INSERT_CONNECTION = f"INSERT OR IGNORE INTO connections VALUES ({','.join('?' * len(CONNECTION_COLUMNS))})"  # noqa: S608
_ADD_REFUSALS = (
    "INSERT INTO refusals VALUES (?, ?, ?, ?) ON CONFLICT (minute, source, reason) DO UPDATE SET count = count + excluded.count"
)


_INSERT_LEARNED = f"INSERT OR REPLACE INTO learned ({','.join(LEARNED_COLUMNS)}) VALUES ({','.join('?' * len(LEARNED_COLUMNS))})"  # noqa: S608
_FORGET_LEARNED = "DELETE FROM learned WHERE virtual_key_id = ? AND model = ?"


def _learned_row(key: LearnedKey, learned: Learned) -> tuple[object, ...]:
    prompt, delivered, speed = learned.tokens_per_byte, learned.characters_per_token, learned.tokens_per_ms
    return (
        *(*key, orjson.dumps(learned.outputs.tolist()).decode()),
        *(prompt.part, prompt.whole, prompt.samples),
        *(delivered.part, delivered.whole, delivered.samples),
        *(speed.part, speed.whole, speed.samples),
    )


def _learned_of(outputs: str, numbers: list[float]) -> Learned:
    prompt, delivered, speed = (Ratio(numbers[i], numbers[i + 1], int(numbers[i + 2])) for i in (0, 3, 6))
    return Learned(array("I", orjson.loads(outputs)), prompt, delivered, speed)


def read_meta(conn: sqlite3.Connection, name: str) -> int:
    """Return a remembered integer, 0 if there is none. Raises sqlite3.Error."""
    row = conn.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0


def load_ledger(conn: sqlite3.Connection, ledger: Ledger) -> None:
    """Fill a ledger with what a database holds. Raises sqlite3.Error."""
    for name, anchor, start, end, used, *previous in conn.execute(
        "SELECT name, anchor, window_start, window_end, used, before_start, before_end, before_used FROM counters"
    ):
        found = ledger.counters[name] = Counter(name, anchor, start, end, used)
        found.previous = (previous[0], previous[1], previous[2]) if previous[0] is not None else None
    for number, call_id, at, claims in conn.execute("SELECT number, call_id, at, claims FROM reservations"):
        ledger.restore(Reservation(call_id, at, number, [Claim(*claim) for claim in orjson.loads(claims)]))


def read_ledger(path: Path) -> Ledger:
    """Return the ledger in a database file, whether a gateway runs or not; an empty one where there is no file yet.

    Raises sqlite3.Error.
    """
    ledger = Ledger()
    if path.exists():
        with connection(path, "ro", busy_timeout_ms=2_000) as conn:
            load_ledger(conn, ledger)
    return ledger
