"""Calls on record, read from the database oldest first, in short reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sluicegate.calls.adjustment import SCOPE_COLUMNS
from sluicegate.database import connection
from sluicegate.storage.errors import StoreError
from sluicegate.storage.store import DELETED_BEFORE_MS, read_meta
from sluicegate.values import TOKEN_COLUMNS
from sluicegate.windows import iso, parse_iso

ROWS_PER_READ = 2_000
"""Rows read at once: the write-ahead log cannot be reset while a read lasts."""


def count_calls(path: Path, since: int, until: int) -> int:
    """Return how many calls began in ``[since, until)``, epoch milliseconds. Blocking. Raises StoreError."""
    for row in _rows(
        path, "SELECT count(*) AS count FROM calls WHERE started_at >= ? AND started_at < ?", (iso(since), iso(until))
    ):
        return int(row["count"])
    return 0


def read_shadow(path: Path, since: int) -> list[tuple[str, int, int]]:
    """Return the virtual keys whose calls went with their client's own login since then (epoch milliseconds).

    Each with the number of those calls and their list price in nano-dollars. Blocking. Raises StoreError.
    """
    sql = (
        "SELECT virtual_key_id, count(*) AS calls, sum(shadow_nano) AS nano FROM calls "
        "WHERE started_at >= ? AND shadow_nano > 0 GROUP BY virtual_key_id ORDER BY virtual_key_id"
    )
    return [(row["virtual_key_id"], row["calls"], row["nano"]) for row in _rows(path, sql, (iso(since),))]


def read_sums(path: Path, column: str, since: int, until: int, label: str | None = None) -> list[tuple[str | None, int, int, int]]:
    """Return calls begun in ``[since, until)``, epoch milliseconds, added up by a column or by the values of a label.

    Each sum is a name, None for none, with the number of calls, tokens and nano-dollars; the dearest first. What was adjusted
    counts where the call does, and where it was adjusted for a scope at that time. Blocking. Raises StoreError.
    """
    derived = {"model": "coalesce(c.model_served, c.model_requested)", "labels": "json_extract(c.labels, :path)"}
    name = derived.get(column, f"c.{column}")
    tokens = " + ".join(f"coalesce(c.{token}, 0)" for token in TOKEN_COLUMNS)
    of_scopes = f"a.{column}" if column in SCOPE_COLUMNS else "NULL"
    sql = f"""
        SELECT name, sum(calls) AS calls, sum(tokens) AS tokens, sum(nano) AS nano FROM (
          SELECT {name} AS name, 1 AS calls, {tokens} AS tokens, coalesce(c.cost_nano, 0) + coalesce(
            (SELECT sum(a.amount_nano) FROM adjustments AS a WHERE a.call_id = c.id), 0) AS nano
          FROM calls AS c WHERE c.started_at >= :since AND c.started_at < :until
          UNION ALL
          SELECT {of_scopes}, 0, 0, a.amount_nano FROM adjustments AS a
          WHERE a.call_id IS NULL AND a.at >= :since AND a.at < :until
        ) GROUP BY name ORDER BY nano DESC, name
    """  # noqa: S608
    values = {"since": iso(since), "until": iso(until), "path": f'$."{label}"'}
    return [(row["name"], row["calls"], row["tokens"], row["nano"]) for row in _rows(path, sql, values)]


def start_of_newest(path: Path, until: int, number: int) -> int | None:
    """Return when the oldest of the newest ``number`` calls before ``until`` began; None where there are fewer.

    Blocking. Raises StoreError.
    """
    sql = "SELECT started_at FROM calls WHERE started_at < ? ORDER BY started_at DESC LIMIT 1 OFFSET ?"
    for row in _rows(path, sql, (iso(until), number - 1)):
        return parse_iso(row["started_at"])
    return None


def read_calls(path: Path, columns: Sequence[str], since: int, until: int) -> Iterator[dict[str, Any]]:
    """Yield these columns of the calls that began in ``[since, until)``, oldest first. Blocking. Raises StoreError."""
    names = ",".join(dict.fromkeys((*columns, "started_at")))
    sql = (
        f"SELECT rowid AS number, {names} FROM calls "  # noqa: S608
        "WHERE (started_at, rowid) > (?, ?) AND started_at < ? ORDER BY started_at, rowid LIMIT ?"
    )
    after: tuple[str, int] = (iso(since), -1)
    while True:
        rows = list(_rows(path, sql, (*after, iso(until), ROWS_PER_READ)))
        yield from rows
        if len(rows) < ROWS_PER_READ:
            return
        after = rows[-1]["started_at"], rows[-1]["number"]


class OldRecords(NamedTuple):
    """How many records are older than a time, and what else there is to know of how long they have been kept."""

    oldest: str | None
    """When the oldest call on record began."""
    calls: int
    connections: int
    refusals: int


def deleted_before(path: Path) -> int:
    """Return the time before which calls were deleted for their age, epoch milliseconds; 0 where none was. Raises sqlite3.Error."""
    with connection(path, "ro") as conn:
        return read_meta(conn, DELETED_BEFORE_MS)


def oldest_call(path: Path) -> int | None:
    """Return when the oldest call on record began, epoch milliseconds; None where there is none. Raises sqlite3.Error."""
    with connection(path, "ro") as conn:
        (oldest,) = conn.execute("SELECT min(started_at) FROM calls").fetchone()
    return None if oldest is None else parse_iso(oldest)


def old_records(path: Path, before: int | None) -> OldRecords:
    """Count what is older than a time, epoch milliseconds; nothing is for None. Raises sqlite3.Error."""
    at = "" if before is None else iso(before)
    with connection(path, "ro") as conn:
        numbers = [
            conn.execute(sql, (value,)).fetchone()[0]
            for sql, value in (
                ("SELECT count(*) FROM calls WHERE started_at < ?", at),
                ("SELECT count(*) FROM connections WHERE started_at < ?", at),
                ("SELECT count(*) FROM refusals WHERE minute < ?", at and at[:16] + "Z"),
            )
        ]
        (oldest,) = conn.execute("SELECT min(started_at) FROM calls").fetchone()
    return OldRecords(oldest, *numbers)


def _rows(path: Path, sql: str, values: Sequence[Any] | Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    with connection(path, "ro", lambda e: StoreError(f"{path}: {e}")) as conn:
        cursor = conn.execute(sql, values)
        names = [c[0] for c in cursor.description]
        for row in cursor:
            yield dict(zip(names, row, strict=True))
