"""The fleet store in a SQLite file, for several workers of one host. Their clock is the host's, so a clock is passed in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sluicegate.database import connect, keep_log, open_private
from sluicegate.fleet.store.engine import Dialect, Row, Run, Statement
from sluicegate.fleet.store.protocol import FleetError
from sluicegate.fleet.store.sql_store import SqlStore

FILENAME = "fleet.db"

BUSY_TIMEOUT_MS = 2_000
"""How long a message waits for those of other workers."""


class SqliteEngine:
    """One connection to the file."""

    can_notify = False

    def __init__(self, path: Path, clock: Callable[[], int], *, is_private: bool = False) -> None:
        """``is_private``: what is deleted is overwritten."""
        self._path, self._clock, self._is_private = path, clock, is_private
        self._conn: sqlite3.Connection | None = None
        self._dialect = Dialect(
            each="json_each(?) AS e",
            item="json_extract(e.value, '$[{0}]')",
            greatest="max",
            now="now_ms()",
            for_update="",
            skip_locked="",
            mark="?",
        )

    @contextmanager
    def transaction(self, *, alone: bool = False) -> Iterator[Run]:
        """Begin a transaction; SQLite lets only one write at a time anyway. Raises FleetError."""
        try:
            conn = self._connected()
            # At once, not with the first write: what is read must still hold when it is written.
            conn.execute("BEGIN IMMEDIATE")
            try:
                yield self._runner(conn)
            finally:
                if conn.in_transaction:
                    conn.execute("ROLLBACK")
        except (sqlite3.Error, OSError) as e:
            self.close()
            raise FleetError(f"{self._path}: {e}") from e

    def settle(self) -> None:
        """Empty the write-ahead log: what was deleted before is in no file from now on. Raises FleetError."""
        try:
            if self._conn is not None:
                self._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as e:
            raise FleetError(f"{self._path}: {e}") from e

    def _runner(self, conn: sqlite3.Connection) -> Run:
        def run(*statements: Statement, commit: bool = False) -> list[list[Row]]:
            found = [conn.execute(self._dialect.spell(sql), values).fetchall() for sql, values in statements]
            if commit:
                conn.execute("COMMIT")
            return found

        return run

    def _connected(self) -> sqlite3.Connection:
        if self._conn is None:
            conn = open_private(self._path) if self._is_private else connect(self._path, "rwc", BUSY_TIMEOUT_MS)
            try:
                self._path.chmod(0o600)
                keep_log(conn)
                conn.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
                # A lease that was granted must not be forgotten when the machine loses its power.
                conn.execute("PRAGMA synchronous=FULL")
                conn.create_function("now_ms", 0, self._clock)
            except BaseException:
                conn.close()
                raise
            self._conn = conn
        return self._conn

    def close(self) -> None:
        """Close the connection."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None


class SqliteStore(SqlStore):
    """A fleet store in a file."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        super().__init__(SqliteEngine(path, clock))
