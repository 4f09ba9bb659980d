"""The health of each target: its errors and latency by recent calls, its breaker, and what weight that leaves it.

Pure: times are passed in, epoch milliseconds. A figure is the mean of recent calls, each counting less the older it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HALF_LIFE_MS = 60_000
"""After this time a call counts half."""

OPENING_FAILURES = 5
"""Failures in a row that open a breaker."""

OPEN_MS = 30_000
"""How long an open breaker keeps calls away before one of them tries the target again."""

PROBE_MS = 30_000
"""How long that one call may take before another one is let through."""

MIN_FACTOR = 0.05
"""The share of its weight that a target keeps however it does: without calls nobody would learn that it has recovered."""

TOLERATED_MS = 500
"""How much later than the fastest target's a first byte may come without a loss of weight.

So 80 to 20 stays that between two that do well.
"""

LEAST_CALLS = 3.0
"""Recent calls without which a latency says nothing: the first one of a connection is a slow one anywhere."""

State = Literal["closed", "open", "half_open"]


@dataclass(slots=True)
class Health:
    """What is known of one target."""

    error_rate: float = 0.0
    latency_ms: float = 0.0
    headroom: float = 1.0
    """The share of its rate limits that the provider says is left, 1 where it says nothing."""
    calls: float = 0.0
    """Calls counted, each by its age."""
    failures: int = 0
    """Failures in a row."""
    opened_at: int | None = None
    probed_at: int | None = None
    updated_at: int = 0

    def note(self, now: int, *, is_failure: bool, latency_ms: int | None = None, headroom: float | None = None) -> None:
        """Count an attempt that has ended. One that succeeds closes the breaker."""
        self._age(now)
        self.calls += 1
        self.error_rate += (float(is_failure) - self.error_rate) / self.calls
        if latency_ms is not None and not is_failure:
            # 0 stands for none known, and an answer within the millisecond is known.
            latency_ms = max(1, latency_ms)
            self.latency_ms += (latency_ms - self.latency_ms) / self.calls if self.latency_ms else latency_ms
        if headroom is not None:
            self.headroom = headroom
        if not is_failure:
            self.failures, self.opened_at, self.probed_at = 0, None, None
            return
        self.failures += 1
        if self.failures >= OPENING_FAILURES or self.opened_at is not None:
            self.opened_at, self.probed_at = now, None

    def state(self, now: int) -> State:
        """Return the breaker's state: calls keep away from an open one, and a single one tries a half-open one."""
        if self.opened_at is None:
            return "closed"
        return "open" if now < self.opened_at + OPEN_MS else "half_open"

    def admits(self, now: int) -> bool:
        """Return whether a call may go to the target; taken while the breaker is half open, it is the one that tries."""
        state = self.state(now)
        if state != "half_open":
            return state == "closed"
        return self.probed_at is None or now >= self.probed_at + PROBE_MS

    def begin(self, now: int) -> None:
        """Note that a call goes to the target."""
        if self.state(now) == "half_open":
            self.probed_at = now

    def recent_errors(self, now: int) -> float:
        """Return the share of attempts that failed, which falls while there are none."""
        weight_of_past = 0.5 ** (max(0, now - self.updated_at) / HALF_LIFE_MS)
        return self.error_rate * weight_of_past if self.calls else 0.0

    def factor(self, now: int, fastest_ms: float) -> float:
        """Return by what its weight is multiplied, from MIN_FACTOR to 1: by its errors, its latency and its headroom.

        ``fastest_ms`` is the latency of the fastest target it competes with; 0 where none is known.
        """
        errors = self.recent_errors(now)
        usual_ms = fastest_ms + TOLERATED_MS
        slowness = usual_ms / self.latency_ms if fastest_ms and self.calls >= LEAST_CALLS and self.latency_ms > usual_ms else 1.0
        # Latency is half of what errors are: a slow answer is an answer.
        factor = (1 - errors) ** 2 * (0.5 + 0.5 * slowness) * min(1.0, 0.25 + self.headroom)
        return max(MIN_FACTOR, min(1.0, factor))

    def _age(self, now: int) -> None:
        passed = max(0, now - self.updated_at) if self.updated_at else 0
        self.calls *= 0.5 ** (passed / HALF_LIFE_MS)
        self.updated_at = max(now, self.updated_at)
