"""The fleet's time: a node's own clock, put right by the store's, so that windows turn at the same moment on every node."""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger("sluicegate")

TOLERANCE_MS = 5
"""How far two clocks are apart before one is put right, beside what the message's way makes uncertain."""

WARNING_MS = 1_000
"""From here on a node's clock is wrong enough to be told of."""


class FollowedClock:
    """A clock that follows the store's. Calling it returns epoch milliseconds; from any thread.

    Between two messages it goes on by ``steady``: were it the time of day of this machine, somebody who sets that back by an
    hour would take a node into windows that are long over, of which the store knows no use.
    """

    def __init__(self, own: Callable[[], int], steady: Callable[[], int] | None = None) -> None:
        """``own`` is the machine's time of day; ``steady`` counts milliseconds, and nobody sets it; without it ``own`` is both."""
        self.own = own
        self.steady = own if steady is None else steady
        self._ahead_ms = own() - self.steady()
        """The store's time less the steady clock's, as last put right; before the first message our own."""
        self.offset_ms = 0
        """The store's time less our own, as last measured."""
        self._has_warned = False

    def __call__(self) -> int:
        """Return the fleet's time."""
        return self.steady() + self._ahead_ms

    def observe(self, asked_at: int, answered_at: int, store_time: int) -> None:
        """Learn from a message, asked and answered at these times by the steady clock, what the store's clock said meanwhile.

        Half of the time between may be an error, so a difference that is no larger changes nothing.
        """
        measured = store_time - (asked_at + answered_at) // 2
        uncertain = max(0, answered_at - asked_at) // 2 + TOLERANCE_MS
        if abs(measured - self._ahead_ms) > uncertain:
            self._ahead_ms = measured
        offset = self() - self.own()
        if abs(offset - self.offset_ms) <= uncertain:
            return
        self.offset_ms = offset
        if not self.is_off:
            self._has_warned = False
        elif not self._has_warned:
            self._has_warned = True
            way = "behind" if offset > 0 else "ahead of"
            logger.warning(
                "This machine's clock is %.1f s %s the fleet's store; windows follow the store. Set the clock, for instance by NTP",
                abs(offset) / 1000,
                way,
            )

    @property
    def is_off(self) -> bool:
        """Return whether our own clock is so wrong that somebody should set it."""
        return abs(self.offset_ms) > WARNING_MS
