"""The state of alerts that survives a restart: thresholds each window has reached, and messages not delivered yet.

It has a connection of its own, for one thread that is not the proxy's loop; its transactions are a few rows long.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluicegate.database import connect, connection
from sluicegate.windows import iso

MAX_KEPT_MESSAGES = 1_000
"""Messages that are kept; older ones are deleted once they are no longer pending."""


@dataclass(slots=True)
class Message:
    """One alert for one webhook. ``fields`` is the alert as JSON fields; times are epoch milliseconds."""

    alert_id: str
    webhook: str
    at: int
    resets_at: int | None
    fields: dict[str, Any]
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class ReachedThreshold:
    """The highest threshold that a counter has reached in one window."""

    counter: str
    window_start: int
    threshold: int


class Outbox:
    """The tables ``alerts`` and ``alerts_passed``. A method that raises sqlite3.Error has changed nothing."""

    def __init__(self, path: Path) -> None:
        self._conn = connect(path, "rw", busy_timeout_ms=1_000)
        self._conn.execute("PRAGMA synchronous=NORMAL")
        self._conn.execute("PRAGMA wal_autocheckpoint=0")

    def reached_thresholds(self) -> list[ReachedThreshold]:
        """Return what each window has reached so far."""
        return [ReachedThreshold(*row) for row in self._conn.execute("SELECT counter, window_start, threshold FROM alerts_passed")]

    def pending(self) -> list[Message]:
        """Return messages that are not delivered yet, oldest first."""
        rows = self._conn.execute(
            "SELECT alert_id, webhook, at, resets_at, body, attempts FROM alerts WHERE status = 'pending' ORDER BY at, rowid"
        )
        return [Message(i, hook, at, end, json.loads(body), attempts) for i, hook, at, end, body, attempts in rows]

    def status(self, alert_id: str, webhook: str) -> str | None:
        """Return what became of a message: ``pending``, ``sent`` or ``dropped``; None where it is not on file."""
        row = self._conn.execute("SELECT status FROM alerts WHERE alert_id = ? AND webhook = ?", (alert_id, webhook)).fetchone()
        return None if row is None else str(row[0])

    def save(self, reached: Iterable[ReachedThreshold], messages: Iterable[Message]) -> None:
        """Store thresholds and the messages about them in one transaction: neither without the other."""
        rows = [(r.counter, r.window_start, r.threshold) for r in reached]
        with self._conn:
            self._conn.execute("BEGIN IMMEDIATE")
            self._conn.executemany("INSERT OR REPLACE INTO alerts_passed VALUES (?, ?, ?)", rows)
            # Two windows per counter are enough: a clock that ran ahead and is corrected returns to the one before.
            self._conn.executemany(
                "DELETE FROM alerts_passed WHERE counter = ?1 AND window_start NOT IN "
                "(SELECT window_start FROM alerts_passed WHERE counter = ?1 ORDER BY window_start DESC LIMIT 2)",
                [(counter,) for counter, _, _ in rows],
            )
            self._conn.executemany(
                "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, 'pending', 0, NULL)",
                [(m.alert_id, m.webhook, m.at, m.resets_at, json.dumps(m.fields)) for m in messages],
            )
            self._conn.execute(
                "DELETE FROM alerts WHERE status != 'pending' AND rowid <= (SELECT max(rowid) FROM alerts) - ?",
                (MAX_KEPT_MESSAGES,),
            )

    def record_attempt(self, message: Message, status: str, now: int | None = None) -> None:
        """Record the state after an attempt: ``sent`` at ``now``, still ``pending``, or ``dropped``."""
        self._conn.execute(
            "UPDATE alerts SET status = ?, attempts = ?, sent_at = ? WHERE alert_id = ? AND webhook = ?",
            (status, message.attempts, now, message.alert_id, message.webhook),
        )

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()


def recent_alerts(path: Path, limit: int = 100) -> list[dict[str, Any]]:
    """Return the newest messages and their delivery status, newest first; works while a gateway runs and without one."""
    if not path.exists():
        return []
    with connection(path, "ro", busy_timeout_ms=2_000) as conn:
        rows = conn.execute("SELECT body, webhook, status, attempts, sent_at FROM alerts ORDER BY rowid DESC LIMIT ?", (limit,))
        return [
            json.loads(body)
            | {"webhook": webhook, "status": status, "attempts": attempts, "sent_at": iso(sent_at) if sent_at else None}
            for body, webhook, status, attempts, sent_at in rows
        ]
