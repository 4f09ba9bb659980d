"""How the index of the logs is read: connections that can only read, and the way a question takes through it."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sluicegate.logs.filters import Filters
from sluicegate.logs.index import HOUR_MS, Index, damaged, open_index
from sluicegate.windows import DAY_MS

MAX_IDLE_CONNECTIONS = 3
"""Idle connections kept open, with what they have cached."""

INDEX_TIMEOUT_S = 2.0
"""Seconds a question waits for the index to know every call; normally it is a matter of milliseconds."""

MAX_SCANNED = 100_000
"""Entries that are looked through and sorted; where more match, the first in order are soon met in the order's own index."""

RARE_RATIO = 20
"""Where fewer than one call in so many matches, they are looked up rather than met while going back in time."""


class Readers:
    """Read-only connections to an index, one to a thread at a time. Each use sees one moment, with all calls until now."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        self._edition = index.edition

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a read transaction. Raises IndexNotReady, sqlite3.Error."""
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
            if isinstance(e, sqlite3.Error) and damaged(e):
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
        """Close what is idle; what is in use closes when it is done."""
        self._closed = True
        self._close_connections()


@dataclass(frozen=True, slots=True)
class Route:
    """An index of entries to go along, and the condition each must meet."""

    index: str
    where: str
    values: list[Any]

    @property
    def source(self) -> str:
        """What stands behind FROM."""
        return f"entries INDEXED BY {self.index}"


def route(conn: sqlite3.Connection, filters: Filters, column: str | None = None, *, by_facet: bool = False) -> Route:
    """How to reach all entries that match, ``by_facet`` in the order of facets; or, with a column, the first in its order."""
    where, values = filters.entries()
    if "session_id" in filters.values:
        return Route("by_session", f"session_id <> '' AND {where}", values)
    matching, among = outline(conn, filters)
    if column == "at":
        few = matching * RARE_RATIO < among
    elif column is None:
        few = matching * 2 < among
    else:
        few = matching <= MAX_SCANNED
    if by_facet or (few and filters.faceted):
        every = "" if filters.faceted else "facet IN (SELECT id FROM facets) AND "
        return Route("by_facet", every + where, values)
    return Route("by_at" if few or column in (None, "at") else f"by_{column}", where, values)


def outline(conn: sqlite3.Connection, filters: Filters) -> tuple[int, int]:
    """How many calls match at most, and how many there are of everybody's in that range of time; whole days and hours."""
    (among,) = conn.execute(f"SELECT coalesce(sum(calls), 0) FROM hours WHERE {_span(filters, HOUR_MS)}").fetchone()
    if not filters.faceted:
        return among, among
    where, values = filters.facets()
    sql = f"SELECT coalesce(sum(calls), 0) FROM days WHERE {where} AND {_span(filters, DAY_MS)}"
    return conn.execute(sql, values).fetchone()[0], among


def _span(filters: Filters, unit: int) -> str:
    parts = [f"at >= {filters.start // unit}"] if filters.start is not None else []
    parts += [f"at <= {filters.end // unit}"] if filters.end is not None else []
    return " AND ".join(parts) or "true"
