"""Every policy that has been in force, without its secrets, in the table ``policy_revisions`` of the database.

Written on a connection of its own, in a thread, like the audit trail. The oldest are deleted where there are too many.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from sluicegate.database import connection

MAX_REVISIONS = 1_000

MAX_COMPRESSED_BYTES = 64 << 20
"""Bytes of compressed text that all revisions may take in total; the newest is always kept."""

COLUMNS = ("id", "revision", "at", "who", "action", "summary", "node")


class RevisionsError(Exception):
    """The history cannot be written or read."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One recorded policy. ``files`` has the texts of its files by name."""

    revision: str
    at: str
    who: str | None
    action: str
    summary: str
    files: Mapping[str, str]
    node: str | None = None
    """The node on which it was made; None: on this one, where no fleet has a policy in common."""
    version: int | None = None
    """Its number in the fleet store; None: it was not there."""


class Revisions:
    """The revisions in one database file, which must exist and be of the current version. Blocking."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, revision: Revision) -> None:
        """Append a revision and delete the oldest ones beyond the limits. Raises RevisionsError."""
        files = zlib.compress(orjson.dumps(dict(revision.files)), 6)
        about = (revision.revision, revision.at, revision.who, revision.action, revision.summary, revision.node)
        with self._open("rw") as conn:
            conn.execute("BEGIN IMMEDIATE")
            names = f"{','.join(COLUMNS[1:])}, version, files"
            # Of several workers that share the database each may have fetched a version.
            is_new = "NOT EXISTS (SELECT 1 FROM policy_revisions WHERE version = ?)"
            sql = f"INSERT INTO policy_revisions ({names}) SELECT ?, ?, ?, ?, ?, ?, ?, ? WHERE {is_new}"
            conn.execute(sql, (*about, revision.version, files, revision.version))
            conn.execute(
                "DELETE FROM policy_revisions WHERE id IN ("
                "SELECT id FROM (SELECT id, row_number() OVER newest AS number, sum(length(files)) OVER newest AS bytes "
                "FROM policy_revisions WINDOW newest AS (ORDER BY id DESC)) WHERE number > ? OR (bytes > ? AND number > 1))",
                (MAX_REVISIONS, MAX_COMPRESSED_BYTES),
            )
            conn.execute("COMMIT")

    def page(self, limit: int, before: int | None = None) -> list[dict[str, Any]]:
        """Return revisions newest first, with an id below ``before``, without their texts. Raises RevisionsError."""
        with self._open("ro") as conn:
            rows = conn.execute(
                f"SELECT {','.join(COLUMNS)} FROM policy_revisions WHERE ? IS NULL OR id < ? ORDER BY id DESC LIMIT ?",  # noqa: S608
                (before, before, limit),
            ).fetchall()
        return [dict(zip(COLUMNS, row, strict=True)) for row in rows]

    def newest(self) -> str | None:
        """Return the revision that was in force here last. Raises RevisionsError."""
        found = self._one("node IS NULL ORDER BY id DESC")
        return found.revision if found else None

    def newest_version(self) -> int:
        """Return the highest number of a recorded version of the fleet store's policy, 0 for none. Raises RevisionsError."""
        with self._open("ro") as conn:
            return int(conn.execute("SELECT coalesce(max(version), 0) FROM policy_revisions").fetchone()[0])

    def get(self, revision: str) -> Revision | None:
        """Return a recorded policy, None where the revision is unknown. Raises RevisionsError."""
        return self._one("revision = ? ORDER BY id DESC", revision)

    def before(self, revision: str) -> Revision | None:
        """Return what was in force before a revision last came into force. Raises RevisionsError."""
        newest = "SELECT id, node FROM policy_revisions WHERE revision = ? ORDER BY id DESC LIMIT 1"
        with self._open("ro") as conn:
            found = conn.execute(newest, (revision,)).fetchone()
        # Of nodes with policies of their own, what another one had in between is not what was in force before.
        same = "(version IS NOT NULL OR node IS ?)"
        return None if found is None else self._one(f"id < ? AND {same} ORDER BY id DESC", *found)

    def _one(self, where: str, *values: Any) -> Revision | None:
        with self._open("ro") as conn:
            sql = f"SELECT {','.join(COLUMNS[1:])}, files FROM policy_revisions WHERE {where} LIMIT 1"  # noqa: S608
            row = conn.execute(sql, values).fetchone()
        if row is None:
            return None
        revision, at, who, action, summary, node, files = row
        return Revision(revision, at, who, action, summary, orjson.loads(zlib.decompress(files)), node)

    def _open(self, mode: Literal["ro", "rw"]) -> AbstractContextManager[sqlite3.Connection]:
        return connection(self.path, mode, lambda e: RevisionsError(f"the policy's history in {self.path} cannot be used: {e}"))
