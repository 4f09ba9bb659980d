"""When the store of the sign-ins was away: what was answered right before may not have reached its client."""

from __future__ import annotations

GRACE_MS = 60_000
"""For how long after an outage what was last before it counts as a moment ago."""


class Outages:
    """The last outage, as one process has seen it. Times are epoch milliseconds."""

    def __init__(self) -> None:
        self._began: int | None = None
        self._last: tuple[int, int] | None = None

    def note(self, now: int, *, is_away: bool) -> None:
        """Note whether the store has answered."""
        if is_away:
            self._began = now if self._began is None else self._began
        elif self._began is not None:
            self._last, self._began = (self._began, now), None

    def before(self, now: int) -> int:
        """Return the time, or where an outage has just ended, when it began."""
        if self._last is not None and self._last[1] <= now < self._last[1] + GRACE_MS:
            return min(now, self._last[0])
        return now
