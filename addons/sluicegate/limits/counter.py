"""Counters: one limit's running numbers, in its present window and the one before."""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate.limits.changes import CounterRow
from sluicegate.limits.lease import Lease
from sluicegate.policy.limit import Limit
from sluicegate.windows import window

_NO_WINDOW = (None, None, None)


@dataclass(slots=True)
class Counter:
    """One limit's running numbers in its current window. ``start`` and ``end`` are epoch milliseconds, ``end`` None: never."""

    name: str
    anchor: int
    start: int
    end: int | None
    used: int = 0
    reserved: int = 0
    previous: tuple[int, int, int] | None = None
    """``(start, end, used)`` of the window before this one: a clock that ran ahead may come back to it."""
    lease: Lease | None = None
    """What this gateway may take where several share the limit; None where all of the limit is its own."""

    @property
    def row(self) -> CounterRow:
        """Return the counter as it is stored."""
        return self.name, self.anchor, self.start, self.end, self.used, *(self.previous or _NO_WINDOW)

    @property
    def used_by_all(self) -> int:
        """Return what is used of the present window, by other gateways too."""
        return self.used + (self.lease.used_elsewhere if self.lease is not None and self.lease.start == self.start else 0)

    def hold(self, start: int, amount: int) -> None:
        """Add to what calls in flight hold of the window with this start; nothing where it is over."""
        if self.start == start:
            self.reserved += amount

    def charge(self, start: int, amount: int) -> None:
        """Add to what was used in the window with this start; nothing where that is long over: then only the records have it."""
        if self.start == start:
            self.used += amount
        elif self.previous is not None and self.previous[0] == start:
            self.previous = (*self.previous[:2], self.previous[2] + amount)

    def adjust(self, end: int | None, amount: int) -> int:
        """Add to what was used in the window with this end, never below 0; return the change, 0 where the window is long over."""
        if self.end == end:
            change = max(amount, -self.used)
            self.used += change
            return change
        if self.previous is not None and self.previous[1] == end:
            change = max(amount, -self.previous[2])
            self.previous = (*self.previous[:2], self.previous[2] + change)
            return change
        return 0

    def correct(self, end: int | None, amount: int) -> int:
        """Do what ``adjust`` does where several gateways share the limit: what each has used stays, the change is apart from it."""
        if self.lease is None or self.end != end:
            # Before the store has answered, and of a window that is over, nobody here knows what all have used.
            return amount if self.has_window(end) else 0
        change = max(amount, -self.used_by_all)
        if self.lease.start == self.start:
            self.lease.used_elsewhere += change
        return change

    def start_of(self, end: int | None) -> int:
        """Return the start of the window with this end, the present one or the one before."""
        return self.start if self.end == end or self.previous is None else self.previous[0]

    def used_in(self, start: int) -> int | None:
        """Return what was used in the window with this start; None where it is neither the present one nor the one before."""
        if self.start == start:
            return self.used
        return self.previous[2] if self.previous is not None and self.previous[0] == start else None

    def used_on_return(self, start: int) -> int:
        """Return what it has used once the clock is back in the window with this start."""
        return self.used + (self.previous[2] if self.previous is not None and self.previous[0] == start else 0)

    def has_window(self, end: int | None) -> bool:
        """Return whether the window with this end is the present one or the one before."""
        return self.end == end or (self.previous is not None and self.previous[1] == end)

    def end_of_window_at(self, at: int) -> tuple[int | None] | None:
        """Return the end of the window that a time was in, in a tuple because it may be None; None for one long over."""
        if self.start <= at and (self.end is None or at < self.end):
            return (self.end,)
        if self.previous is not None and self.previous[0] <= at < self.previous[1]:
            return (self.previous[1],)
        return None


def own_usage(limit: Limit, found: Counter | None, anchor: int, now: int) -> tuple[int, int, int, int | None]:
    """Return ``(used, reserved, start, end)`` of a limit's window at ``now``, other gateways left out.

    ``anchor`` is that of a limit that has no counter yet.
    """
    start, end = window(limit.period, found.anchor if found else anchor, now) if limit.period else (now, None)
    if found is None:
        return 0, 0, start, end
    if limit.period is None or start == found.start:
        return found.used, found.reserved, found.start, found.end
    if start < found.start:
        return found.used_on_return(start), found.reserved, start, end
    return 0, 0, start, end
