"""The thread in which questions are embedded and compared, so that no call's hook does; a call waits for it, within bounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from random import SystemRandom
from threading import Lock

from sluicegate.caching.semantic.answers import agree, text_of
from sluicegate.caching.semantic.embedding import Embedder
from sluicegate.caching.semantic.similar import Candidate, SimilarQuestions

logger = logging.getLogger(__name__)

MAX_WAITING = 32
"""Most questions that wait for the thread; more are taken for new ones, or not remembered."""


class SemanticWorker:
    """Finds similar questions, remembers new ones, and learns from comparisons, all in one thread."""

    def __init__(self, embedder: Embedder | None = None, chance: Callable[[], float] | None = None) -> None:
        self._embedder = embedder or Embedder()
        self.similar = SimilarQuestions(self._embedder.embed, chance or SystemRandom().random)
        self._thread: ThreadPoolExecutor | None = None
        self._lock = Lock()
        self._waiting = 0
        self.dropped = 0
        """Questions that found too many others waiting."""

    async def find(
        self, owner: Hashable, namespace: bytes, text: str, *, threshold: float, error_bound: float, now: int
    ) -> Candidate | None:
        """Return the kept answer that may serve a question; None without one, and while the model is being loaded."""
        if not len(self.similar) or not self._embedder.is_loaded:
            return None

        def work() -> Candidate | None:
            return self.similar.find(owner, namespace, text, threshold=threshold, error_bound=error_bound, now=now)

        future = self._submit(work)
        return None if future is None else await asyncio.wrap_future(future)

    def note(self, owner: Hashable, namespace: bytes, text: str, key: bytes, *, until: int, now: int) -> None:
        """Remember a question whose answer has been kept, soon. The first one loads the model."""
        self._submit(lambda: self.similar.note(owner, namespace, text, key, until=until, now=now))

    def compare(self, candidate: Candidate, kept: bytes, answered: bytes, otherwise: Callable[[], None]) -> None:
        """Learn, soon, whether a kept answer says what the provider has answered now; call ``otherwise`` in the thread if not."""

        def work() -> None:
            agreed = agree(text_of(kept), text_of(answered))
            self.similar.learn(candidate, agreed)
            if not agreed:
                otherwise()

        self._submit(work)

    def clear(self, owner: Hashable = None) -> int:
        """Forget questions, of one owner or of all; return how many. Blocking."""
        if self._thread is None:
            return 0
        return self._thread.submit(lambda: self.similar.clear(owner)).result()

    def close(self) -> None:
        """End the thread once it has done what it began."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=True)

    def _submit[T](self, work: Callable[[], T]) -> Future[T | None] | None:
        """Run some work in the thread; None if too much waits for it. What goes wrong there is logged, and finds nothing."""
        with self._lock:
            if self._waiting >= MAX_WAITING:
                self.dropped += 1
                return None
            self._waiting += 1
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="sluicegate-semantic")
        return self._thread.submit(self._run, work)

    def _run[T](self, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except Exception as error:
            logger.debug("a question was not compared with others: %r", error)
            return None
        finally:
            with self._lock:
                self._waiting -= 1
