"""The watchdog: which workers have not been heard of, counted in the supervisor's own looks and not by any clock.

A worker says once a second, from the loop that answers calls, that it is there. Where the supervisor itself was stopped, with its
workers, with the whole container or with the machine, it finds that its look comes late, and counts anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

LOOK_S = 1.0
"""How often the supervisor looks, and how often a worker is to be heard of."""

LATE_S = 3.0
"""A look that comes so long after the one before is the first after a stop of the supervisor."""

SILENT_LOOKS = 5
"""After so many looks without a word new connections go to the other workers."""

HUNG_LOOKS = 30
"""After so many the worker is hung: it is killed, and another process takes its part."""


class Found(NamedTuple):
    """What a look has found."""

    silent: frozenset[int]
    """Workers that take no connections now."""
    hung: int | None
    """The worker to be replaced."""


class Watchdog:
    """Counts, by the numbers of workers."""

    def __init__(self) -> None:
        self._missed: dict[int, int] = {}
        self._looked_at: float | None = None
        self._replaced: int | None = None
        """The worker that was hung last, until it serves again."""

    def heard(self, number: int) -> None:
        """Note that a worker has said something."""
        self._missed[number] = 0

    def look(self, now: float, serving: Iterable[int]) -> Found:
        """Look at the workers that should be heard of; ``now`` is seconds by a clock that nobody sets.

        One is replaced at a time: what has stopped all of them, such as a disk, may stop the next one too.
        """
        is_late = self._looked_at is not None and now - self._looked_at > LATE_S
        self._looked_at = now
        self._missed = {number: 0 if is_late else self._missed.get(number, 0) + 1 for number in serving}
        if self._replaced in self._missed:
            self._replaced = None
        silent = frozenset(number for number, missed in self._missed.items() if missed > SILENT_LOOKS)
        hung = [number for number, missed in self._missed.items() if missed > HUNG_LOOKS]
        if self._replaced is not None or not hung:
            return Found(silent, None)
        self._replaced = hung[0]
        return Found(silent, hung[0])
