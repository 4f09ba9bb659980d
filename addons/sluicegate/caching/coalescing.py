"""Identical calls that are under way at the same time: the first one asks the provider, the others wait for its answer.

A call waits for a bounded time. Where the first one's client leaves, the next takes its place; where its answer cannot be given to
others, each asks for its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from sluicegate.caching.entry import Entry

NotShared = Literal["not_shared"]
"""Said of an answer that is not for others: each call asks for its own."""

Result = Entry | NotShared | None
"""What a call brought: an answer for all, none for others, or None because it ended before there was any."""

MAX_WAIT_S = 120.0
"""How long a call waits for another's answer before it asks for its own."""


@dataclass(eq=False, slots=True)
class PendingAnswer:
    """The answer of a call that has asked the provider, for identical calls that wait for it."""

    key: bytes
    """The call's cache key."""
    result: asyncio.Future[Result]


class PendingAnswers:
    """Answers under way, by cache key. Used in the event loop only."""

    def __init__(self) -> None:
        self.by_key: dict[bytes, PendingAnswer] = {}
        self.max_wait_s = MAX_WAIT_S
        self.waiting = 0
        """Calls that wait for another's answer."""

    def begin(self, key: bytes) -> PendingAnswer | None:
        """Return a new pending answer, which the caller must ``finish``; None if one with this key is under way."""
        if key in self.by_key:
            return None
        begun = self.by_key[key] = PendingAnswer(key, asyncio.get_running_loop().create_future())
        return begun

    async def wait(self, key: bytes, seconds: float) -> Result:
        """Return the result of the call under way with this key: ``not_shared`` after ``seconds``, None where there is none."""
        pending = self.by_key.get(key)
        if pending is None:
            return None
        self.waiting += 1
        try:
            # Whoever stops waiting does not end it for the others.
            return await asyncio.wait_for(asyncio.shield(pending.result), seconds)
        except TimeoutError:
            self._forget(pending)
            return "not_shared"
        finally:
            self.waiting -= 1

    def finish(self, pending: PendingAnswer, result: Result) -> None:
        """Give a result to whoever waits. Only the first result of a call counts."""
        self._forget(pending)
        if not pending.result.done():
            pending.result.set_result(result)

    def _forget(self, pending: PendingAnswer) -> None:
        if self.by_key.get(pending.key) is pending:
            del self.by_key[pending.key]
