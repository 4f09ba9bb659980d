"""What is counted of finished calls, kept as plain integers: every metric is worked out of these when somebody scrapes."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import NamedTuple

from sluicegate.calls.record import TOKEN_COLUMNS, Record
from sluicegate.values import Outcome

TOKEN_TYPES = {column: column.removesuffix("_tokens") for column in TOKEN_COLUMNS}
"""A record's column to the value of the label ``token_type``."""

LATENCY = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
FIRST_BYTE = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28)
"""Upper bounds of histogram buckets, seconds."""


class Who(NamedTuple):
    """Whose calls to which model a tally counts; "" where a level does not apply."""

    provider: str
    model: str
    virtual_key_id: str
    user_id: str
    team_id: str
    customer_id: str
    project_id: str


@dataclass(slots=True)
class Tally:
    """What one caller's calls to one model came to."""

    outcomes: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    """Calls that went upstream and did not end well, by status; 499 where the client left, 0 where no answer came."""
    tokens: dict[str, int] = field(default_factory=dict)
    """By the name of the record's column."""
    cost_nano: int = 0

    def add(self, other: Tally) -> None:
        """Count another's calls here too."""
        for mine, more in ((self.outcomes, other.outcomes), (self.errors, other.errors), (self.tokens, other.tokens)):
            for name, count in list(more.items()):
                mine[name] = mine.get(name, 0) + count
        self.cost_nano += other.cost_nano


class Buckets:
    """A histogram of seconds. Not cumulative until somebody asks."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def plus(self, other: Buckets) -> Buckets:
        """Both together; the bounds are the same."""
        both = Buckets(self.bounds)
        both.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        both.total = self.total + other.total
        return both

    def cumulative(self) -> list[tuple[str, float]]:
        """``(upper bound, how many were not above it)``, as Prometheus wants them."""
        seen, found = 0, []
        for bound, count in zip((*map(str, map(float, self.bounds)), "+Inf"), list(self.counts), strict=True):
            seen += count
            found.append((bound, float(seen)))
        return found


class Timing:
    """How long one model's calls took."""

    __slots__ = ("ended_badly", "ended_well", "per_token", "plain", "streamed")

    def __init__(self) -> None:
        self.ended_well, self.ended_badly = Buckets(LATENCY), Buckets(LATENCY)
        self.streamed, self.plain = Buckets(FIRST_BYTE), Buckets(FIRST_BYTE)
        self.per_token = Buckets(PER_TOKEN)

    def observe(self, record: Record) -> None:
        """Count a call that went upstream."""
        seconds = record["latency_ms"] / 1000
        (self.ended_well if record["outcome"] == Outcome.COMPLETED else self.ended_badly).observe(seconds)
        if record["ttft_ms"] is None:
            return
        first = record["ttft_ms"] / 1000
        (self.streamed if record["stream"] else self.plain).observe(first)
        if record["stream"] and record["output_tokens"] > 1:
            self.per_token.observe((seconds - first) / (record["output_tokens"] - 1))
