"""The file of the logs' index: made, brought up to date, and made anew where it cannot be used."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sluicegate.database import Mode, connect, connection, keep_log, uri_of
from sluicegate.logs.index import COPY, FACET, INDEXES, KINDS, MEASURES, VERSION, adjust, tables
from sluicegate.logs.past_calls import seeding

logger = logging.getLogger("sluicegate")

FILENAME = "logs.db"

BUSY_TIMEOUT_MS = 2_000
"""How long a query waits for another connection's lock."""

COPY_BATCH = 4000
"""Calls copied in one transaction."""


class IndexNotReady(Exception):
    """The index is still being built; ``share`` of it is done."""

    def __init__(self, share: float) -> None:
        self.share = share
        super().__init__(f"the logs are being indexed ({share:.0%} done)")


class Index:
    """The writer of ``logs.db``, in this process. Any thread may call it; workers that share the file take turns."""

    def __init__(self, calls: Path, path: Path) -> None:
        self.calls, self.path = calls, path
        self._conn: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._done = self._inode = 0
        self._closed = False
        self._indexed = False
        self.edition = 0
        """How often the file has been rebuilt: connections to an earlier one are useless."""

    def catch_up(self, within: float | None = None) -> None:
        """Copy every recorded call. Raises IndexNotReady if that takes longer than ``within`` seconds, or sqlite3.Error."""
        end = None if within is None else time.monotonic() + within
        if not self._lock.acquire(timeout=-1 if within is None else within):
            raise IndexNotReady(self._share())
        try:
            whole = True
            while not self._closed:
                try:
                    if not self._step():
                        return
                except sqlite3.Error as e:
                    self._close_connection()
                    if not is_damaged(e) or not whole:
                        raise
                    whole = False
                    self._discard()
                if end is not None and time.monotonic() > end:
                    raise IndexNotReady(self._share())
        finally:
            self._lock.release()

    @contextmanager
    def held(self) -> Iterator[sqlite3.Connection | None]:
        """Provide the open file, which nobody else writes meanwhile; None where it is being built. Raises sqlite3.Error."""
        with self._lock:
            yield self._conn if self._indexed else None

    def discard(self) -> None:
        """Delete the file; the next query rebuilds it."""
        with self._lock:
            self._discard()

    def close(self) -> None:
        """Close the file."""
        self._closed = True
        with self._lock:
            self._close_connection()

    def _step(self) -> bool:
        """Copy some calls; return whether there is more to do."""
        if self._conn is not None and self._inode != _inode_of(self.path):
            # Another worker has deleted the file, to have it made anew.
            self._close_connection()
            self.edition += 1
        if self._conn is None:
            self._conn = self._open()
            self._inode = _inode_of(self.path)
        return self._copy(self._conn)

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        conn = open_index(self.path, self.calls, "rw")
        try:
            (version,) = conn.execute("PRAGMA user_version").fetchone()
            if version and (version != VERSION or not _matches_records(conn)):
                conn.close()
                self._discard()
                return self._open()
            keep_log(conn)
            conn.execute("PRAGMA synchronous=NORMAL")
            if not version:
                with conn:
                    conn.execute("BEGIN IMMEDIATE")
                    if conn.execute("PRAGMA user_version").fetchone()[0]:
                        # Another worker has made it while we waited.
                        conn.execute("ROLLBACK")
                        conn.close()
                        return self._open()
                    for statement in (*tables(), *seeding(FACET, KINDS, tuple(MEASURES))):
                        conn.execute(statement)
                    conn.execute(f"PRAGMA user_version = {VERSION}")
            (self._done,) = conn.execute("SELECT row FROM progress").fetchone()
            self._indexed = _is_indexed(conn)
        except BaseException:
            conn.close()
            raise
        return conn

    def _close_connection(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _discard(self) -> None:
        logger.warning("%s cannot be used and is rebuilt from the records", self.path)
        self._close_connection()
        self._indexed = False
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self.edition += 1

    def _copy(self, conn: sqlite3.Connection) -> bool:
        with conn:
            conn.execute("BEGIN IMMEDIATE")
            # Another worker may have done it meanwhile.
            (self._done,) = conn.execute("SELECT row FROM progress").fetchone()
            self._indexed = self._indexed or _is_indexed(conn)
            (last,) = conn.execute("SELECT coalesce(max(rowid), 0) FROM source.calls").fetchone()
            until = min(last, self._done + COPY_BATCH)
            if until > self._done:
                for statement in COPY:
                    conn.execute(statement, {"after": self._done, "until": until})
            elif not self._indexed:
                # Only now, because sorting a million calls into an index takes a tenth of the time that adding them does.
                for statement in INDEXES:
                    conn.execute(statement)
                self._indexed = True
            if until == last:
                adjust(conn)
        self._done = until
        return bool(until < last) or not self._indexed

    def _share(self) -> float:
        with connection(self.calls, "ro") as conn:
            (last,) = conn.execute("SELECT coalesce(max(rowid), 1) FROM calls").fetchone()
        return min(1.0, self._done / int(last))


def open_index(path: Path, calls: Path, mode: Mode) -> sqlite3.Connection:
    """Open the index, with the records themselves attached as ``source``, read-only. Raises sqlite3.Error."""
    conn = connect(path, mode, busy_timeout_ms=BUSY_TIMEOUT_MS)
    conn.execute("ATTACH ? AS source", (uri_of(calls, "ro"),))
    return conn


def is_damaged(error: sqlite3.Error) -> bool:
    """Return whether an error says that the file is damaged or not a database."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _is_indexed(conn: sqlite3.Connection) -> bool:
    return bool(conn.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'by_at'").fetchone()[0])


def _inode_of(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def _matches_records(conn: sqlite3.Connection) -> bool:
    """Return whether the index belongs to these records: the last call that was copied is still the same one."""
    row, known = conn.execute("SELECT row, id FROM progress").fetchone()
    return conn.execute("SELECT id FROM source.calls WHERE rowid = ?", (row,)).fetchone() == (known,) if row else True
