"""A connection to the store for work that only PostgreSQL is asked for, with the tables of records, entries and erasures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sluicegate.fleet.store.protocol import FleetError

if TYPE_CHECKING:
    import psycopg

SETUP_LOCK = 0x51_01CE_0001
"""The advisory lock while tables are made."""

_TABLES = """
CREATE SEQUENCE IF NOT EXISTS records_position;
CREATE TABLE IF NOT EXISTS records (
  id text PRIMARY KEY, node text NOT NULL, position bigint NOT NULL, record json NOT NULL
);
CREATE INDEX IF NOT EXISTS records_by_position ON records (position);
CREATE SEQUENCE IF NOT EXISTS entries_position;
CREATE TABLE IF NOT EXISTS entries (
  id text PRIMARY KEY, node text NOT NULL, name text NOT NULL, position bigint NOT NULL, kind text NOT NULL, entry json NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_by_position ON entries (position);
CREATE TABLE IF NOT EXISTS erasures (
  id text PRIMARY KEY, begun_at bigint NOT NULL, who text NOT NULL, node text NOT NULL, pseudonym text NOT NULL, person json,
  done_at bigint
);
CREATE TABLE IF NOT EXISTS erasures_on_nodes (
  erasure text NOT NULL, node text NOT NULL, done_at bigint, calls bigint NOT NULL, waits_for text, PRIMARY KEY (erasure, node)
);
CREATE TABLE IF NOT EXISTS erasing_nodes (id text PRIMARY KEY, name text NOT NULL, since bigint NOT NULL);
"""
"""A statement that has been released is never edited: more follow it, and each does nothing where it has been done."""


class Session:
    """A connection for one thread. Every method blocks, and raises FleetError; the next call connects again."""

    def __init__(self, connect: Callable[[], psycopg.Connection]) -> None:
        self._connect = connect
        self._conn: psycopg.Connection | None = None

    def run[T](self, work: Callable[[psycopg.Connection], T]) -> T:
        """Do something in one transaction, and return what it returns."""

        def at_once(conn: psycopg.Connection) -> T:
            with conn.transaction():
                return work(conn)

        return self._use(at_once)

    def send(self, work: Callable[[psycopg.Connection], None]) -> None:
        """Do something in one transaction, all of it in one round trip: no result can be looked at meanwhile."""

        def at_once(conn: psycopg.Connection) -> None:
            with conn.pipeline(), conn.transaction():
                work(conn)

        self._use(at_once)

    def ask(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute one statement, spelled by ourselves, as a transaction of its own; return its rows."""

        def rows(conn: psycopg.Connection) -> list[tuple[Any, ...]]:
            cursor = conn.execute(sql.encode(), values)
            return cursor.fetchall() if cursor.description is not None else []

        return self._use(rows)

    def _use[T](self, work: Callable[[psycopg.Connection], T]) -> T:
        import psycopg

        try:
            if self._conn is None or self._conn.closed:
                self._conn = self._connect()
                with self._conn.transaction():
                    self._conn.execute("SELECT pg_advisory_xact_lock(%s)", (SETUP_LOCK,))
                    self._conn.execute(_TABLES)
            return work(self._conn)
        except psycopg.Error as e:
            self.close()
            raise FleetError(" ".join(str(e).split()) or type(e).__name__) from e

    def close(self) -> None:
        """Close the connection."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None
