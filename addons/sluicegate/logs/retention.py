"""Deleting old records from the database, in small steps that delay no call; what they add up to stays.

A step reads the sums of some old calls from the index of the logs, then adds these sums to ``past_calls`` and deletes the calls
in one transaction, so a crash leaves either both or neither. The index keeps the sums that it has and loses the entries; made
anew it begins with ``past_calls``. Budgets are not affected: what a counter has used does not come from the records.

A start after a crash charges each line of the journal after the agreed place that has no row. So only rows from before that
place are deleted. The newest call stays, because SQLite would give its number to the next one. Adjustments stay: they say who
corrected what, and by how much.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable

from sluicegate.database import connection, transaction
from sluicegate.logs.index import FACET, LATENCY_BIN, MEASURES
from sluicegate.logs.index_file import Index
from sluicegate.storage.store import AGREED_CALL, DELETED_BEFORE_MS, OWN_CALLS, SHIPPED
from sluicegate.values import Outcome
from sluicegate.windows import DAY_MS, iso

logger = logging.getLogger("sluicegate")

ROWS_PER_STEP, MAX_STEPS = 40, 50
"""Rows deleted in one transaction, which takes about a millisecond, and transactions in one run."""

PAUSE_S = 0.02
"""Pause between two transactions, in which calls can write."""

# The facet is joined, so it need not be looked up among all that are completed.
_MEASURES = MEASURES | {"completed": f"f.outcome = '{Outcome.COMPLETED}'"}
_NAMES = ("day", *FACET, "latency_bin")

_SUMS = (
    f"SELECT at / {DAY_MS}, {', '.join(f'f.{name}' for name in FACET)}, {LATENCY_BIN}, "
    f"{', '.join(f'sum({m})' for m in _MEASURES.values())} FROM entries JOIN facets AS f ON f.id = facet "
    f"WHERE row IN (%s) GROUP BY {', '.join(str(i + 1) for i in range(len(_NAMES)))}"
)
_ADD = (
    f"INSERT INTO past_calls ({', '.join((*_NAMES, *MEASURES))}) VALUES ({', '.join('?' * (len(_NAMES) + len(MEASURES)))}) "
    f"ON CONFLICT DO UPDATE SET {', '.join(f'{m} = {m} + excluded.{m}' for m in MEASURES)}"
)
_OLD_ENTRIES = "SELECT row FROM entries INDEXED BY by_at WHERE at < ? AND row > 0 ORDER BY at LIMIT ?"
_OLD_REFUSALS = "SELECT rowid FROM refusals WHERE minute < ? LIMIT ?"
# By the order in which they ended: that of their beginnings has no index. A long one is deleted a little later.
_OLD_CONNECTIONS = "SELECT rowid FROM (SELECT rowid, started_at FROM connections ORDER BY rowid LIMIT ?2) WHERE started_at < ?1"
# An adjustment that the index has not added yet needs its call.
_DELETABLE = (
    "SELECT rowid FROM calls WHERE rowid IN (%s) AND rowid <= ? AND rowid < (SELECT max(rowid) FROM calls) "
    "AND NOT EXISTS (SELECT 1 FROM adjustments AS a WHERE a.call_id = calls.id AND a.number > ?)"
)
_DELIVERED = f" AND (NOT {OWN_CALLS} OR rowid <= (SELECT coalesce(max(value), 0) FROM meta WHERE name = '{SHIPPED}'))"


class Retention:
    """Deletes what is old. ``lock`` is held for each step: whoever changes stored calls takes it too."""

    def __init__(self, index: Index, want_agreement: Callable[[], None], *, keeps_undelivered: bool = False) -> None:
        """Call ``want_agreement`` where old calls cannot be deleted until journal and table are noted to agree on them.

        ``keeps_undelivered``: this gateway's own calls stay until the store has them that several gateways share.
        """
        self._index, self._want_agreement = index, want_agreement
        self._deletable = _DELETABLE + (_DELIVERED if keeps_undelivered else "")
        self.lock = threading.Lock()

    def delete_before(self, before: int, pause: Callable[[float], bool]) -> None:
        """Delete what began before a time, epoch milliseconds; ``pause`` waits some seconds and returns whether to stop."""
        try:
            with connection(self._index.calls, "rw") as conn:
                # Deleted records are overwritten, not merely unlinked.
                conn.execute("PRAGMA secure_delete=ON")
                for step in (self._delete_calls, _delete_refusals, _delete_connections):
                    for _ in range(MAX_STEPS):
                        with self.lock:
                            is_done = step(conn, before)
                        if is_done:
                            break
                        if pause(PAUSE_S):
                            return
        except (sqlite3.Error, OSError) as e:
            logger.warning("Old records cannot be deleted: %s", e)

    def _delete_calls(self, conn: sqlite3.Connection, before: int) -> bool:
        """Delete some calls; return whether there are no more to delete now."""
        with self._index.held() as index:
            if index is None:
                return True
            found = index.execute(_OLD_ENTRIES, (before, ROWS_PER_STEP))
            rows = [row for (row,) in found]
            if not rows:
                return True
            marks = ", ".join("?" * len(rows))
            (adjusted,) = index.execute("SELECT adjustment FROM progress").fetchone()
            (agreed,) = conn.execute("SELECT coalesce(max(value), 0) FROM meta WHERE name = ?", (AGREED_CALL,)).fetchone()
            deletable = [row for (row,) in conn.execute(self._deletable % marks, (*rows, agreed, adjusted))]
            if deletable:
                _replace_by_sums(conn, index, deletable, before)
            left = {row for (row,) in conn.execute(f"SELECT rowid FROM calls WHERE rowid IN ({marks})", rows)}
            # In a transaction of its own: after a crash between the two the next step finds entries without a call.
            gone = [row for row in rows if row not in left]
            index.execute(f"DELETE FROM entries WHERE row IN ({', '.join('?' * len(gone))})", gone)
        if any(row > agreed for row in left):
            self._want_agreement()
        return len(rows) < ROWS_PER_STEP or len(left) == len(rows)


def _replace_by_sums(conn: sqlite3.Connection, index: sqlite3.Connection, calls: list[int], before: int) -> None:
    """Delete these calls and add up what they were, in one transaction."""
    marks = ", ".join("?" * len(calls))
    sums = index.execute(_SUMS % marks, calls).fetchall()
    with transaction(conn):
        conn.executemany(_ADD, sums)
        conn.executemany("DELETE FROM calls WHERE rowid = ?", [(row,) for row in calls])
        conn.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
            (DELETED_BEFORE_MS, before),
        )


def _delete_refusals(conn: sqlite3.Connection, before: int) -> bool:
    return _delete(conn, "refusals", _OLD_REFUSALS, iso(before)[:16] + "Z")


def _delete_connections(conn: sqlite3.Connection, before: int) -> bool:
    return _delete(conn, "connections", _OLD_CONNECTIONS, iso(before))


def _delete(conn: sqlite3.Connection, table: str, old: str, before: str) -> bool:
    """Delete some rows; return whether there are no more to delete."""
    rows = conn.execute(old, (before, ROWS_PER_STEP)).fetchall()
    if rows:
        numbers = [row for (row,) in rows]
        conn.execute(f"DELETE FROM {table} WHERE rowid IN ({', '.join('?' * len(rows))})", numbers)
    return len(rows) < ROWS_PER_STEP
