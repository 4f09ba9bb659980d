"""Calls that wait for room: each is tried again with every answer of the store, and refused once it cannot be admitted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sluicegate.fleet.store.protocol import Granted
from sluicegate.fleet.tracked import Wanted
from sluicegate.limits.claims import Exhausted
from sluicegate.limits.counter import Counter
from sluicegate.policy.limit import Limit

MAX_RECALLS = 13
"""How often a call asks again that was refused because of slack elsewhere, which other nodes have been asked to give back."""

FIRST_RECALL_PAUSE_S, RECALL_PAUSE_S = 0.01, 0.1
"""The pause before it does so for the first time, twice as long each time, up to the second of these."""

TIMEOUT_S = 5.0
"""How long a call waits for the store at most."""


class Away(Exception):
    """The store gives no answer, and what is leased does not suffice."""


@dataclass(slots=True, eq=False)
class Ask:
    """A call that waits."""

    requested: Sequence[tuple[Limit, int]]
    """What it needs of each limit beyond what it holds already."""
    attempt: Callable[[], Exhausted | None]
    """Reserves it, or says why not."""
    deadline: float
    """By the loop's clock."""
    done: asyncio.Future[Exhausted | None]
    recalls: int = 0
    not_before: float = 0.0

    def is_over(self) -> bool:
        """Return whether nobody waits for it any more."""
        return self.done.done()

    def resolve(self, result: Exhausted | None) -> None:
        """Tell how it ended."""
        if not self.done.done():
            self.done.set_result(result)

    def fail(self) -> None:
        """Tell that nobody could say."""
        if not self.done.done():
            self.done.set_exception(Away())


@dataclass(slots=True)
class Asks:
    """The calls that wait, in the order in which they came."""

    waiting: list[Ask] = field(default_factory=list)
    asked: int = 0
    """Calls that had to wait for the store since the start."""

    def due(self, now: float) -> list[Ask]:
        """Return those to ask for now."""
        return [ask for ask in self.waiting if ask.not_before <= now and not ask.is_over()]

    def after_answer(
        self,
        sent: Iterable[Ask],
        answers: Mapping[str, Granted],
        wanted: Mapping[str, Wanted],
        present: Mapping[str, Counter],
        now: float,
    ) -> None:
        """Try the calls that were asked for, and refuse those of which the store has said no.

        One that neither fits nor is refused, because others behind the same limit came first or because the window has turned
        meanwhile, goes along with the next message. ``present`` are the counters, in their present windows.
        """
        for ask in sent:
            if ask.is_over():
                continue
            exhausted = ask.attempt()
            if exhausted is None:
                ask.resolve(None)
                continue
            answer = answers.get(exhausted.limit.counter)
            if answer is None or answer.allowed or answer.start != present[answer.counter].start:
                continue
            if not _is_refused(ask, exhausted, wanted.get(answer.counter)):
                continue
            if answer.slack_elsewhere > 0 and ask.recalls < MAX_RECALLS:
                ask.recalls += 1
                ask.not_before = now + min(RECALL_PAUSE_S, FIRST_RECALL_PAUSE_S * 2 ** (ask.recalls - 1))
            else:
                ask.resolve(exhausted)
        self.drop_ended(now)

    def without_store(self, now: float) -> None:
        """Try every call that waits once more by what is leased, and give up those that do not fit."""
        for ask in self.waiting:
            if ask.is_over():
                continue
            if ask.attempt() is None:
                ask.resolve(None)
            else:
                ask.fail()
        self.drop_ended(now)

    def drop_ended(self, now: float) -> None:
        """Forget the calls that have been told, and give up those that have waited too long."""
        for ask in self.waiting:
            if now >= ask.deadline:
                ask.fail()
        self.waiting = [ask for ask in self.waiting if not ask.is_over()]


def _is_refused(ask: Ask, exhausted: Exhausted, wanted: Wanted | None) -> bool:
    """Return whether a call needs at least as much as the one that the store has refused."""
    if wanted is None or not exhausted.limit.only_what_fits:
        return True
    return room_of(ask, exhausted.limit.counter) >= wanted.first


def room_of(ask: Ask, counter: str) -> int:
    """Return what a call needs of one counter: something, even if it is free, because a soft limit that is full refuses it."""
    return max((max(1, amount) for limit, amount in ask.requested if limit.counter == counter), default=1)
