"""Where money and records lie: one SQLite file, WAL, readable by anyone who may while the gateway runs.

``Store.flush`` writes everything that is pending in ONE transaction: counters, reservations opened and closed, and the
rows of the calls that closed them. That is why money and record can never differ.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
import sqlite_utils

from sluicegate.calls.estimate import UsageAverages
from sluicegate.calls.limit_checks import from_row, to_row
from sluicegate.calls.record import COLUMNS, Record
from sluicegate.limits.ledger import Claim, Counter, Ledger, Reservation

FILENAME = "sluicegate.db"


class StoreError(Exception):
    """The database cannot be used: unreadable, full, locked for good, or written by a newer version."""


class StoreBusy(StoreError):
    """Another process holds the write lock right now; trying again soon may succeed."""


class Store:
    """The gateway's own connection. Never waits for a lock: callers decide how long they can."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Record] = []
        self.refusals: dict[tuple[str, str, str], int] = {}
        self.connections: list[dict[str, Any]] = []
        self.learned: dict[str, UsageAverages] = {}
        self.dirty_models: set[str] = set()
        self._drafts: dict[str, Record] = {}
        try:
            self._conn = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
            path.chmod(0o600)
            self._conn.execute("PRAGMA journal_mode=WAL")
            self._conn.execute("PRAGMA synchronous=NORMAL")
            migrate(self._conn)
            # From here on a lock is somebody else's, and waiting for it inside a hook would stop every call.
            self._conn.execute("PRAGMA busy_timeout=0")
            # Housekeeping checkpoints in a thread; one inside a hook would cost a call milliseconds.
            self._conn.execute("PRAGMA wal_autocheckpoint=0")
        except sqlite3.Error as e:
            raise StoreError(f"{path}: {e}") from e

    def load(self, ledger: Ledger) -> None:
        """Fill the ledger with what is on file, calls that were in flight included."""
        for name, anchor, start, end, used, *before in self._conn.execute(
            "SELECT name, anchor, window_start, window_end, used, before_start, before_end, before_used FROM counters"
        ):
            found = ledger.counters[name] = Counter(name, anchor, start, end, used)
            found.before = (before[0], before[1], before[2]) if before[0] is not None else None
        for number, call_id, at, claims in self._conn.execute("SELECT number, call_id, at, claims FROM reservations"):
            ledger.restore(Reservation(call_id, at, number, [Claim(*claim) for claim in orjson.loads(claims)]))
        for model, *values in self._conn.execute("SELECT model, tokens_per_byte, output_tokens, samples FROM models"):
            self.learned[model] = UsageAverages(*values)

    def drafts(self) -> dict[str, Record]:
        """By call id, the record each open reservation would have if its call had ended when it was last written."""
        rows = self._conn.execute("SELECT call_id, draft FROM reservations")
        return {i: dict(zip(COLUMNS, orjson.loads(d), strict=False)) for i, d in rows}

    def draft(self, call_id: str, record: Record) -> None:
        """What to put on record for this call, should the process die before it ends."""
        self._drafts[call_id] = record

    def known(self, ids: Iterable[str]) -> set[str]:
        """Which of these calls are in the table ``calls``."""
        found: set[str] = set()
        batch = list(ids)
        for i in range(0, len(batch), 500):
            part = batch[i : i + 500]
            marks = ",".join("?" * len(part))
            found.update(r[0] for r in self._conn.execute(f"SELECT id FROM calls WHERE id IN ({marks})", part))  # noqa: S608
        return found

    def rows_since(self, rowid: int) -> list[Record]:
        """Rows of ``calls`` after a rowid, oldest first."""
        sql = f"SELECT {','.join(COLUMNS)} FROM calls WHERE rowid > ? ORDER BY rowid"  # noqa: S608
        return [from_row(row) for row in self._conn.execute(sql, (rowid,))]

    def mark(self, **marks: int) -> None:
        """Remember integers under names, such as up to where journal and table were last found to agree.

        In one statement, all or none. Raises StoreBusy or StoreError.
        """
        places = ", ".join(["(?, ?)"] * len(marks))
        values = [x for pair in marks.items() for x in pair]
        self._transaction(lambda: self._conn.execute(f"INSERT OR REPLACE INTO meta VALUES {places}", values), alone=True)  # noqa: S608

    def marked(self, name: str) -> int:
        """A remembered integer, 0 if there is none."""
        row = self._conn.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def last_rowid(self) -> int:
        """The newest row's rowid in ``calls``."""
        return int(self._conn.execute("SELECT coalesce(max(rowid), 0) FROM calls").fetchone()[0])

    def pending(self, ledger: Ledger) -> bool:
        """Whether there is anything to write."""
        return bool(
            ledger.dirty_open
            or ledger.dirty_counters
            or ledger.closed
            or self.rows
            or self.refusals
            or self.connections
            or self.dirty_models
        )

    def flush(self, ledger: Ledger) -> None:
        """Write all that is pending in one transaction. Raises StoreBusy or StoreError, and then nothing is lost."""
        self._transaction(lambda: self._write(ledger))
        for call_id in ledger.closed:
            self._drafts.pop(call_id, None)
        ledger.dirty_counters.clear()
        ledger.begun.clear()
        ledger.dirty_open.clear()
        ledger.closed.clear()
        self.rows.clear()
        self.refusals.clear()
        self.connections.clear()
        self.dirty_models.clear()

    def hold(self, ledger: Ledger) -> None:
        """Write the open reservations alone: all that must be on disk before a call leaves. Raises like ``flush``.

        What calls have settled waits for the next ``flush``, many in one transaction; the journal has it already.
        """
        if ledger.begun:
            # A reservation's window must be on file with it, and a counter's number only with the rows it counts.
            self.flush(ledger)
            return
        if ledger.dirty_open:
            # A single statement is a transaction by itself, and most calls come one at a time.
            self._transaction(lambda: self._write_open(ledger), alone=len(ledger.dirty_open) == 1)
            ledger.dirty_open.clear()

    def _transaction(self, write: Callable[[], object], alone: bool = False) -> None:
        run = self._conn
        try:
            if alone:
                write()
                return
            run.execute("BEGIN IMMEDIATE")
            try:
                write()
                run.execute("COMMIT")
            except BaseException:
                if run.in_transaction:
                    run.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as e:
            kind = StoreBusy if e.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) else StoreError
            raise kind(f"{self.path}: {e}") from e
        except sqlite3.Error as e:
            raise StoreError(f"{self.path}: {e}") from e

    def _write_open(self, ledger: Ledger) -> None:
        for call_id in ledger.dirty_open:
            held = ledger.open.get(call_id)
            if held is None:
                continue
            claims = [(c.counter, c.unit, c.start, c.amount) for c in held.claims]
            draft = self._drafts.get(call_id)
            # The values alone, in the order of COLUMNS: a short row is written in half the time of a long one.
            values = () if draft is None else tuple(draft.values())
            self._conn.execute(_HOLD, (held.number, call_id, held.at, orjson.dumps(claims).decode(), orjson.dumps(values).decode()))

    def _write(self, ledger: Ledger) -> None:
        run = self._conn
        counters = ledger.counters
        if ledger.dirty_counters:
            run.executemany(
                "INSERT OR REPLACE INTO counters VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (c.name, c.anchor, c.start, c.end, c.used, *(c.before or (None, None, None)))
                    for c in (counters[name] for name in ledger.dirty_counters if name in counters)
                ],
            )
        if ledger.closed:
            run.executemany("DELETE FROM reservations WHERE number = ?", [(n,) for n in ledger.closed.values()])
        if ledger.dirty_open:
            self._write_open(ledger)
        if self.rows:
            run.executemany(_INSERT_CALL, [to_row(row) for row in self.rows])
        if self.refusals:
            run.executemany(
                "INSERT INTO refusals VALUES (?, ?, ?, ?) "
                "ON CONFLICT (minute, source, reason) DO UPDATE SET count = count + excluded.count",
                [(*key, count) for key, count in self.refusals.items()],
            )
        if self.connections:
            run.executemany(_INSERT_CONNECTION, [tuple(row.get(n) for n in CONNECTION_COLUMNS) for row in self.connections])
        if self.dirty_models:
            run.executemany(
                "INSERT OR REPLACE INTO models VALUES (?, ?, ?, ?)",
                [
                    (m, lesson.tokens_per_byte, lesson.output_tokens, lesson.samples)
                    for m, lesson in ((m, self.learned[m]) for m in self.dirty_models)
                ],
            )

    def close(self) -> None:
        """Close the connection, leaving a small WAL behind."""
        try:
            self._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass
        self._conn.close()


