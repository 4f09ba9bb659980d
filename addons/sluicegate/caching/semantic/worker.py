"""The thread in which questions are embedded and compared, so that no call's hook does; a call waits for it, within bounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from random import SystemRandom
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from sluicegate.caching.entry import Entry
from sluicegate.caching.rules import RulesOfPolicy
from sluicegate.caching.semantic.embedding import Embedder
from sluicegate.caching.semantic.rules import SemanticRules

if TYPE_CHECKING:
    from sluicegate.caching.semantic.similar import Candidate, SimilarQuestions

logger = logging.getLogger(__name__)

MAX_WAITING = 32
"""Most questions that wait for the thread; more are taken for new ones, or not remembered."""

MAX_WAIT_S = 1.0
"""How long a call waits for the thread; it takes milliseconds, unless the machine has no time."""


class ScopedQuestion(NamedTuple):
    """A call's question, and which answers it may have: of which owner, to calls equal in all else, and how old they may be."""

    owner: Hashable
    """Who shares the answers."""
    namespace: bytes
    """The hash of all that must be equal besides the question."""
    text: str
    ttl_ms: int


class Comparison(NamedTuple):
    """A kept answer that was not given, but is compared with the provider's."""

    candidate: Candidate
    kept: bytes


class SemanticWorker:
    """Finds similar questions, remembers new ones, and learns from comparisons, all in one thread."""

    def __init__(self, embedder: Embedder | None = None, chance: Callable[[], float] | None = None) -> None:
        self._embedder = embedder or Embedder()
        self._chance = chance or SystemRandom().random
        self._similar: SimilarQuestions | None = None
        """Made with the first question: its rules take a while to import, and most gateways have no use for them."""
        self._thread: ThreadPoolExecutor | None = None
        self._lock = Lock()
        self._waiting = 0
        self.rules = RulesOfPolicy(lambda policy: SemanticRules.of(policy.file.cache.semantic))
        self.hits = self.misses = self.saved_nano = self.agreed = self.disagreed = self.dropped = 0
        """Since the start: similar questions answered, those that asked their provider, what hits saved, comparisons, and questions
        that found too many others waiting."""

    @property
    def count(self) -> int:
        """Return how many questions are remembered."""
        return len(self._similar) if self._similar is not None else 0

    async def find(self, question: ScopedQuestion, *, threshold: float, error_bound: float, now: int) -> Candidate | None:
        """Return the kept answer that may serve a question; None without one, and while the model is being loaded."""
        similar = self._similar
        if not similar or not self._embedder.is_loaded:
            return None

        def work() -> Candidate | None:
            owner, namespace, text, _ = question
            return similar.find(owner, namespace, text, threshold=threshold, error_bound=error_bound, now=now)

        future = self._submit(work)
        if future is None:
            return None
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), MAX_WAIT_S)
        except TimeoutError:
            return None

    def note(self, question: ScopedQuestion, entry: Entry, now: int) -> None:
        """Remember a question whose answer is kept, soon. The first one loads the model."""
        self._submit(lambda: self._remember(question, entry, now))

    def compare(self, comparison: Comparison, question: ScopedQuestion, entry: Entry, now: int) -> None:
        """Learn, soon, whether a kept answer says what the provider says now; if not, the question is remembered with its own."""

        def work() -> None:
            from sluicegate.caching.semantic.answers import agree, text_of

            agreed = agree(text_of(comparison.kept), text_of(entry.body))
            self._questions().learn(comparison.candidate, agreed)
            self.agreed += agreed
            self.disagreed += not agreed
            if not agreed:
                self._remember(question, entry, now)

        self._submit(work)

    def _remember(self, question: ScopedQuestion, entry: Entry, now: int) -> None:
        from sluicegate.caching.semantic.similar import KeptAnswer

        owner, namespace, text, ttl_ms = question
        answer = KeptAnswer(entry.key, entry.owner, entry.model)
        self._questions().note(owner, namespace, text, answer, until=min(entry.until, now + ttl_ms), now=now)

    def clear(self, owned: Mapping[str, str] | None = None) -> int:
        """Forget the questions of those whom columns of the answers' file name, all by default; return how many. Blocking."""
        thread, similar = self._thread, self._similar
        return 0 if thread is None or similar is None else thread.submit(lambda: similar.clear(owned)).result()

    def close(self) -> None:
        """End the thread once it has done what it began."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=True)

    def _questions(self) -> SimilarQuestions:
        if self._similar is None:
            from sluicegate.caching.semantic.similar import SimilarQuestions

            self._similar = SimilarQuestions(self._embedder.embed, self._chance)
        return self._similar

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
