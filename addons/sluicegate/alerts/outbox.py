"""What alerts must survive a restart: which thresholds each window has passed, and which messages are not delivered yet.

A connection of its own, for one thread that is not the proxy's loop; its transactions are a few rows long.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluicegate.database import connect, connection
from sluicegate.windows import iso

KEEP = 1_000
"""How many messages are remembered."""


@dataclass(slots=True)
class Message:
    """One alert for one webhook. ``fields`` is the alert as JSON has it; times are epoch milliseconds."""

    alert_id: str
    webhook: str
    at: int
    resets_at: int | None
    fields: dict[str, Any]
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Passed:
    """The highest threshold that a counter's window has passed."""

    counter: str
    window_start: int
    threshold: int


class Outbox:
    """The tables ``alerts`` and ``alerts_passed``. Every method may raise sqlite3.Error, and has then changed nothing."""

    def __init__(self, path: Path) -> None:
        self._conn = connect(path, "rw", busy_timeout_ms=1_000)
        self._conn.execute("PRAGMA synchronous=NORMAL")
        self._conn.execute("PRAGMA wal_autocheckpoint=0")

    def passed(self) -> list[Passed]:
        """What windows have passed so far."""
        return [Passed(*row) for row in self._conn.execute("SELECT counter, window_start, threshold FROM alerts_passed")]

    def pending(self) -> list[Message]:
        """Messages that are not delivered, oldest first."""
        rows = self._conn.execute(
            "SELECT alert_id, webhook, at, resets_at, body, attempts FROM alerts WHERE status = 'pending' ORDER BY at, rowid"
        )
        return [Message(i, hook, at, end, json.loads(body), attempts) for i, hook, at, end, body, attempts in rows]

    def put(self, passed: Iterable[Passed], messages: Iterable[Message]) -> None:
        """Remember what was passed together with what is to be said about it: neither without the other."""
        marks = [(p.counter, p.window_start, p.threshold) for p in passed]
        with self._conn:
            self._conn.execute("BEGIN IMMEDIATE")
            self._conn.executemany("INSERT OR REPLACE INTO alerts_passed VALUES (?, ?, ?)", marks)
            # Two windows per counter are enough: a clock that is set right may come back to the last one.
            self._conn.executemany(
                "DELETE FROM alerts_passed WHERE counter = ?1 AND window_start NOT IN "
                "(SELECT window_start FROM alerts_passed WHERE counter = ?1 ORDER BY window_start DESC LIMIT 2)",
                [(counter,) for counter, _, _ in marks],
            )
            self._conn.executemany(
                "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, 'pending', 0, NULL)",
                [(m.alert_id, m.webhook, m.at, m.resets_at, json.dumps(m.fields)) for m in messages],
            )
            self._conn.execute(
                "DELETE FROM alerts WHERE status != 'pending' AND rowid <= (SELECT max(rowid) FROM alerts) - ?", (KEEP,)
            )

    def attempted(self, message: Message, status: str, now: int | None = None) -> None:
        """Note an attempt: ``sent`` at ``now``, ``pending`` still, or ``dropped``."""
        self._conn.execute(
            "UPDATE alerts SET status = ?, attempts = ?, sent_at = ? WHERE alert_id = ? AND webhook = ?",
            (status, message.attempts, now, message.alert_id, message.webhook),
        )

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()


def recent(path: Path, most: int = 100) -> list[dict[str, Any]]:
    """The newest messages with what became of them, newest first; read by anyone, while a gateway runs or not."""
    if not path.exists():
        return []
    with connection(path, "ro", busy_timeout_ms=2_000) as conn:
        rows = conn.execute("SELECT body, webhook, status, attempts, sent_at FROM alerts ORDER BY rowid DESC LIMIT ?", (most,))
        return [
            json.loads(body)
            | {"webhook": webhook, "status": status, "attempts": attempts, "sent_at": iso(sent_at) if sent_at else None}
            for body, webhook, status, attempts, sent_at in rows
        ]
