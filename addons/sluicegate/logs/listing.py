"""Calls as lists: pages that do not shift while calls are being recorded, one call by its id, and all for export.

A page ends at a position, the value it is sorted by and the row, and the next one begins after it. Rows never change
once written, so whatever is recorded meanwhile, no call is listed twice and none is skipped; sorted by cost, a call that is
adjusted meanwhile moves.
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
from sluicegate.logs.body_search import BodySearch
from sluicegate.logs.filters import Filters
from sluicegate.logs.parameters import BadParameter
from sluicegate.logs.reading import Readers, Route, route
from sluicegate.values import usd

ADJUSTED = ("adjustment_usd", "effective_cost_usd")
"""What a call that was adjusted has besides its record's columns."""

SORTED_BY = {"timestamp": "at", "latency": "latency_ms", "tokens": "tokens", "cost": "cost_nano"}
"""The column of an entry that each order compares. A call without latency sorts as the shortest."""

EXPORT_BATCH = 500
"""Rows an export reads at a time, each batch in its own transaction, so that a slow client blocks no checkpoint."""

MAX_INTEGER = (1 << 63) - 1
"""The largest integer of SQLite: a forged cursor may contain a larger one."""

Position = tuple[int, int]
"""The value sorted by, and the row."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of the list to return."""

    sort_by: str = "timestamp"
    order: str = "desc"
    limit: int = 50
    offset: int = 0
    cursor: str | None = None
    search: BodySearch | None = None
    """What the bodies of the calls must contain."""

    def after(self, filters: Filters) -> Position | None:
        """Return where the previous page ended. Raises BadParameter for a cursor that is invalid or of another query."""
        if self.cursor is None:
            return None
        if self.offset:
            raise BadParameter("offset", "'offset' and 'cursor' exclude each other: send one of them")
        try:
            value, row, fingerprint = orjson.loads(base64.urlsafe_b64decode(self.cursor.encode() + b"=="))
            is_valid = all(type(part) is int and -MAX_INTEGER <= part <= MAX_INTEGER for part in (value, row))
        except (ValueError, TypeError, binascii.Error):
            is_valid, fingerprint = False, None
        if not is_valid:
            raise BadParameter("cursor", "'cursor' is not the next_cursor of an earlier answer: send it unchanged")
        if fingerprint != self._fingerprint(filters):
            raise BadParameter("cursor", "'cursor' comes from other filters or another order: start without a cursor")
        return value, row

    def cursor_after(self, filters: Filters, position: Position) -> str:
        """Return the cursor for what follows a position."""
        packed = orjson.dumps([*position, self._fingerprint(filters)])
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @property
    def _text(self) -> str | None:
        return self.search.text if self.search is not None else None

    def _fingerprint(self, filters: Filters) -> str:
        values = sorted((n, sorted(map(str, v))) for n, v in filters.values.items())
        query = repr((values, filters.ranges, filters.start, filters.end, self.sort_by, self.order, self._text))
        return hashlib.sha256(query.encode()).hexdigest()[:12]


def page(conn: sqlite3.Connection, filters: Filters, wanted: Page) -> tuple[list[Record], str | None]:
    """Return the rows of a page and the cursor of the next one, None if this is the last. Raises BadParameter."""
    after = wanted.after(filters)
    access_path = route(conn, filters, SORTED_BY[wanted.sort_by])
    if wanted.search is not None:
        rows, ended_at = _searched(conn, access_path, wanted, after, wanted.search)
        return with_adjustments(conn, rows), wanted.cursor_after(filters, ended_at) if ended_at is not None else None
    found = positions(conn, access_path, wanted.sort_by, wanted.order, after, wanted.limit + 1, wanted.offset)
    more = len(found) > wanted.limit
    found = found[: wanted.limit]
    rows = with_adjustments(conn, rows_at(conn, found, LISTED_COLUMNS))
    return rows, wanted.cursor_after(filters, found[-1]) if more else None


