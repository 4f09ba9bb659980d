"""The audit trail of administration: who changed what and when, append-only, in the database's table ``admin_audit``.

Written on a connection of its own, in a thread: the gateway's own connection never waits for it. A change whose entry
cannot be written is not made, so an entry is on disk before its change; if the change then fails, another entry says so.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from sluicegate.database import connection
from sluicegate.policy.entities import redacted

WRITTEN = ("at", "who", "action", "entity_kind", "entity_id", "before", "after", "revision_before", "revision_after")
COLUMNS = ("id", *WRITTEN, "node")
"""``node``: the gateway on which it was done, by name; None for this one."""


class AuditTrailError(Exception):
    """The audit trail cannot be written or read."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action on one entity. ``before`` and ``after`` are its values, None where it did not exist."""

    action: str
    entity_kind: str
    entity_id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


class AuditTrail:
    """The audit trail in one database file, which must exist and be of the current version. Blocking."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, entries: Sequence[AuditEntry], *, at: str, who: str, before: str, after: str) -> None:
        """Append entries, on disk when this returns; ``before`` and ``after`` are policy revisions. Raises AuditTrailError."""
        rows = [(at, who, e.action, e.entity_kind, e.entity_id, _text(e.before), _text(e.after), before, after) for e in entries]
        with self._open("rw") as conn:
            conn.execute("BEGIN IMMEDIATE")
            conn.executemany(
                f"INSERT INTO admin_audit ({','.join(WRITTEN)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                rows,
            )
            conn.execute("COMMIT")
            self._sync_wal()

    def read(
        self,
        *,
        limit: int,
        before: int | None = None,
        node: str | None = None,
        here: str | None = None,
        **equal: str | tuple[str, ...] | None,
    ) -> tuple[list[dict[str, Any]], int]:
        """Return entries newest first, with an id below ``before``, and how many match in all. Raises AuditTrailError.

        ``node``: only those of the gateway with this name; ``here`` is our own. Of several values of a column any matches.
        """
        wanted = {name: (value,) if isinstance(value, str) else value for name, value in equal.items() if value is not None}
        where = [f"{name} IN ({_marks(values)})" for name, values in wanted.items()]
        values: list[Any] = [value for one_of in wanted.values() for value in one_of]
        if node is not None:
            where.append("coalesce(node, ?) = ?")
            values += [here, node]
        with self._open("ro") as conn:
            total = conn.execute(f"SELECT count(*) FROM admin_audit{_where(where)}", values).fetchone()[0]  # noqa: S608
            if before is not None:
                where.append("id < ?")
                values.append(before)
            rows = conn.execute(
                f"SELECT {','.join(COLUMNS)} FROM admin_audit{_where(where)} ORDER BY id DESC LIMIT ?",  # noqa: S608
                [*values, limit],
            ).fetchall()
        return [_entry(row, here) for row in rows], total

    def spans(self, kinds: tuple[str, ...]) -> dict[tuple[str, str], tuple[str, str]]:
        """Return when entities of these kinds were first and last changed, by kind and id. Raises AuditTrailError."""
        with self._open("ro") as conn:
            rows = conn.execute(
                f"SELECT entity_kind, entity_id, min(at), max(at) FROM admin_audit WHERE entity_kind IN ({_marks(kinds)}) "  # noqa: S608
                "GROUP BY entity_kind, entity_id",
                kinds,
            ).fetchall()
        return {(kind, entity): (first, last) for kind, entity, first, last in rows}

    def _open(self, mode: Literal["ro", "rw"]) -> AbstractContextManager[sqlite3.Connection]:
        return connection(self.path, mode, lambda e: AuditTrailError(f"the audit trail in {self.path} cannot be used: {e}"))

    def _sync_wal(self) -> None:
        """Make what was committed survive a power cut, which a commit in WAL mode leaves to the next checkpoint."""
        try:
            fd = os.open(f"{self.path}-wal", os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            os.fsync(fd)
        except OSError as e:
            raise AuditTrailError(f"the audit trail in {self.path} cannot be written: {e.strerror}") from e
        finally:
            os.close(fd)


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _text(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else orjson.dumps(redacted(value), default=float).decode()


def _entry(row: Sequence[Any], here: str | None) -> dict[str, Any]:
    entry = dict(zip(COLUMNS, row, strict=True))
    entry["node"] = entry["node"] or here
    return entry | {name: orjson.loads(entry[name]) if entry[name] is not None else None for name in ("before", "after")}
