"""What calls said and were answered, where policy wants it kept: bodies alone, compressed, in a file of their own.

``ContentStore`` is all that others know of where it lies. It is written by a thread; a call never waits for it, and
where bodies come in faster than they can be written they are dropped and counted rather than gathered without end.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from sluicegate.database import connect

logger = logging.getLogger("sluicegate")

FILENAME = "content.db"

MAX_BODY_BYTES = 8 << 20
"""Bytes kept of one body; the rest is cut off and the body marked."""

MAX_REFUSED_BYTES = 64 << 10
"""Bytes kept of a refused call's request. It costs its sender nothing, who may send as many as the disk has room for."""

MAX_QUEUED_BYTES = 64 << 20
"""Bytes that may wait to be written."""

DELETE_BATCH, MAX_BATCHES = 20, 50
"""Calls whose bodies are deleted in one transaction, and transactions in a row before others have their turn."""


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
        """Bytes of both."""
        return len(self.request) + len(self.response)


class ContentStore(Protocol):
    """Somewhere bodies lie. Any thread may call it; it may raise OSError or sqlite3.Error."""

    def put(self, content: Content) -> None:
        """Keep the bodies of a call, instead of what was kept of it before."""

    def get(self, call_id: str) -> Content | None:
        """What is kept of a call."""

    def delete_before(self, at: int, most: int) -> int:
        """Delete at most so many of those that began before a time, the oldest first; how many were deleted."""

    def close(self) -> None:
        """Let it go."""


class ContentFile:
    """A store in a SQLite file of its own, made when something is first kept."""

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
        """What is kept of a call."""
        with self._lock:
            if self._conn is None and not self.path.exists():
                return None
            row = self._open().execute("SELECT * FROM content WHERE call_id = ?", (call_id,)).fetchone()
        if row is None:
            return None
        call_id, at, request, response, *cut = row
        return Content(call_id, at, zstd.decompress(request), zstd.decompress(response), *map(bool, cut))

    def delete_before(self, at: int, most: int) -> int:
        """Delete some of the oldest, and give their space back."""
        with self._lock:
            if self._conn is None and not self.path.exists():
                return 0
            conn = self._open()
            oldest = "SELECT call_id FROM content WHERE at < ? ORDER BY at LIMIT ?"
            count = conn.execute(f"DELETE FROM content WHERE call_id IN ({oldest})", (at, most)).rowcount  # noqa: S608
            if count:
                # It returns a row per page, and frees the next one when that is asked for.
                conn.execute("PRAGMA incremental_vacuum").fetchall()
                # What was written before stands in the log beside the file until that begins anew.
                conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return count

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._conn is not None:
                self._conn.close()
                self._conn = None

    def _open(self) -> sqlite3.Connection:
        if self._conn is None:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            conn = connect(self.path, "rw")
            try:
                conn.execute("PRAGMA auto_vacuum=INCREMENTAL")
                conn.execute("PRAGMA journal_mode=WAL")
                conn.execute("PRAGMA synchronous=NORMAL")
                # What is deleted is gone, not merely unlisted.
                conn.execute("PRAGMA secure_delete=ON")
                conn.execute(
                    "CREATE TABLE IF NOT EXISTS content (call_id TEXT PRIMARY KEY, at INTEGER, request BLOB, response BLOB, "
                    "request_truncated INTEGER, response_truncated INTEGER)"
                )
                conn.execute("CREATE INDEX IF NOT EXISTS content_at ON content (at)")
            except BaseException:
                conn.close()
                raise
            self._conn = conn
        return self._conn


class ContentKeeper:
    """The way to a store: ``keep`` returns at once, a thread writes."""

    def __init__(self, store: ContentStore) -> None:
        self.store = store
        self.error: str | None = None
        """Why the last bodies could not be kept, if they could not."""
        self.dropped = 0
        self._waiting: dict[str, Content] = {}
        self._size = 0
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def keep(self, content: Content) -> None:
        """Have a call's bodies written soon."""
        with self._change:
            if self._closed or self._size + content.size > MAX_QUEUED_BYTES:
                self._drop("too much is waiting to be written")
                return
            self._waiting[content.call_id] = content
            self._size += content.size
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="sluicegate-content", daemon=True)
                self._thread.start()
            self._change.notify_all()

    def get(self, call_id: str) -> Content | None:
        """What is kept of a call, written already or not. Raises OSError, sqlite3.Error."""
        with self._change:
            found = self._waiting.get(call_id)
        return found or self.store.get(call_id)

    def delete_before(self, before: int, pause: Callable[[float], bool]) -> None:
        """Delete what began before a time, in small steps; ``pause`` waits so many seconds and says whether to stop."""
        try:
            for _ in range(MAX_BATCHES):
                if self.store.delete_before(before, DELETE_BATCH) < DELETE_BATCH or pause(0.02):
                    return
        except (sqlite3.Error, OSError) as e:
            logger.warning("old content cannot be deleted: %s", e)

    def close(self) -> None:
        """Write what is waiting, and let the store go."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(10)
        self.store.close()

    def _write(self) -> None:
        while True:
            with self._change:
                while not self._waiting:
                    if self._closed:
                        return
                    self._change.wait()
                content = next(iter(self._waiting.values()))
            try:
                self.store.put(content)
            except (sqlite3.Error, OSError) as e:
                with self._change:
                    self._drop(str(e))
            else:
                self.error = None
            with self._change:
                if self._waiting.get(content.call_id) is content:
                    del self._waiting[content.call_id]
                self._size -= content.size

    def _drop(self, why: str) -> None:
        self.dropped += 1
        if self.error is None:
            logger.warning("the content of calls cannot be kept (%s); calls go on", why)
        self.error = why
