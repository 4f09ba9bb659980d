"""How SQLite files are opened: in one way, and only here."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

Mode = Literal["ro", "rw", "rwc"]
"""Read only; read and write; the same, and create the file where there is none."""

BUSY_TIMEOUT_MS = 5_000
"""How long a thread waits for another connection's lock. The proxy's loop must never wait that long."""

LOG_ATTEMPTS, LOG_INTERVAL_S = 100, 0.01
"""How many times, and how often, a file that others are making is asked to keep a log."""


def connect(path: Path, mode: Mode, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> sqlite3.Connection:
    """Open a database. Each statement is a transaction of its own unless one is begun. Raises sqlite3.Error.

    Any thread may use the connection, one at a time.
    """
    return sqlite3.connect(
        uri_of(path, mode), uri=True, timeout=busy_timeout_ms / 1000, isolation_level=None, check_same_thread=False
    )


def open_private(path: Path, tables: str = "") -> sqlite3.Connection:
    """Open a file of content that is deleted after a while, readable by its owner alone; make it where there is none.

    ``tables`` are statements that make what is missing in it. Raises sqlite3.Error, OSError.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    conn = connect(path, "rw")
    try:
        # What is deleted is overwritten, not merely unlinked, and its room goes back to the file system.
        conn.execute("PRAGMA auto_vacuum=INCREMENTAL")
        keep_log(conn)
        conn.execute("PRAGMA synchronous=NORMAL")
        conn.execute("PRAGMA secure_delete=ON")
        conn.executescript(tables)
    except BaseException:
        conn.close()
        raise
    return conn


def keep_log(conn: sqlite3.Connection) -> None:
    """Let the database write ahead to a log, so that readers and its writer do not wait for each other. Raises sqlite3.Error.

    Where several processes make a file at the same moment SQLite refuses this at once, whatever its time-out.
    """
    for attempt in range(LOG_ATTEMPTS):
        try:
            conn.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as e:
            if e.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or attempt == LOG_ATTEMPTS - 1:
                raise
            time.sleep(LOG_INTERVAL_S)


def uri_of(path: Path, mode: Mode) -> str:
    """Return a file's URI as SQLite reads it, for ATTACH too. Whatever the path contains, it is quoted."""
    return f"{path.absolute().as_uri()}?mode={mode}"


@contextmanager
def connection(
    path: Path,
    mode: Mode,
    error: Callable[[sqlite3.Error], Exception] | None = None,
    busy_timeout_ms: int = BUSY_TIMEOUT_MS,
) -> Iterator[sqlite3.Connection]:
    """Open a database and close it afterwards. Errors of SQLite are converted by ``error`` if there is one."""
    try:
        conn = connect(path, mode, busy_timeout_ms)
        try:
            if mode == "rw":
                # With SQLite's defaults a commit syncs the WAL, and may copy all of it into the file, while it holds the
                # write lock: on a busy disk that takes longer than a call waits for the lock, and calls would be refused.
                conn.execute("PRAGMA synchronous=NORMAL")
                conn.execute("PRAGMA wal_autocheckpoint=0")
            yield conn
        finally:
            conn.close()
    except sqlite3.Error as e:
        if error is None:
            raise
        raise error(e) from e


@contextmanager
def transaction(conn: sqlite3.Connection) -> Iterator[None]:
    """Write all that is written meanwhile, or nothing. The lock is taken at the beginning. Raises sqlite3.Error."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        yield
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            # After some errors, such as a full disk, SQLite has done it already.
            conn.execute("ROLLBACK")
        raise
