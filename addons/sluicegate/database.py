"""A connection to the database beside the gateway's own, for as long as one question or one entry takes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

BUSY_WAIT = 5.0
"""Seconds a thread waits for another's lock; never the proxy's loop."""


@contextmanager
def connect(path: Path, mode: Literal["ro", "rw"], error: Callable[[sqlite3.Error], Exception]) -> Iterator[sqlite3.Connection]:
    """The open connection, each statement a transaction of its own. What SQLite raises is raised as ``error`` makes it."""
    try:
        conn = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_WAIT, isolation_level=None)
        try:
            if mode == "rw":
                # With SQLite's defaults a commit syncs the WAL, and may copy all of it into the file, while it holds the
                # write lock: on a busy disk longer than a call waits for it, and calls were refused for it.
                conn.execute("PRAGMA synchronous=NORMAL")
                conn.execute("PRAGMA wal_autocheckpoint=0")
            yield conn
        finally:
            conn.close()
    except sqlite3.Error as e:
        raise error(e) from e
