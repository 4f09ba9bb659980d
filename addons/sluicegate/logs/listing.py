"""Calls as lists: pages that stay put while calls are being recorded, one call by its id, and all of them for export.

A page ends at a position, the value it is sorted by and the row, and the next one begins behind it. Rows are never
changed once written, so whatever is recorded meanwhile, no call comes twice and none is passed over.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from sluicegate.calls.limit_checks import LISTED_COLUMNS, from_row
from sluicegate.calls.record import COLUMNS, Record
from sluicegate.logs.filters import Filters
from sluicegate.logs.parameters import BadParameter
from sluicegate.logs.reading import Readers, Route, route

SORTED_BY = {"timestamp": "at", "latency": "latency_ms", "tokens": "tokens", "cost": "cost_nano"}
"""What each way of sorting compares: a column of an entry. A call without latency comes before all others."""

EXPORT_BATCH = 500
"""Rows an export reads at a time: each in a transaction of its own, so that a slow reader holds up no checkpoint."""

MAX_INTEGER = (1 << 63) - 1
"""What the database has for the largest integer: a cursor that was tampered with may name a larger one."""

Position = tuple[int, int]
"""The value sorted by and the row."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of the list is wanted."""

    sort_by: str = "timestamp"
    order: str = "desc"
    limit: int = 50
    offset: int = 0
    cursor: str | None = None

    def after(self, filters: Filters) -> Position | None:
        """Where the page before ended. Raises BadParameter for a cursor that is none, or is another question's."""
        if self.cursor is None:
            return None
        if self.offset:
            raise BadParameter("offset", "'offset' and 'cursor' exclude each other: send one of them")
        try:
            value, row, asked = orjson.loads(base64.urlsafe_b64decode(self.cursor.encode() + b"=="))
            good = all(type(part) is int and -MAX_INTEGER <= part <= MAX_INTEGER for part in (value, row))
        except (ValueError, TypeError, binascii.Error):
            good, asked = False, None
        if not good:
            raise BadParameter("cursor", "'cursor' is the next_cursor of an earlier answer, unchanged")
        if asked != self._question(filters):
            raise BadParameter("cursor", "'cursor' comes from other filters or another order: start without one")
        return value, row

    def ending(self, filters: Filters, position: Position) -> str:
        """The cursor for what follows a position."""
        packed = orjson.dumps([*position, self._question(filters)])
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    def _question(self, filters: Filters) -> str:
        values = sorted((n, sorted(map(str, v))) for n, v in filters.values.items())
        said = repr((values, filters.ranges, filters.start, filters.end, self.sort_by, self.order))
        return hashlib.sha256(said.encode()).hexdigest()[:12]


def page(conn: sqlite3.Connection, filters: Filters, wanted: Page) -> tuple[list[Record], str | None]:
    """The rows of a page, and the cursor of the next one; None if there is none. Raises BadParameter."""
    after = wanted.after(filters)
    way = route(conn, filters, SORTED_BY[wanted.sort_by])
    found = positions(conn, way, wanted.sort_by, wanted.order, after, wanted.limit + 1, wanted.offset)
    more = len(found) > wanted.limit
    found = found[: wanted.limit]
    return rows_at(conn, found, LISTED_COLUMNS), wanted.ending(filters, found[-1]) if more else None


def positions(
    conn: sqlite3.Connection, way: Route, sort_by: str, order: str, after: Position | None, limit: int, offset: int = 0
) -> list[Position]:
    """The next positions in order."""
    column, sign = SORTED_BY[sort_by], "<" if order == "desc" else ">"
    where, values = way.where, list(way.values)
    if after is not None:
        where += f" AND {column} {sign}= ? AND ({column} {sign} ? OR row {sign} ?)"
        values += [after[0], after[0], after[1]]
    ordered = f"ORDER BY {column} {order}, row {order} LIMIT ? OFFSET ?"
    return conn.execute(f"SELECT {column}, row FROM {way.source} WHERE {where} {ordered}", [*values, limit, offset]).fetchall()


def rows_at(conn: sqlite3.Connection, found: list[Position], columns: Sequence[str]) -> list[Record]:
    """These columns of the rows at these positions, in their order."""
    marks = ", ".join("?" * len(found))
    sql = f"SELECT rowid, {', '.join(columns)} FROM source.calls WHERE rowid IN ({marks})"
    by_row = {row: dict(zip(columns, values, strict=True)) for row, *values in conn.execute(sql, [r for _, r in found])}
    return [by_row[row] for _, row in found if row in by_row]


def one(conn: sqlite3.Connection, call_id: str) -> Record | None:
    """A call by its id."""
    row = conn.execute(f"SELECT {', '.join(COLUMNS)} FROM source.calls WHERE id = ?", (call_id,)).fetchone()
    return None if row is None else from_row(row)


def has_calls(conn: sqlite3.Connection, own: str | None) -> bool:
    """Whether there is any call, or any of this virtual key's."""
    where, values = Filters({"virtual_key_id": (own,)} if own else {}).names()
    return bool(conn.execute(f"SELECT EXISTS (SELECT 1 FROM facets WHERE {where})", values).fetchone()[0])


def export(readers: Readers, filters: Filters, order: str) -> Iterator[list[Record]]:
    """All calls recorded until now, in order of time, some hundreds at a time. Each piece is read when it is asked for."""
    with readers.reading() as conn:
        way = route(conn, filters, "at")
        (last,) = conn.execute("SELECT row FROM progress").fetchone()
    way = Route(way.index, f"{way.where} AND row <= ?", [*way.values, last])
    after: Position | None = None
    while True:
        with readers.reading() as conn:
            found = positions(conn, way, "timestamp", order, after, EXPORT_BATCH)
            rows = rows_at(conn, found, tuple(COLUMNS))
        if rows:
            yield [from_row(row.values()) for row in rows]
        if len(found) < EXPORT_BATCH:
            return
        after = found[-1]