def _searched(
    conn: sqlite3.Connection, access_path: Route, wanted: Page, after: Position | None, search: BodySearch
) -> tuple[list[Record], Position | None]:
    """Return the next rows whose bodies contain a text, and where the search stopped, None at the end of the list."""
    rows: list[Record] = []
    found: list[Position] = []
    left_out = 0
    while not search.is_over:
        found = positions(conn, access_path, wanted.sort_by, wanted.order, after, EXPORT_BATCH)
        for after in found:
            matching = [row for row in rows_at(conn, [after], LISTED_COLUMNS) if search.finds(row["id"])]
            if matching and left_out < wanted.offset:
                left_out += 1
                continue
            rows += matching
            if len(rows) == wanted.limit or search.is_over:
                return rows, after
        if len(found) < EXPORT_BATCH:
            return rows, None
    return rows, after


def positions(
    conn: sqlite3.Connection, access_path: Route, sort_by: str, order: str, after: Position | None, limit: int, offset: int = 0
) -> list[Position]:
    """Return the next positions in order."""
    column, sign = SORTED_BY[sort_by], "<" if order == "desc" else ">"
    where, values = f"row > 0 AND {access_path.where}", list(access_path.values)
    if after is not None:
        where += f" AND {column} {sign}= ? AND ({column} {sign} ? OR row {sign} ?)"
        values += [after[0], after[0], after[1]]
    ordered = f"ORDER BY {column} {order}, row {order} LIMIT ? OFFSET ?"
    return conn.execute(
        f"SELECT {column}, row FROM {access_path.source} WHERE {where} {ordered}", [*values, limit, offset]
    ).fetchall()


def rows_at(conn: sqlite3.Connection, found: list[Position], columns: Sequence[str]) -> list[Record]:
    """Return these columns of the rows at these positions, in their order."""
    marks = ", ".join("?" * len(found))
    sql = f"SELECT rowid, {', '.join(columns)} FROM source.calls WHERE rowid IN ({marks})"
    by_row = {row: dict(zip(columns, values, strict=True)) for row, *values in conn.execute(sql, [r for _, r in found])}
    return [by_row[row] for _, row in found if row in by_row]


def one(conn: sqlite3.Connection, call_id: str) -> Record | None:
    """Return a call by its id; None if there is no such record."""
    row = conn.execute(f"SELECT {', '.join(COLUMNS)} FROM source.calls WHERE id = ?", (call_id,)).fetchone()
    return None if row is None else with_adjustments(conn, [from_row(row)])[0]


def with_adjustments(conn: sqlite3.Connection, rows: list[Record]) -> list[Record]:
    """Add to each call that was adjusted by how much, and what it costs with that, as exact decimal text."""
    marks = ", ".join("?" * len(rows))
    sql = f"SELECT call_id, sum(amount_nano) FROM source.adjustments WHERE call_id IN ({marks}) GROUP BY call_id"
    sums = dict(conn.execute(sql, [row["id"] for row in rows]).fetchall())
    for row in rows:
        if row["id"] in sums:
            amount = sums[row["id"]]
            row |= {"adjustment_usd": usd(amount), "effective_cost_usd": usd((row["cost_nano"] or 0) + amount)}
    return rows


def has_calls(conn: sqlite3.Connection, own: str | None) -> bool:
    """Return whether there is any call, or any of one virtual key's if ``own`` names it."""
    where, values = Filters({"virtual_key_id": (own,)} if own else {}).names()
    return bool(conn.execute(f"SELECT EXISTS (SELECT 1 FROM facets WHERE outcome <> '' AND {where})", values).fetchone()[0])


def export(readers: Readers, filters: Filters, order: str) -> Iterator[list[Record]]:
    """Yield all calls recorded until now in order of time, some hundreds at a time, each batch read when it is needed."""
    with readers.reading() as conn:
        access_path = route(conn, filters, "at")
        (last,) = conn.execute("SELECT row FROM progress").fetchone()
    access_path = Route(access_path.index, f"{access_path.where} AND row <= ?", [*access_path.values, last])
    after: Position | None = None
    while True:
        with readers.reading() as conn:
            found = positions(conn, access_path, "timestamp", order, after, EXPORT_BATCH)
            rows = [from_row(row.values()) for row in rows_at(conn, found, tuple(COLUMNS))]
            rows = with_adjustments(conn, rows)
        if rows:
            yield rows
        if len(found) < EXPORT_BATCH:
            return
        after = found[-1]
