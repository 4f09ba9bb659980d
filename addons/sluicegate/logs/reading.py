"""How the index of the logs is read: read-only connections, and the choice of the SQL index for each query."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sluicegate.logs.filters import Filters
from sluicegate.logs.index import HOUR_MS
from sluicegate.logs.index_file import Index, is_damaged, open_index
from sluicegate.windows import DAY_MS

MAX_IDLE_CONNECTIONS = 3
"""Idle connections that are kept open with their caches."""

INDEX_TIMEOUT_S = 2.0
"""How long a query waits for the index to include every call; normally it takes milliseconds."""

MAX_SCANNED = 100_000
"""The most entries that are read and sorted; where more match, the order's own index soon yields the first ones."""

RARE_RATIO = 20
"""Where fewer than one call in this many matches, they are looked up by facet instead of by scanning back in time."""


class Readers:
    """Read-only connections to an index, each for one thread at a time. Each use sees one moment, with all calls up to it."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        self._edition = index.edition

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Provide a connection inside a read transaction. Raises IndexNotReady, sqlite3.Error."""
        self.index.catch_up(INDEX_TIMEOUT_S)
        edition = self.index.edition
        if edition != self._edition:
            self._close_connections()
            self._edition = edition
        with self._lock:
            conn = self._idle.pop() if self._idle else None
        if conn is None:
            conn = open_index(self.index.path, self.index.calls, "ro")
            conn.execute("PRAGMA cache_size=-4000")
        try:
            conn.execute("BEGIN")
            yield conn
            conn.execute("COMMIT")
        except BaseException as e:
            conn.close()
            if isinstance(e, sqlite3.Error) and is_damaged(e):
                self.index.discard()
            raise
        with self._lock:
            if len(self._idle) < MAX_IDLE_CONNECTIONS and not self._closed and edition == self.index.edition:
                self._idle.append(conn)
                return
        conn.close()

    def _close_connections(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for conn in idle:
            conn.close()

    def close(self) -> None:
        """Close idle connections; those in use close when they are done."""
        self._closed = True
        self._close_connections()


@dataclass(frozen=True, slots=True)
class Route:
    """The SQL index of entries to scan, and the condition each entry must meet."""

    index: str
    where: str
    values: list[Any]

    @property
    def source(self) -> str:
        """Return what follows FROM."""
        return f"entries INDEXED BY {self.index}"


def route(conn: sqlite3.Connection, filters: Filters, column: str | None = None, *, by_facet: bool = False) -> Route:
    """Return how to reach all entries that match, ``by_facet`` in facet order; or, with a column, the first in its order."""
    where, values = filters.entries()
    if "session_id" in filters.values:
        return Route("by_session", f"session_id <> '' AND {where}", values)
    matching, in_range = count_estimate(conn, filters)
    if column == "at":
        few = matching * RARE_RATIO < in_range
    elif column is None:
        few = matching * 2 < in_range
    else:
        few = matching <= MAX_SCANNED
    if by_facet or (few and filters.has_facets):
        all_facets = "" if filters.has_facets else "facet IN (SELECT id FROM facets) AND "
        return Route("by_facet", all_facets + where, values)
    return Route("by_at" if few or column in (None, "at") else f"by_{column}", where, values)


def count_estimate(conn: sqlite3.Connection, filters: Filters) -> tuple[int, int]:
    """Return an upper bound of the calls that match, and the calls in that range of time, by whole days and hours."""
    (in_range,) = conn.execute(f"SELECT coalesce(sum(calls), 0) FROM hours WHERE {_span(filters, HOUR_MS)}").fetchone()
    if not filters.has_facets:
        return in_range, in_range
    where, values = filters.facets()
    sql = f"SELECT coalesce(sum(calls), 0) FROM days WHERE {where} AND {_span(filters, DAY_MS)}"
    return conn.execute(sql, values).fetchone()[0], in_range


def _span(filters: Filters, unit: int) -> str:
    parts = [f"at >= {filters.start // unit}"] if filters.start is not None else []
    parts += [f"at <= {filters.end // unit}"] if filters.end is not None else []
    return " AND ".join(parts) or "true"
