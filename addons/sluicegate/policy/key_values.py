"""The values that virtual keys have had, by their hashes in the table ``key_values``: so a deleted key is told from a stranger's.

Without it a leaver's key would be an unknown value the moment it is deleted, and unknown values are ignored: beside another
person's key, calls made with it would go on.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path

from sluicegate.database import connection
from sluicegate.policy.model import Policy

logger = logging.getLogger("sluicegate.policy")

MAX_VALUES = 200_000
"""So many are remembered; the oldest are forgotten first."""

ROWS_A_STEP = 200
"""Rows written in one transaction: a call waits for the lock of another connection, but not for long."""


class KeyValues:
    """Every value that a virtual key has had, and which of them still are one. Follow a policy before it comes into force."""

    def __init__(self, path: Path) -> None:
        """Read what is known. Raises sqlite3.Error."""
        self._path = path
        self._lock = threading.Lock()
        with connection(path, "ro") as conn:
            rows = conn.execute("SELECT digest, is_demo FROM key_values ORDER BY rowid").fetchall()
        self._seen: dict[bytes, bool] = {digest: bool(is_demo) for digest, is_demo in rows}
        self._live: Mapping[bytes, object] = {}

    def is_former(self, digest: bytes) -> bool | None:
        """Return whether this is the SHA-256 of a former value: True of a secret, False of a demo key's id, None if it is not."""
        is_demo = self._seen.get(digest)
        return None if is_demo is None or digest in self._live else not is_demo

    def follow(self, policy: Policy) -> None:
        """Take a policy's keys for those that are in force, and remember their values. Blocking; a failed write is only logged."""
        with self._lock:
            live = policy.keys_by_digest
            new = [(digest, key.is_demo) for digest, key in live.items() if digest and digest not in self._seen]
            # A new mapping, because the event loop reads it meanwhile.
            self._seen = dict([*self._seen.items(), *new][-MAX_VALUES:]) if new else self._seen
            self._live = live
            try:
                self._write(new)
            except sqlite3.Error as e:
                logger.warning("The values of new virtual keys could not be noted; a key deleted later may pass for unknown: %s", e)

    def _write(self, new: list[tuple[bytes, bool]]) -> None:
        if not new:
            return
        with connection(self._path, "rw") as conn:
            for i in range(0, len(new), ROWS_A_STEP):
                conn.execute("BEGIN IMMEDIATE")
                conn.executemany("INSERT OR IGNORE INTO key_values (digest, is_demo) VALUES (?, ?)", new[i : i + ROWS_A_STEP])
                conn.execute("COMMIT")
            conn.execute(
                "DELETE FROM key_values WHERE rowid <= (SELECT max(rowid) FROM key_values) - ?",
                (MAX_VALUES,),
            )
