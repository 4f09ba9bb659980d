"""The bodies of calls, where policy wants them kept: compressed, in a file of their own.

Other modules only know the interface ``ContentStore``. A thread writes the bodies; a call never waits for it, and
bodies that come in faster than they can be written are dropped and counted instead of filling the memory.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from sluicegate.database import open_private

logger = logging.getLogger("sluicegate")

FILENAME = "content.db"

MAX_BODY_BYTES = 8 << 20
"""Bytes kept of one body; the rest is cut off, and the body is marked as truncated."""

MAX_REFUSED_BYTES = 64 << 10
"""Bytes kept of a refused request: it costs its sender nothing, so a sender could fill the disk with them."""

MAX_QUEUED_BYTES = 64 << 20
"""Bytes that may wait to be written."""

PAUSE_S = 0.02
"""Pause between two transactions that delete, in which other threads can write."""

CLOSE_TIMEOUT_S = 10.0
"""How long closing waits for what is still to be written."""

DELETE_BATCH, MAX_BATCHES = 20, 50
"""Calls whose bodies are deleted in one transaction, and how many such transactions one run makes."""

_TABLES = """
CREATE TABLE IF NOT EXISTS content (
  call_id TEXT PRIMARY KEY, at INTEGER, request BLOB, response BLOB, request_truncated INTEGER, response_truncated INTEGER
);
CREATE INDEX IF NOT EXISTS content_at ON content (at);
"""


@dataclass(frozen=True, slots=True)
class Content:
    """The bodies of one call, begun ``at``, epoch milliseconds."""

    call_id: str
    at: int
    request: bytes
    response: bytes
    request_truncated: bool = False
    response_truncated: bool = False

    @property
    def size(self) -> int:
        """Size of both bodies in bytes."""
        return len(self.request) + len(self.response)


class ContentStore(Protocol):
    """A store for bodies. Any thread may call it; every method may raise OSError or sqlite3.Error."""

    def put(self, content: Content) -> None:
        """Keep the bodies of a call, replacing those kept before."""

    def get(self, call_id: str) -> Content | None:
        """Return what is kept of a call."""

    def delete_before(self, at: int, limit: int) -> int:
        """Delete at most ``limit`` of the calls that began before a time, oldest first; return how many were deleted."""

    def delete(self, call_ids: Sequence[str]) -> None:
        """Delete what is kept of these calls."""

    def close(self) -> None:
        """Release what is open."""


class ContentFile:
    """A content store in a SQLite file of its own, created when something is first kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._conn: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def put(self, content: Content) -> None:
        """Keep the bodies of a call."""
        packed = [zstd.compress(body, 3) for body in (content.request, content.response)]
        row = (content.call_id, content.at, *packed, content.request_truncated, content.response_truncated)
        with self._lock:
            self._open().execute("INSERT OR REPLACE INTO content VALUES (?, ?, ?, ?, ?, ?)", row)

    def get(self, call_id: str) -> Content | None:
        """Return what is kept of a call."""
        with self._lock:
            if self._conn is None and not self.path.exists():
                return None
            row = self._open().execute("SELECT * FROM content WHERE call_id = ?", (call_id,)).fetchone()
        if row is None:
            return None
        call_id, at, request, response, *cut = row
        return Content(call_id, at, zstd.decompress(request), zstd.decompress(response), *map(bool, cut))

    def delete_before(self, at: int, limit: int) -> int:
        """Delete some of the oldest, and return their space to the file system."""
        with self._lock:
            if self._conn is None and not self.path.exists():
                return 0
            conn = self._open()
            oldest = "SELECT call_id FROM content WHERE at < ? ORDER BY at LIMIT ?"
            count = conn.execute(f"DELETE FROM content WHERE call_id IN ({oldest})", (at, limit)).rowcount  # noqa: S608
            if count:
                # The pragma frees one page for each row that is fetched from it.
                conn.execute("PRAGMA incremental_vacuum").fetchall()
                # Otherwise deleted bodies stay readable in the write-ahead log until it starts over.
                conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return count

    def delete(self, call_ids: Sequence[str]) -> None:
        """Delete what is kept of these calls, in small steps, and return its space to the file system."""
        for i in range(0, len(call_ids), DELETE_BATCH):
            part = call_ids[i : i + DELETE_BATCH]
            with self._lock:
                if self._conn is None and not self.path.exists():
                    return
                conn = self._open()
                conn.executemany("DELETE FROM content WHERE call_id = ?", [(call_id,) for call_id in part])
                conn.execute("PRAGMA incremental_vacuum").fetchall()
                conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._conn is not None:
                self._conn.close()
                self._conn = None

    def _open(self) -> sqlite3.Connection:
        if self._conn is None:
            self._conn = open_private(self.path, _TABLES)
        return self._conn


class ContentKeeper:
    """Queues bodies for a content store: ``keep`` returns at once, a thread writes."""

    def __init__(self, store: ContentStore) -> None:
        self.store = store
        self.error: str | None = None
        """Why the last bodies could not be kept; None if they were."""
        self.dropped = 0
        """Calls whose bodies could not be kept."""
        self._queue: dict[str, Content] = {}
        self._size = 0
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def keep(self, content: Content) -> None:
        """Queue a call's bodies to be written."""
        with self._change:
            if self._closed or self._size + content.size > MAX_QUEUED_BYTES:
                self._drop("too much is waiting to be written")
                return
            self._queue[content.call_id] = content
            self._size += content.size
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="sluicegate-content", daemon=True)
                self._thread.start()
            self._change.notify_all()

    def get(self, call_id: str) -> Content | None:
        """Return what is kept of a call, written already or not. Raises OSError or sqlite3.Error."""
        with self._change:
            found = self._queue.get(call_id)
        return found or self.store.get(call_id)

    def delete_before(self, before: int, pause: Callable[[float], bool]) -> None:
        """Delete what began before a time, in small steps; ``pause`` waits some seconds and returns whether to stop."""
        try:
            for _ in range(MAX_BATCHES):
                if self.store.delete_before(before, DELETE_BATCH) < DELETE_BATCH or pause(PAUSE_S):
                    return
        except (sqlite3.Error, OSError) as e:
            logger.warning("Old content cannot be deleted: %s", e)

    def delete(self, call_ids: Sequence[str]) -> None:
        """Delete the bodies of these calls, once what is waiting has been written. Raises OSError or sqlite3.Error."""
        with self._change:
            self._change.wait_for(lambda: not self._queue, CLOSE_TIMEOUT_S)
        self.store.delete(call_ids)

    def close(self) -> None:
        """Write what is waiting, and close the store."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT_S)
        self.store.close()

    def _write(self) -> None:
        """Write queued bodies, in the thread, until the store is closed."""
        while True:
            with self._change:
                while not self._queue:
                    if self._closed:
                        return
                    self._change.wait()
                content = next(iter(self._queue.values()))
            try:
                self.store.put(content)
            except (sqlite3.Error, OSError) as e:
                with self._change:
                    self._drop(str(e))
            else:
                self.error = None
            with self._change:
                if self._queue.get(content.call_id) is content:
                    del self._queue[content.call_id]
                self._size -= content.size
                self._change.notify_all()

    def _drop(self, why: str) -> None:
        self.dropped += 1
        if self.error is None:
            logger.warning("The content of calls cannot be kept (%s); calls go on", why)
        self.error = why
