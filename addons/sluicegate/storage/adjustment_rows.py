"""Adjustments as rows of the table ``adjustments``: written with the counters they change, read on connections of their own."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from sluicegate.calls.adjustment import COLUMNS, Adjustment
from sluicegate.calls.limit_checks import from_row
from sluicegate.calls.record import COLUMNS as CALL_COLUMNS
from sluicegate.calls.record import Record
from sluicegate.database import connection
from sluicegate.storage.errors import StoreError

INSERT_ADJUSTMENT = f"INSERT OR IGNORE INTO adjustments ({','.join(COLUMNS)}) VALUES ({','.join('?' * len(COLUMNS))})"  # noqa: S608


def row_of_adjustment(adjustment: Adjustment) -> list[Any]:
    """Return an adjustment as a row, its charges as JSON text."""
    return [*(adjustment[n] for n in COLUMNS if n != "charges"), orjson.dumps(adjustment["charges"]).decode()]


def read_adjustments(conn: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[Adjustment]:
    """Return the adjustments that match an SQL condition, those of other gateways with ``node``. Raises sqlite3.Error."""
    rows = conn.execute(f"SELECT node,{','.join(COLUMNS)} FROM adjustments WHERE {where}", values)  # noqa: S608
    found = [({} if node is None else {"node": node}) | dict(zip(COLUMNS, row, strict=True)) for node, *row in rows]
    return [a | {"charges": orjson.loads(a["charges"])} for a in found]


class Adjustments:
    """The adjustments in a database file. Blocking; every method raises StoreError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of_call(self, call_id: str) -> list[Adjustment]:
        """Return a call's adjustments, oldest first."""
        return self._read("call_id = ? ORDER BY number", (call_id,))

    def by_key(self, prefix: str) -> Adjustment | None:
        """Return the adjustment whose idempotency key begins so; None if there is none."""
        return next(iter(self._read("idempotency_key >= ? AND idempotency_key < ?", (prefix, prefix + "\U0010ffff"))), None)

    def call(self, call_id: str) -> Record | None:
        """Return the record of a call; None if there is none."""
        with connection(self.path, "ro", self._error) as conn:
            row = conn.execute(f"SELECT {','.join(CALL_COLUMNS)} FROM calls WHERE id = ?", (call_id,)).fetchone()  # noqa: S608
        return None if row is None else from_row(row)

    def page(self, limit: int, before: str | None, **equal: str | None) -> list[Adjustment]:
        """Return the newest adjustments, before the one with an id, whose columns have these values."""
        wanted = {name: value for name, value in equal.items() if value is not None}
        parts = [f"{name} = ?" for name in wanted]
        values: list[Any] = list(wanted.values())
        if before is not None:
            parts.append("number < (SELECT number FROM adjustments WHERE id = ?)")
            values.append(before)
        return self._read(f"{' AND '.join(parts) or 'true'} ORDER BY number DESC LIMIT ?", (*values, limit))

    def ids_like(self, call_id: str) -> list[str]:
        """Return the ids of calls that begin as this one does, and of the newest calls."""
        with connection(self.path, "ro", self._error) as conn:
            begin = "SELECT id FROM calls WHERE id >= ? AND id < ? LIMIT 20"
            found = [
                *conn.execute(begin, (call_id, call_id + "\U0010ffff")),
                *conn.execute("SELECT id FROM calls ORDER BY rowid DESC LIMIT 500"),
            ]
        return [row[0] for row in found]

    def _read(self, where: str, values: Sequence[Any]) -> list[Adjustment]:
        with connection(self.path, "ro", self._error) as conn:
            return read_adjustments(conn, where, values)

    def _error(self, e: sqlite3.Error) -> StoreError:
        return StoreError(f"{self.path}: {e}")