CONNECTION_COLUMNS: dict[str, type] = {
    "id": str,
    "started_at": str,
    "latency_ms": int,
    "virtual_key_id": str,
    "user_id": str,
    "source": str,
    "host": str,
    "port": int,
    "request_bytes": int,
    "response_bytes": int,
    "outcome": str,
    "reason": str,
}
"""A tunnelled or refused connection to a host that is not a provider's."""

_HOLD = "INSERT OR REPLACE INTO reservations VALUES (?, ?, ?, ?, ?)"
_INSERT_CALL = f"INSERT OR IGNORE INTO calls ({','.join(COLUMNS)}) VALUES ({','.join('?' * len(COLUMNS))})"  # noqa: S608
_INSERT_CONNECTION = f"INSERT OR IGNORE INTO connections VALUES ({','.join('?' * len(CONNECTION_COLUMNS))})"  # noqa: S608


def _first(db: sqlite_utils.Database) -> None:
    calls: Any = db["calls"]
    calls.create(COLUMNS, pk="id")
    calls.create_index(["started_at"])
    calls.create_index(["virtual_key_id", "started_at"])
    for name, columns, pk in (
        ("counters", {"name": str, "anchor": int, "window_start": int, "window_end": int, "used": int}, "name"),
        ("reservations", {"call_id": str, "at": int, "claims": str, "draft": str}, "call_id"),
        ("models", {"model": str, "tokens_per_byte": float, "output_tokens": float, "samples": int}, "model"),
        ("meta", {"name": str, "value": int}, "name"),
        ("refusals", {"minute": str, "source": str, "reason": str, "count": int}, ("minute", "source", "reason")),
        ("connections", CONNECTION_COLUMNS, "id"),
    ):
        table: Any = db[name]
        table.create(columns, pk=pk)


