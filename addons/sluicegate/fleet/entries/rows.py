"""Entries as rows of a node's own database: which of them are its own, and how those of others are written."""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from sluicegate.calls.adjustment import COLUMNS as ADJUSTMENT_COLUMNS
from sluicegate.policy.audit_trail import WRITTEN as AUDIT_COLUMNS


class Kind(NamedTuple):
    """A table of entries."""

    name: str
    table: str
    number: str
    """The column that counts its rows up."""
    columns: tuple[str, ...]


KINDS = (
    Kind("audit", "admin_audit", "id", AUDIT_COLUMNS),
    Kind("revision", "policy_revisions", "id", ("revision", "at", "who", "action", "summary", "files")),
    Kind("adjustment", "adjustments", "number", tuple(ADJUSTMENT_COLUMNS)),
)
BY_NAME = {kind.name: kind for kind in KINDS}


class Entry(NamedTuple):
    """One entry, as nodes exchange it."""

    id: str
    kind: str
    values: Mapping[str, Any]
    """By column; bytes as base64."""
    node: str
    """The name of the node on which it was made."""


def own_entries(conn: sqlite3.Connection, kind: Kind, after: int, limit: int, node: tuple[str, str]) -> tuple[int, list[Entry]]:
    """Return entries that were made here, after a number, and the last one's number; ``node`` is our id and name.

    Raises sqlite3.Error.
    """
    names = ",".join(kind.columns)
    sql = f"SELECT {kind.number},{names} FROM {kind.table} WHERE {kind.number} > ? AND node IS NULL ORDER BY 1 LIMIT ?"  # noqa: S608
    found = []
    for number, *values in conn.execute(sql, (after, limit)):
        sent = {name: _sent(value) for name, value in zip(kind.columns, values, strict=True)}
        # In an older copy of a folder the same number may later be another entry's.
        text = orjson.dumps([node[0], kind.name, number, sent])
        found.append(Entry(hashlib.sha256(text).hexdigest()[:32], kind.name, sent, node[1]))
        after = number
    return after, found


def write_entry(conn: sqlite3.Connection, entry: Entry) -> None:
    """Write another node's entry; what this version does not know of it is left out.

    Raises sqlite3.Error, and ValueError for one that no gateway has written.
    """
    kind = BY_NAME.get(entry.kind)
    if kind is None:
        return
    if not isinstance(entry.values, Mapping):
        raise ValueError("it has no columns")
    marks = ",".join("?" * (len(kind.columns) + 1))
    values = [_received(name, entry.values.get(name)) for name in kind.columns]
    sql = f"INSERT OR IGNORE INTO {kind.table} ({','.join(kind.columns)},node) VALUES ({marks})"  # noqa: S608
    conn.execute(sql, (*values, entry.node))


def _sent(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _received(name: str, value: Any) -> Any:
    if not isinstance(value, str | int | float | None):
        raise ValueError(f"its {name} has another form")
    return base64.b64decode(str(value)) if name == "files" and value is not None else value
