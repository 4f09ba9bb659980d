"""Who is signed in to the dashboard, for all workers: a request of a session may come to any of them.

As without workers a restart signs everyone out: the supervisor deletes the file. What is in it gives nobody access: ids and
credentials are there as hashes.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from pathlib import Path

from sluicegate.dashboard_sessions import (
    FORGET_AFTER_MS,
    IDLE_TIMEOUT_MS,
    MAX_AGE_MS,
    MAX_PER_HOLDER,
    MAX_SESSIONS,
    MAX_SOURCES,
    Attempts,
    Sessions,
    delay_after,
    session_digest,
)
from sluicegate.database import open_private

FILENAME = "sign_in.db"

USE_NOTED_MS = 60_000
"""A use is noted once so often: a page asks every few seconds."""

_TABLES = """
CREATE TABLE IF NOT EXISTS sessions (
  id BLOB PRIMARY KEY, holder BLOB NOT NULL, opened_at INTEGER NOT NULL, used_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_holder ON sessions (holder, opened_at);
CREATE TABLE IF NOT EXISTS attempts (source TEXT PRIMARY KEY, count INTEGER NOT NULL, last INTEGER NOT NULL) WITHOUT ROWID;
"""


class SignInFile:
    """One connection, opened with its first use. From any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._conn: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def run(self, *statements: tuple[str, tuple[object, ...]]) -> list[tuple[object, ...]]:
        """Execute in one transaction; return the rows of the last statement. Raises sqlite3.Error."""
        with self._lock:
            if self._conn is None:
                self._conn = open_private(self._path, _TABLES)
                # A restart empties it anyway.
                self._conn.execute("PRAGMA synchronous=OFF")
            if len(statements) == 1:
                return self._conn.execute(*statements[0]).fetchall()
            self._conn.execute("BEGIN IMMEDIATE")
            try:
                rows = [self._conn.execute(*statement).fetchall() for statement in statements]
                self._conn.execute("COMMIT")
            except BaseException:
                self._conn.execute("ROLLBACK")
                raise
            return rows[-1]


class SharedSessions(Sessions):
    """``Sessions`` of all workers."""

    def __init__(self, file: SignInFile) -> None:
        super().__init__()
        self._file = file

    def __len__(self) -> int:
        (row,) = self._file.run(("SELECT count(*) FROM sessions", ()))
        return int(str(row[0]))

    def open(self, holder: bytes, now: int, path: str = "") -> str:
        """Begin a session, as ``Sessions.open`` does."""
        session_id = secrets.token_urlsafe(32)
        oldest = "SELECT id FROM sessions WHERE holder = ? ORDER BY opened_at DESC LIMIT -1 OFFSET ?"
        least_used = "SELECT id FROM sessions ORDER BY used_at DESC LIMIT -1 OFFSET ?"
        self._file.run(
            ("DELETE FROM sessions WHERE used_at <= ? OR opened_at <= ?", (now - IDLE_TIMEOUT_MS, now - MAX_AGE_MS)),
            (f"DELETE FROM sessions WHERE id IN ({oldest})", (holder, MAX_PER_HOLDER - 1)),  # noqa: S608
            (f"DELETE FROM sessions WHERE id IN ({least_used})", (MAX_SESSIONS - 1,)),  # noqa: S608
            ("INSERT INTO sessions VALUES (?, ?, ?, ?)", (session_digest(session_id, path), holder, now, now)),
        )
        return session_id

    def find(self, session_id: str, now: int, path: str = "", *, use: bool = True) -> bytes | None:
        """Return the holder of a session, as ``Sessions.find`` does."""
        key = session_digest(session_id, path)
        rows = self._file.run(("SELECT holder, opened_at, used_at FROM sessions WHERE id = ?", (key,)))
        if not rows:
            return None
        holder, opened_at, used_at = rows[0]
        assert isinstance(holder, bytes)
        assert isinstance(opened_at, int)
        assert isinstance(used_at, int)
        if now >= used_at + IDLE_TIMEOUT_MS or now >= opened_at + MAX_AGE_MS:
            self._file.run(("DELETE FROM sessions WHERE id = ?", (key,)))
            return None
        if use and now - used_at >= USE_NOTED_MS:
            self._file.run(("UPDATE sessions SET used_at = max(used_at, ?) WHERE id = ?", (now, key)))
        return holder

    def close(self, session_id: str, path: str = "") -> None:
        """End a session."""
        self._file.run(("DELETE FROM sessions WHERE id = ?", (session_digest(session_id, path),)))


class SharedAttempts(Attempts):
    """``Attempts`` of all workers."""

    def __init__(self, file: SignInFile) -> None:
        super().__init__()
        self._file = file

    def delay_ms(self, source: str, now: int) -> int:
        """Return how many milliseconds this source has to wait before its next attempt; 0 if it need not."""
        rows = self._file.run(("SELECT count, last FROM attempts WHERE source = ?", (source,)))
        count, last = rows[0] if rows else (0, 0)
        return delay_after(int(str(count)), int(str(last)), now)

    def failed(self, source: str, now: int) -> None:
        """Count a wrong attempt."""
        counted = "CASE WHEN excluded.last - last >= ? THEN 1 ELSE count + 1 END"
        again = f"ON CONFLICT (source) DO UPDATE SET count = {counted}, last = excluded.last"
        newest = "SELECT source FROM attempts ORDER BY last DESC LIMIT -1 OFFSET ?"
        self._file.run(
            (f"INSERT INTO attempts VALUES (?, 1, ?) {again}", (source, now, FORGET_AFTER_MS)),  # noqa: S608
            (f"DELETE FROM attempts WHERE source IN ({newest})", (MAX_SOURCES,)),  # noqa: S608
        )


def shared_sign_in(state_dir: Path) -> tuple[Sessions, Attempts]:
    """Return the sessions and wrong attempts of all workers that share a state folder."""
    file = SignInFile(sign_in_files(state_dir)[0])
    return SharedSessions(file), SharedAttempts(file)


def sign_in_files(state_dir: Path) -> tuple[Path, ...]:
    """Return where they are, and what SQLite makes for that file."""
    return tuple(state_dir / "workers" / f"{FILENAME}{suffix}" for suffix in ("", "-wal", "-shm"))
