"""Running totals of finished calls, kept as plain integers; every metric is computed from these when it is scraped."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import NamedTuple

from sluicegate.calls.record import Record
from sluicegate.values import TOKEN_COLUMNS

TOKEN_TYPES = {column: column.removesuffix("_tokens") for column in TOKEN_COLUMNS}
"""A record's column, and the value of the label ``token_type`` that stands for it."""

OTHER_MODELS = "other"
"""Label for models beyond those that get series of their own."""

LATENCY_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
FIRST_BYTE_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
PER_TOKEN_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28)
"""Upper bounds of histogram buckets, in seconds."""


class CallLabels(NamedTuple):
    """The caller and the model of calls that share one total; "" where a level does not apply."""

    provider: str
    model: str
    virtual_key_id: str
    user_id: str
    team_id: str
    customer_id: str
    project_id: str


@dataclass(slots=True)
class CallTotals:
    """Totals of one caller's calls to one model."""

    outcomes: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    """Calls that went upstream and were not completed, by status; 499 where the client left, 0 where no answer came."""
    tokens: dict[str, int] = field(default_factory=dict)
    """Tokens by the name of the record's column."""
    cached: dict[str, int] = field(default_factory=dict)
    """Calls by what the cache did."""
    cost_nano: int = 0
    shadow_nano: int = 0
    saved_nano: int = 0

    def add(self, other: CallTotals) -> None:
        """Add the other totals to these."""
        for name in ("outcomes", "errors", "tokens", "cached"):
            counts, more = getattr(self, name), getattr(other, name)
            for key, count in list(more.items()):
                counts[key] = counts.get(key, 0) + count
        self.cost_nano += other.cost_nano
        self.shadow_nano += other.shadow_nano
        self.saved_nano += other.saved_nano


class Histogram:
    """A histogram of durations in seconds; its counts are made cumulative only when they are read."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def merged_with(self, other: Histogram) -> Histogram:
        """Return both histograms as one; their bounds must be the same."""
        both = Histogram(self.bounds)
        both.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        both.total = self.total + other.total
        return both

    def cumulative(self) -> list[tuple[str, float]]:
        """Return ``(upper bound, number of durations up to it)`` pairs, as Prometheus expects them."""
        running, found = 0, []
        for bound, count in zip((*map(str, map(float, self.bounds)), "+Inf"), list(self.counts), strict=True):
            running += count
            found.append((bound, float(running)))
        return found


class Latencies:
    """How long one model's calls took: whole calls, first bytes, and seconds per token of streamed answers."""

    __slots__ = ("completed", "first_byte_streamed", "first_byte_unstreamed", "not_completed", "per_token")

    def __init__(self) -> None:
        self.completed, self.not_completed = Histogram(LATENCY_BUCKETS_S), Histogram(LATENCY_BUCKETS_S)
        self.first_byte_streamed, self.first_byte_unstreamed = Histogram(FIRST_BYTE_BUCKETS_S), Histogram(FIRST_BYTE_BUCKETS_S)
        self.per_token = Histogram(PER_TOKEN_BUCKETS_S)

    def observe(self, record: Record) -> None:
        """Count a call that went upstream."""
        seconds, first_ms = record["latency_ms"] / 1000, record["ttft_ms"]
        (self.completed if record["outcome"] == "completed" else self.not_completed).observe(seconds)
        if first_ms is None:
            return
        first = first_ms / 1000
        if not record["stream"]:
            self.first_byte_unstreamed.observe(first)
            return
        self.first_byte_streamed.observe(first)
        if (tokens := record["output_tokens"]) > 1:
            self.per_token.observe((seconds - first) / (tokens - 1))
