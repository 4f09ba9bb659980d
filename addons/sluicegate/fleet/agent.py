"""The agent: the thread that speaks with the fleet's store, so that the proxy's loop never waits for a database.

It does one thing after another, in the order in which they were asked, and hands each result back to the loop. A connection
that hangs is cut after a while, so that whoever waits is told.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sluicegate.fleet.store.protocol import FleetError, FleetStore

logger = logging.getLogger("sluicegate")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
"""The pause after the first failure, doubled with each one that follows, up to the longest."""

CLOSING_S = 5.0
"""How long a gateway that stops waits for its last message."""


@dataclass(slots=True)
class Task:
    """Something to do with the store, and who is told of its end."""

    work: Callable[[FleetStore], Any]
    done: Callable[[Any, FleetError | None], None]
    """Called in the agent's thread, with what ``work`` has returned or why it failed."""


class Agent:
    """The thread and its queue."""

    def __init__(self, store: FleetStore) -> None:
        self._store = store
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sluicegate-fleet", daemon=True)
        self._failures = 0
        self.errors = 0
        """How often the store could not be reached or did not do what it was asked."""
        self.error: str | None = None
        """Why the last task failed; None where it did not."""
        self._closing = threading.Event()

    def start(self) -> None:
        """Start, if it has not been started yet."""
        if self._thread.ident is None:
            self._thread.start()

    def submit(self, work: Callable[[FleetStore], Any], done: Callable[[Any, FleetError | None], None]) -> None:
        """Do something with the store when it is its turn. From any thread."""
        self._tasks.put(Task(work, done))

    def close(self) -> None:
        """Finish what has been submitted, as far as that is quickly done, and close the store."""
        self._closing.set()
        self._tasks.put(None)
        if self._thread.ident is not None:
            self._thread.join(CLOSING_S)
        if not self._thread.is_alive():
            self._store.close()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                result = task.work(self._store)
            except FleetError as e:
                self._failed(e)
                task.done(None, e)
                # Whoever waits has been told; the next attempt need not follow at once.
                self._closing.wait(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10)))
            except Exception as e:
                logger.exception("A message to the fleet's store failed")
                task.done(None, FleetError(f"{type(e).__name__}: {e}"))
            else:
                if self.error is not None:
                    logger.warning("The fleet's store answers again")
                self._failures, self.error = 0, None
                task.done(result, None)

    def _failed(self, error: FleetError) -> None:
        self.errors += 1
        self._failures += 1
        if self.error is None:
            logger.warning("The fleet's store cannot be reached; calls go on as far as what is leased: %s", error)
        self.error = str(error)
