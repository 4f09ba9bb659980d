"""Identical calls that are under way at the same time: the first one asks the provider, the others wait for its answer.

A call waits for a bounded time. Where the first one's client leaves, the next takes its place; where its answer cannot be given to
others, each asks for its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from sluicegate.caching.cache_key import CacheKey
from sluicegate.caching.entry import Entry

NotShared = Literal["not_shared"]
"""Said of an answer that is not for others: each call asks for its own."""

Result = Entry | NotShared | None
"""What a call brought: an answer for all, none for others, or None because it ended before there was any."""

MAX_WAIT_S = 120.0
"""How long a call waits for another's answer before it asks for its own."""

MAX_STREAM_WAIT_S = 50.0
"""The same for a call that wants a stream, whose client sees nothing until then: many proxies cut what is silent for 60 s."""

_LOOK_S = 1.0
"""How often a call that waits looks whether its client is still there."""


@dataclass(eq=False, slots=True)
class PendingAnswer:
    """The answer of a call that has asked the provider, for identical calls that wait for it."""

    key: CacheKey
    result: asyncio.Future[Result]
    clears: int = 0
    """How often answers had been cleared when it began: one that began before is not kept."""


class PendingAnswers:
    """Answers under way, by cache key. Used in the event loop only."""

    def __init__(self) -> None:
        self.by_key: dict[CacheKey, PendingAnswer] = {}
        self.max_wait_s = MAX_WAIT_S
        self.waiting = 0
        """Calls that wait for another's answer."""
        self.clears = 0
        """How often answers have been cleared."""

    def begin(self, key: CacheKey) -> PendingAnswer | None:
        """Return a new pending answer, which the caller must ``finish``; None if one with this key is under way."""
        begun = PendingAnswer(key, asyncio.get_running_loop().create_future(), self.clears)
        return begun if self.by_key.setdefault(key, begun) is begun else None

    async def wait(self, key: CacheKey, seconds: float, has_left: Callable[[], bool] = lambda: False) -> Result:
        """Return the result of the call under way with this key: ``not_shared`` after ``seconds``, None where there is none.

        A call whose client ``has_left`` waits no longer: it holds a place under its limits.
        """
        pending = self.by_key.get(key)
        if pending is None:
            return None
        self.waiting += 1
        until = monotonic() + seconds
        try:
            while not has_left():
                left = until - monotonic()
                # Whoever stops waiting does not end it for the others.
                if (await asyncio.wait((pending.result,), timeout=max(0.0, min(left, _LOOK_S))))[0]:
                    return pending.result.result()
                if left <= _LOOK_S:
                    self._forget(pending)
                    break
            return "not_shared"
        finally:
            self.waiting -= 1

    def finish(self, pending: PendingAnswer, result: Result) -> None:
        """Give a result to whoever waits. Only the first result of a call counts."""
        self._forget(pending)
        if not pending.result.done():
            pending.result.set_result(result)

    def _forget(self, pending: PendingAnswer) -> None:
        if (found := self.by_key.pop(pending.key, pending)) is not pending:
            # Nobody waits for this one any longer, and another call has begun.
            self.by_key[found.key] = found
