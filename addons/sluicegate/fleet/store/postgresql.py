"""The fleet store in PostgreSQL: one primary; how it is replicated and reached is libpq's and its operator's affair.

psycopg is imported when the first connection is made: a gateway without a fleet never loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sluicegate.fleet.store.engine import Dialect, Row, Run, Statement
from sluicegate.fleet.store.protocol import FleetError
from sluicegate.fleet.store.sql_store import SqlStore

if TYPE_CHECKING:
    import psycopg

MIGRATION_LOCK = 0x51_01CE_0000
"""The advisory lock under which tables are made."""

SETTINGS = (
    # What a statement may take, waiting for locks included, until the node treats the store as unreachable.
    "SET statement_timeout = 2000; "
    # A node that is stopped in the middle of a message holds up all others that need the same windows until this has passed.
    "SET idle_in_transaction_session_timeout = 1000; "
    # Each statement sees what was committed before it: what is summed up is read after the lock was got.
    "SET default_transaction_isolation = 'read committed'; "
    # A lease that was granted must not be forgotten when the server loses its power.
    "SET synchronous_commit = on; "
    # Every question is about few rows by their keys. The planner cannot know how few a JSON array names, and reads whole tables.
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off"
)

PREPARE_AFTER = 2
"""How often a statement is sent before the server keeps its plan: planning costs it three times what the statement does."""

MIGRATION_TIMEOUT_MS = 600_000
"""What a migration may take, waiting for that of another gateway included."""


class PostgresEngine:
    """One connection."""

    can_notify = True

    def __init__(self, connect: Callable[[], psycopg.Connection], clock: Callable[[], int] | None = None) -> None:
        self._connect, self._clock = connect, clock
        self._conn: psycopg.Connection | None = None
        self._dialect = Dialect(
            each="json_array_elements(?::json) AS e(value)",
            item="(e.value->>{0})",
            greatest="greatest",
            now="{now}" if clock is not None else "(extract(epoch from statement_timestamp()) * 1000)::bigint",
            for_update="FOR UPDATE",
            skip_locked="SKIP LOCKED",
            mark="%s",
            roomy="WITH (fillfactor = 50)",
            notify="SELECT pg_notify(?, ?)",
        )

    @contextmanager
    def transaction(self, *, alone: bool = False) -> Iterator[Run]:
        """Begin a transaction, with the first statements. Raises FleetError."""
        import psycopg

        try:
            if self._conn is None or self._conn.closed:
                self._conn = self._connect()
                self._conn.execute(SETTINGS)
                self._conn.prepare_threshold = None if _is_pooled(self._conn) else PREPARE_AFTER
            transaction = _Transaction(self._conn, self._spell)
            if alone:
                transaction((f"SET LOCAL statement_timeout = {MIGRATION_TIMEOUT_MS}", ()))
                transaction(("SELECT pg_advisory_xact_lock(?)", (MIGRATION_LOCK,)))
            yield transaction
            transaction.end()
        except psycopg.Error as e:
            # Whatever state it is in: a new connection costs less than to find that out.
            self.close()
            raise FleetError(" ".join(str(e).split()) or type(e).__name__) from e
        except BaseException:
            self.close()
            raise

    def _spell(self, sql: str) -> str:
        spelled = self._dialect.spell(sql)
        return spelled if self._clock is None else spelled.replace("{now}", f"CAST({self._clock()} AS bigint)")

    def close(self) -> None:
        """Close the connection."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None


def _is_pooled(conn: psycopg.Connection) -> bool:
    """Return whether a pooler answers for the server, by the process that a cancellation would go to.

    One that gives each transaction another of its connections might run another gateway's statement by the name of ours.
    """
    row = conn.execute("SELECT pg_backend_pid()").fetchone()
    return row is None or row[0] != conn.info.backend_pid


class _Transaction:
    """One transaction: each call is one round trip, ``BEGIN`` and ``COMMIT`` included."""

    def __init__(self, conn: psycopg.Connection, spell: Callable[[str], str]) -> None:
        self._conn, self._spell = conn, spell
        self._is_open = False

    def __call__(self, *statements: Statement, commit: bool = False) -> list[list[Row]]:
        with self._conn.pipeline():
            if not self._is_open:
                self._conn.execute("BEGIN")
                self._is_open = True
            # Spelled by ourselves, from constants; values are bound.
            cursors = [self._conn.execute(self._spell(sql).encode(), values) for sql, values in statements]
            if commit:
                self._conn.execute("COMMIT")
                self._is_open = False
        return [cursor.fetchall() if cursor.description is not None else [] for cursor in cursors]

    def end(self) -> None:
        """Roll back, unless it was committed."""
        if self._is_open:
            self._conn.execute("ROLLBACK")


class PostgresStore(SqlStore):
    """A fleet store in PostgreSQL. ``connect`` opens a connection that commits each statement by itself unless one begins."""

    def __init__(self, connect: Callable[[], psycopg.Connection], clock: Callable[[], int] | None = None) -> None:
        """Go by the server's clock, unless a test passes another."""
        super().__init__(PostgresEngine(connect, clock))
