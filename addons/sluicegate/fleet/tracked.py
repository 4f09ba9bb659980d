"""One counter of this node as the store is told of it: what to say of its windows, and what an answer changes.

Between a message and its answer the node goes by what the message said it would (``slack``), never by what it had before: the
store may already have given the rest to another node. Pure but for the counter that it reads and whose lease it sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sluicegate.fleet.store.protocol import Granted, Position
from sluicegate.limits.counter import Counter
from sluicegate.limits.lease import Lease
from sluicegate.policy.limit import Limit, unit_of_counter
from sluicegate.values import Unit

IDLE_MS = 10_000
"""Slack that no call has needed for so long is given back."""

RATE_MS = 2_000
"""Over how long the use of a counter is observed, which says how much slack is worth having."""

SLICES = 4
"""How many such spans slack should last for."""

CALLS = 32
"""How many calls it should last for at least: an agent's many sub-agents begin at the same moment, after a pause."""


@dataclass(slots=True)
class Wanted:
    """The room that waiting calls need on one counter: the first one, and those behind it."""

    first: int
    more: int = 0


class Tracked:
    """A counter that is in use here."""

    def __init__(self, counter: Counter, limit: Limit | None, now: int) -> None:
        """Without a limit, as after a start, it is only told of; a call that comes under it brings it."""
        self.counter = counter
        self.unit: Unit = unit_of_counter(counter.name)
        self.maximum, self.crosses = 0, False
        if limit is not None:
            self.follow(limit)
        self.used_at = now
        """When a call last needed room."""
        self.amount = 0
        """What the dearest of the last calls took."""
        self.tight = False
        self._got = 0
        """The slack that the store granted last: more than that there was not."""
        self.recalled = False
        self.reported: tuple[int, int, int] | None = None
        """Start of the window, what was spent and what was held, as the store notes them; None where it may note more."""
        self._sent: tuple[int, int, int] | None = None
        self._sent_slack = 0
        self._sent_start: int | None = None
        """Start of the window that the store was last told of, answered or not."""
        self.draining: int | None = None
        """Start of the window before, while what it was charged is not told."""
        self._drained: tuple[int, int] | None = None
        """What was spent and held in that window, as last answered."""
        self._sent_of_draining: tuple[int, int] | None = None
        self._observed = (now, counter.used)
        self._spent_lately = 0

    @classmethod
    def after_join(cls, counter: Counter, now: int) -> Tracked | None:
        """Return it of a counter of which a node that joins has something to tell, and None where all it knows is long over.

        Nobody knows how much the store was told before, so the window before is told too, even where all of it was given back.
        """
        tracked, previous = cls(counter, None, now), counter.previous
        if previous is not None and not _is_long_over(previous[0], previous[1], now):
            tracked.draining = previous[0]
        is_over = counter.end is not None and counter.end <= now
        has_to_tell = not _is_long_over(counter.start, counter.end, now) if is_over else counter.used or counter.reserved
        return tracked if has_to_tell or tracked.draining is not None else None

    def follow(self, limit: Limit) -> None:
        """Note the limit's present maximum."""
        self.maximum, self.crosses = limit.maximum, not limit.only_what_fits

    def note_call(self, amount: int, now: int) -> None:
        """Note that a call has needed room."""
        self.used_at, self.amount = now, max(amount, self.amount * 7 // 8)

    def end_of(self, start: int) -> int | None:
        """Return the end of the present window or of the one before, by its start."""
        previous = self.counter.previous
        return previous[1] if previous is not None and previous[0] == start else self.counter.end

    @property
    def taken(self) -> int:
        """Return what is used and held of the present window."""
        return self.counter.used + self.counter.reserved

    @property
    def slack(self) -> int:
        """Return what the lease still allows beyond that."""
        lease = self.counter.lease
        return max(0, lease.granted - self.taken) if lease is not None and lease.start == self.counter.start else 0

    def keep(self, now: int) -> int:
        """Return how much slack is worth having."""
        began, spent = self._observed
        lately = max(0, self.counter.used - spent)
        if now - began >= RATE_MS:
            self._spent_lately = lately
            self._observed = now, self.counter.used
        if self.tight or self.recalled or now - self.used_at >= IDLE_MS:
            return 0
        return max(CALLS * self.amount, SLICES * max(lately, self._spent_lately))

    def is_due(self, now: int) -> bool:
        """Return whether there is something to tell, to ask for or to give back."""
        counter = self.counter
        if self.reported != (counter.start, counter.used, counter.reserved):
            return True
        keep, slack = self.keep(now), self.slack
        return (keep == 0 and slack > 0) or slack * 2 < min(keep, self._got)

    def is_idle(self, now: int) -> bool:
        """Return whether it can be forgotten until the next call: all is told, and nothing held or leased."""
        idle = now - self.used_at >= IDLE_MS
        return idle and self.draining is None and not self.counter.reserved and not self.slack and not self.is_due(now)

    def positions(self, now: int, wanted: Wanted | None, held_in: Callable[[str, int], int]) -> Iterator[Position]:
        """Yield what to say of the present window, and of the one before while that changes; ``held_in`` says what calls hold."""
        counter = self.counter
        if self._sent_start is not None and self._sent_start != counter.start:
            self.draining, self._drained = self._sent_start, None
        self._sent_start = counter.start
        if self.draining is not None:
            yield from self._position_before(self.draining, held_in)
        keep = self.keep(now)
        slack = 0 if keep == 0 else self.slack
        if (lease := counter.lease) is None or lease.start != counter.start:
            counter.lease = lease = Lease(counter.start)
        # From here on nothing beyond what is said now is taken without the answer.
        lease.granted = min(lease.granted, self.taken + slack) if lease.granted >= 0 else lease.granted
        self._sent, self._sent_slack = (counter.start, counter.used, counter.reserved), slack
        # Should no answer come, the store may have noted whatever was asked for, until it is told again.
        self.reported = None
        first, more = (wanted.first, wanted.more) if wanted is not None else (0, 0)
        yield Position(
            counter.name,
            self.unit,
            counter.start,
            counter.end,
            self.maximum,
            self.crosses,
            counter.used,
            counter.reserved,
            slack,
            first,
            more,
            keep,
        )

    def _position_before(self, start: int, held_in: Callable[[str, int], int]) -> Iterator[Position]:
        previous = self.counter.previous
        if previous is None or previous[0] != start:
            # Long over: only the records have what is charged to it now.
            self.draining = None
            return
        spent, held = previous[2], held_in(self.counter.name, start)
        if (spent, held) != self._drained:
            self._sent_of_draining = spent, held
            yield Position(self.counter.name, self.unit, start, previous[1], self.maximum, self.crosses, spent, held)
        elif not held:
            self.draining, self._drained = None, None

    def answered(self, granted: Granted, until: int) -> None:
        """Take over what the store has said of a window; ``until`` is when places in flight end, by the boot clock."""
        counter = self.counter
        if granted.start == self.draining:
            self._drained = self._sent_of_draining
        if granted.start != counter.start:
            return
        held = self._sent[2] if self._sent is not None else 0
        # Less than the slack that was said to be in use: the store has noted that, until it hears that nobody goes by it.
        is_less = self._sent_slack > 0 and granted.granted < granted.spent + held + self._sent_slack
        self.reported = None if is_less else self._sent
        self.tight, self.recalled = granted.tight, False
        self._got = max(0, granted.granted - self.taken)
        elsewhere = granted.used - granted.spent
        # The store counts at least what we have, even where it grants less because more is taken than the limit has.
        own = max(granted.granted, granted.spent + held)
        held_elsewhere = max(0, granted.taken - own - elsewhere - granted.slack_elsewhere)
        counter.lease = Lease(counter.start, granted.granted, elsewhere, held_elsewhere, granted.slack_elsewhere)
        if self.unit == "concurrent":
            counter.lease.until = until


def _is_long_over(start: int, end: int | None, now: int) -> bool:
    """Return whether the window after this one is over too: what is charged to this one stands in records alone."""
    return end is not None and now >= end + (end - start)
