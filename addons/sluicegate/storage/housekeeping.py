"""Periodic work in a thread of its own, so that no call waits for it: checkpoints, indexing, deleting old data."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from sluicegate.database import connection

logger = logging.getLogger("sluicegate")

INTERVAL_S = 2.0

WAL_BYTES = 1 << 20
"""Size of the write-ahead log at which it is copied into the database."""

CHECKPOINT_ROUNDS = 10
CHECKPOINT_BUSY_TIMEOUT_MS = 50


class Housekeeper:
    """A thread that does its tasks one after another every two seconds until it is stopped."""

    def __init__(self, tasks: Sequence[Callable[[], None]]) -> None:
        self._tasks = tasks
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sluicegate-housekeeping", daemon=True)

    def start(self) -> None:
        """Start the thread, if it is not running yet."""
        if self._thread.ident is None:
            self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Pause between two steps of a task; returns whether to stop."""
        return self._stop.wait(seconds)

    def stop(self) -> None:
        """Start no further task, and end a pause. Does not wait for the thread."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            for task in self._tasks:
                try:
                    task()
                except Exception:
                    logger.exception("Housekeeping: %s failed and will be tried again", getattr(task, "__qualname__", task))


def checkpoint(database: Path) -> None:
    """Copy the write-ahead log into the database where it has grown large, so that it can start over."""
    wal = database.with_name(f"{database.name}-wal")
    try:
        if wal.stat().st_size <= WAL_BYTES:
            return
        with connection(database, "rw", busy_timeout_ms=CHECKPOINT_BUSY_TIMEOUT_MS) as conn:
            # The log starts over only if all of it has been copied when the next call is written. Under load there
            # always is one: each round leaves less to copy, until a round fits between two calls.
            copied = 0
            for _ in range(CHECKPOINT_ROUNDS):
                _, pages, _ = conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if pages <= copied:
                    break
                copied = pages
    except (OSError, sqlite3.Error):
        # An error of the file itself will show in the next write, which reports it.
        return
