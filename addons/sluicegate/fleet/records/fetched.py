"""Rows of other nodes' calls in a database of ours: marked by their origin, confirmed or replaced by their own node's record."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from sluicegate.calls.limit_checks import from_row, to_row
from sluicegate.calls.record import COLUMNS, Record
from sluicegate.database import transaction

ROWS_PER_STEP = 50
"""Fetched rows written in one transaction: a millisecond, which calls that are to be written wait for."""

FROM_STORE, UNCONFIRMED = "store", "unconfirmed"
"""The ``origin`` of a row: another node's own record, or what was found of a call whose node has disappeared."""

_MONEY_AND_TOKENS = ("cost_nano", "outcome", "latency_ms", "input_tokens", "output_tokens", "cache_read_tokens")
"""What sums in the index of the logs are made of, as far as the two records of one call can differ."""

_FOUND = (
    f"SELECT c.rowid, f.origin, {','.join(f'c.{name}' for name in COLUMNS)} FROM calls AS c "  # noqa: S608
    "LEFT JOIN fetched_calls AS f ON f.row = c.rowid WHERE c.id IN (SELECT value FROM json_each(?))"
)
_ID = list(COLUMNS).index("id")
_ADD = (
    f"INSERT OR IGNORE INTO calls ({','.join(COLUMNS)}) "  # noqa: S608
    f"SELECT {','.join(f"json_extract(value, '$[{at}]')" for at in range(len(COLUMNS)))} FROM json_each(?)"
)
_NOTE_ORIGIN = "INSERT OR IGNORE INTO fetched_calls SELECT rowid, ? FROM calls WHERE id IN (SELECT value FROM json_each(?))"


def steps[T](rows: Sequence[T]) -> Iterable[Sequence[T]]:
    """Return rows in the parts that are written in one transaction each."""
    return (rows[i : i + ROWS_PER_STEP] for i in range(0, len(rows), ROWS_PER_STEP))


def write_fetched(conn: sqlite3.Connection, records: Sequence[Record], origin: str) -> bool:
    """Write fetched records in one transaction; return whether one has changed the sums of what was there before.

    Calls that are to be written wait for it. So it has few statements whatever it holds: after each of them this thread may
    have to wait for the interpreter. Rows of other nodes' calls are changed by this thread alone, and can be read before.
    """
    found: dict[str, Any] = {}
    for row, known_origin, *values in conn.execute(_FOUND, (_json([record["id"] for record in records]),)).fetchall():
        there = from_row(values)
        found[there["id"]] = row, known_origin, there
    confirmed, replaced, new = [], [], []
    for record in records:
        row, known_origin, there = found.get(record["id"], (None, None, None))
        if row is None:
            new.append(to_row(record))
        elif origin == FROM_STORE and known_origin == UNCONFIRMED:
            if _differs(record, there):
                replaced.append(row)
                new.append(to_row(record))
            else:
                confirmed.append(row)
    if not (new or confirmed):
        return False
    with transaction(conn):
        if replaced:
            conn.execute("DELETE FROM calls WHERE rowid IN (SELECT value FROM json_each(?))", (_json(replaced),))
        if confirmed:
            in_place = "UPDATE fetched_calls SET origin = ? WHERE row IN (SELECT value FROM json_each(?))"
            conn.execute(in_place, (FROM_STORE, _json(confirmed)))
        if new:
            conn.execute(_ADD, (_json(new),))
            conn.execute(_NOTE_ORIGIN, (origin, _json([row[_ID] for row in new])))
    return bool(replaced)


def _json(values: Sequence[Any]) -> str:
    return orjson.dumps(values).decode()


def _differs(one: Record, other: Record) -> bool:
    return any(one.get(name) != other.get(name) for name in _MONEY_AND_TOKENS)
