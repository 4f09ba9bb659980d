"""The fleet's entries in PostgreSQL: what each node has entered, in the order in which it arrived there, each once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from sluicegate.fleet.entries.rows import Entry
from sluicegate.fleet.store.session import Session

if TYPE_CHECKING:
    import psycopg

ORDER_LOCK = 0x51_01CE_0003
"""The advisory lock while entries get their positions, so that a reader never passes one by."""

_KEEP = """
INSERT INTO entries (id, node, name, position, kind, entry) VALUES (%s, %s, %s, nextval('entries_position'), %s, %s)
ON CONFLICT (id) DO NOTHING
"""
_READ = """
SELECT position, CASE WHEN node = %s THEN NULL ELSE id END, name, kind, entry::text FROM entries
WHERE position > %s ORDER BY position LIMIT %s
"""


class Entries:
    """The table, by a session. Every method blocks, and raises FleetError."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def put(self, node: str, entries: Sequence[Entry]) -> None:
        """Keep a node's entries, all of them or none."""

        def work(conn: psycopg.Connection) -> None:
            conn.execute("SELECT pg_advisory_xact_lock(%s)", (ORDER_LOCK,))
            rows = [(e.id, node, e.node, e.kind, orjson.dumps(dict(e.values)).decode()) for e in entries]
            conn.cursor().executemany(_KEEP, rows)

        self._session.run(work)

    def read(self, node: str, after: int, limit: int) -> tuple[int, list[Entry]]:
        """Return the position up to which these are all, and the next entries after one that are not this node's own."""
        rows = self._session.ask(_READ, node, after, limit)
        found = [Entry(i, kind, orjson.loads(text), name) for _, i, name, kind, text in rows if i is not None]
        return (rows[-1][0] if rows else after), found
