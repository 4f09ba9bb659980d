"""The one thread that uses the file of kept answers, and does what it is handed in that order.

An executor's thread does the same; handing it work takes four times as long, and every call whose answer is kept does that.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

logger = logging.getLogger("sluicegate")


class FileThread:
    """A thread that starts with the first work."""

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        # The interpreter does not wait for it at its end: whoever made it closes it.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def hand(self, work: Callable[[], object]) -> None:
        """Have some work done that nobody waits for; an exception is logged."""
        self._queue.put(work)

    def submit[T](self, work: Callable[[], T]) -> Future[T]:
        """Have some work done, and return what will have its result or exception."""
        future: Future[T] = Future()

        def done() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except BaseException as e:
                future.set_exception(e)

        self._queue.put(done)
        return future

    def close(self) -> None:
        """Do what is left, and end the thread. Blocking."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except Exception:
                logger.exception("Work on kept answers failed")
            # What it refers to is not kept until there is more work.
            del work
