"""Free requests: how many of them each caller has made in its present minute, counted in memory.

What costs nothing is counted apart from the policy's request limits, so that token counts and settings do not use up what
is meant for model calls; without any limit a caller could still use up the provider's own limits for everybody.
"""

from __future__ import annotations

from sluicegate.limits.claims import Exhausted
from sluicegate.policy.limit import Limit
from sluicegate.windows import parse_period

WINDOW_MS = 60_000

MAX_CALLERS = 10_000
"""Callers that are remembered; the addresses among them are chosen by the callers."""


class FreeRequests:
    """Counters of free requests by caller. A caller's window begins with its first request after the last one."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], tuple[int, int]] = {}
        """By scope kind and id: when the window began, epoch milliseconds, and the requests in it."""

    def take(self, kind: str, scope_id: str, maximum: int, now: int) -> Exhausted | None:
        """Count a request at ``now``, epoch milliseconds, or count nothing and return the exhausted limit."""
        caller = kind, scope_id
        began, used = self._windows.get(caller, (now, 0))
        if not began <= now < began + WINDOW_MS:
            began, used = now, 0
            self._windows.pop(caller, None)
        if used >= maximum:
            label = "free requests of " + ("VK" if kind == "virtual_key" else kind)
            limit = Limit(kind, scope_id, label, "requests", maximum, parse_period("1m"), False, f"{kind}/{scope_id}/free")
            return Exhausted(limit, used, 1, began + WINDOW_MS)
        if caller not in self._windows and len(self._windows) >= MAX_CALLERS:
            # The first is the one whose window began first: a window that ends goes, and its caller comes in at the end.
            del self._windows[next(iter(self._windows))]
        self._windows[caller] = (began, used + 1)
        return None