def _second(db: sqlite_utils.Database) -> None:
    counters: Any = db["counters"]
    for name in ("before_start", "before_end", "before_used"):
        counters.add_column(name, int)


def _numbered(db: sqlite_utils.Database) -> None:
    old: Any = db["reservations"]
    rows = [(r["call_id"], r["at"], r["claims"], orjson.loads(r["draft"])) for r in old.rows]
    old.drop()
    new: Any = db["reservations"]
    new.create({"number": int, "call_id": str, "at": int, "claims": str, "draft": str}, pk="number")
    for number, (call_id, at, claims, draft) in enumerate(rows, 1):
        db.conn.execute(_HOLD, (number, call_id, at, claims, orjson.dumps([draft.get(c) for c in COLUMNS]).decode()))


def _alerts(db: sqlite_utils.Database) -> None:
    alerts: Any = db["alerts"]
    alerts.create(
        {"alert_id": str, "webhook": str, "at": int, "resets_at": int, "body": str, "status": str, "attempts": int, "sent_at": int},
        pk=("alert_id", "webhook"),
    )
    passed: Any = db["alerts_passed"]
    passed.create({"counter": str, "window_start": int, "threshold": int}, pk=("counter", "window_start"))


def _trail(db: sqlite_utils.Database) -> None:
    texts = ("at", "who", "action", "entity_kind", "entity_id", "before", "after", "revision_before", "revision_after")
    trail: Any = db["admin_audit"]
    trail.create({"id": int} | dict.fromkeys(texts, str), pk="id")
    for what in ("UPDATE", "DELETE"):
        db.execute(
            f"CREATE TRIGGER admin_audit_no_{what.lower()} BEFORE {what} ON admin_audit "
            "BEGIN SELECT raise(ABORT, 'the trail of administration is append-only'); END"
        )


def _revisions(db: sqlite_utils.Database) -> None:
    texts = dict.fromkeys(("revision", "at", "who", "action", "summary"), str)
    revisions: Any = db["policy_revisions"]
    revisions.create({"id": int} | texts | {"files": bytes}, pk="id")
    revisions.create_index(["revision"])


def _limits(db: sqlite_utils.Database) -> None:
    calls: Any = db["calls"]
    if "limits" not in calls.columns_dict:
        # The first step has made it, unless an older gateway took that.
        calls.add_column("limits", str)


MIGRATIONS: tuple[Callable[[sqlite_utils.Database], None], ...] = (
    _first,
    _second,
    _numbered,
    _alerts,
    _trail,
    _revisions,
    _limits,
)
"""Forward steps; the file's ``user_version`` counts how many it has taken."""


def migrate(conn: sqlite3.Connection) -> None:
    """Bring a database to this version, each step in one transaction. Raises StoreError for a newer file."""
    version = conn.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StoreError(f"the database is of version {version}, this gateway knows {len(MIGRATIONS)}: run the newer sluicegate")
    db = sqlite_utils.Database(conn)
    for step in MIGRATIONS[version:]:
        version += 1
        conn.execute("BEGIN IMMEDIATE")
        try:
            step(db)
            conn.execute(f"PRAGMA user_version = {version}")
            if conn.in_transaction:
                conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise
