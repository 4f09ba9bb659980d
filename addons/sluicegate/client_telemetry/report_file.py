"""What clients have reported by session, and what our records say of it: a SQLite file of its own that all workers share."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sluicegate.client_telemetry.reports import FIGURES, NONE, Figures, Report, plus
from sluicegate.database import open_private

FILENAME = "client_telemetry.db"

MAX_ROWS, MAX_SERIES, MAX_BODIES = 50_000, 20_000, 2_000
"""Rows of sessions, of cumulative series and of digests of bodies that are kept; the oldest are deleted first."""

MAX_SERIES_PER_SESSION = 200
"""Cumulative series of one session: Claude Code has four for each model and each place that asks it."""

MAX_FIGURE = 1 << 60
"""The upper limit of every sum, so that it fits into the file whatever clients say."""

_TRIMMED_EVERY = 200

_KEY = "virtual_key_id, session_id, model, source"
_FIGURES = ", ".join(f"{name} INTEGER, own_{name} INTEGER" for name in FIGURES)
_TABLES = f"""
CREATE TABLE IF NOT EXISTS sessions (
    virtual_key_id TEXT, session_id TEXT, model TEXT, source TEXT, first_at INTEGER, last_at INTEGER, {_FIGURES},
    PRIMARY KEY ({_KEY})) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_at ON sessions (last_at);
CREATE TABLE IF NOT EXISTS series (
    virtual_key_id TEXT, session_id TEXT, series BLOB, began INTEGER, at INTEGER, {", ".join(f"{n} INTEGER" for n in FIGURES)},
    PRIMARY KEY (virtual_key_id, session_id, series)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS series_at ON series (at);
CREATE TABLE IF NOT EXISTS bodies (digest BLOB PRIMARY KEY, at INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS bodies_at ON bodies (at);
"""

_PUT = (
    f"INSERT INTO sessions ({_KEY}, first_at, last_at, {', '.join(FIGURES)}, {', '.join(f'own_{n}' for n in FIGURES)}) "
    f"VALUES ({', '.join('?' * (6 + 2 * len(FIGURES)))}) ON CONFLICT ({_KEY}) DO UPDATE SET last_at = excluded.last_at, "
    + ", ".join(f"{n} = excluded.{n}" for name in FIGURES for n in (name, f"own_{name}"))
)

_SELECTED = f"{', '.join(FIGURES)}, {', '.join(f'own_{n}' for n in FIGURES)}"

Own = Mapping[str, Figures]
"""What our records say of a session, by the model in the client's words."""


class Compared(NamedTuple):
    """What one report has added, for a model and a source: by the client's word, and by our records."""

    model: str
    source: str
    by_client: Figures
    by_gateway: Figures


class ReportFile:
    """The file, made when something is first kept. Its methods read and write the disk: call them in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._conn: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._added = 0

    def add(self, key_id: str, session_id: str, reports: Iterable[Report], own: Own, now: int) -> list[Compared]:
        """Add what a client reports of a session, whose figures by our records are ``own``; return what has changed.

        Only models that are in ``own`` count. Raises sqlite3.Error, OSError.
        """
        with self._lock:
            conn = self._open()
            with conn:
                conn.execute("BEGIN IMMEDIATE")
                added: dict[tuple[str, str], Figures] = {}
                for report in reports:
                    figures = report.figures if report.series is None else _increase(conn, key_id, report, now)
                    name = (report.model, report.source)
                    added[name] = plus(added.get(name, NONE), figures)
                found = [
                    _put(conn, (key_id, session_id, *name), figures, own[name[0]], now)
                    for name, figures in added.items()
                    if name[0] in own
                ]
            return found

    def is_new(self, digest: bytes, now: int) -> bool:
        """Return whether a body with this digest comes for the first time, and remember it: exporters send again what failed."""
        with self._lock:
            conn = self._open()
            self._added += 1
            if self._added % _TRIMMED_EVERY == 1:
                _trim(conn)
            return conn.execute("INSERT OR IGNORE INTO bodies VALUES (?, ?)", (digest, now)).rowcount == 1

    def sessions(self, wanted: Mapping[str, str], limit: int) -> list[dict[str, Any]]:
        """Return sessions by model and source, the latest first; ``wanted`` are values of the columns of their key."""
        with self._lock:
            if self._conn is None and not self.path.exists():
                return []
            where = " AND ".join(f"{name} = ?" for name in wanted) or "true"
            columns = f"{_KEY}, first_at, last_at, {_SELECTED}"
            order = "ORDER BY last_at DESC, virtual_key_id, session_id, model, source LIMIT ?"
            rows = self._open().execute(f"SELECT {columns} FROM sessions WHERE {where} {order}", (*wanted.values(), limit))
            return [dict(zip(columns.split(", "), row, strict=True)) for row in rows]

    def delete_before(self, at: int) -> None:
        """Delete sessions that were last heard of before a time, epoch milliseconds. Raises sqlite3.Error, OSError."""
        self._delete("last_at < ?", "at < ?", (at,))

    def erase(self, key_ids: Iterable[str]) -> None:
        """Delete what the holders of some keys have reported. Raises sqlite3.Error, OSError."""
        for key_id in key_ids:
            self._delete("virtual_key_id = ?", "virtual_key_id = ?", (key_id,))

    def _delete(self, sessions: str, series: str, values: tuple[object, ...]) -> None:
        with self._lock:
            if self._conn is None and not self.path.exists():
                return
            conn = self._open()
            with conn:
                conn.execute("BEGIN IMMEDIATE")
                conn.execute(f"DELETE FROM sessions WHERE {sessions}", values)
                conn.execute(f"DELETE FROM series WHERE {series}", values)
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._conn is not None:
                self._conn.close()
                self._conn = None

    def _open(self) -> sqlite3.Connection:
        if self._conn is None:
            self._conn = open_private(self.path, _TABLES)
        return self._conn


def _increase(conn: sqlite3.Connection, key_id: str, report: Report, now: int) -> Figures:
    """Return what a cumulative series has grown by since its last point; all of it for one that has begun anew."""
    name = (key_id, report.session_id, report.series)
    same = "virtual_key_id = ? AND session_id = ? AND series = ?"
    row = conn.execute(f"SELECT began, {', '.join(FIGURES)} FROM series WHERE {same}", name).fetchone()
    if row is None:
        (count,) = conn.execute("SELECT count(*) FROM series WHERE virtual_key_id = ? AND session_id = ?", name[:2]).fetchone()
        if count >= MAX_SERIES_PER_SESSION:
            return NONE
    before: Figures = row[1:] if row is not None and row[0] == report.began else NONE
    grown = plus(report.figures, before, -1)
    if min(grown) < 0:
        # It has fallen: the client began to count anew, or a point has come late.
        grown = report.figures
    values = (*name, report.began, now, *report.figures)
    conn.execute(f"INSERT OR REPLACE INTO series VALUES ({', '.join('?' * len(values))})", values)
    return grown


def _put(conn: sqlite3.Connection, name: tuple[str, ...], figures: Figures, own: Figures, now: int) -> Compared:
    where = " AND ".join(f"{column} = ?" for column in _KEY.split(", "))
    row: Any = conn.execute(f"SELECT first_at, {_SELECTED} FROM sessions WHERE {where}", name).fetchone() or (now, *NONE, *NONE)
    first_at, client, gateway = row[0], row[1 : 1 + len(FIGURES)], row[1 + len(FIGURES) :]
    figures = tuple(min(f, MAX_FIGURE - c) for f, c in zip(figures, client, strict=True))
    # Records that were deleted for their age have counted already.
    own = tuple(max(pair) for pair in zip(own, gateway, strict=True))
    conn.execute(_PUT, (*name, first_at, now, *plus(client, figures), *own))
    return Compared(name[2], name[3], figures, plus(own, gateway, -1))


def _trim(conn: sqlite3.Connection) -> None:
    for table, column, most in (("sessions", "last_at", MAX_ROWS), ("series", "at", MAX_SERIES), ("bodies", "at", MAX_BODIES)):
        row = conn.execute(f"SELECT {column} FROM {table} ORDER BY {column} DESC LIMIT 1 OFFSET ?", (most,)).fetchone()
        if row is not None:
            conn.execute(f"DELETE FROM {table} WHERE {column} <= ?", row)
