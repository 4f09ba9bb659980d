"""Histograms: what happened when, in buckets of time without gaps, in total or by model, user, team and so on."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sluicegate.logs.answers import average
from sluicegate.logs.filters import Filters
from sluicegate.logs.index import HOUR_MS, LATENCY_EDGES_MS
from sluicegate.logs.parameters import DIMENSIONS
from sluicegate.logs.totals import percentile, sums
from sluicegate.values import NANO, TOKEN_COLUMNS
from sluicegate.windows import DAY_MS, iso

MAX_SERIES = 50
"""How many names a histogram shows, those with the largest sums; its totals include all."""

BUCKETS = (
    (2 * HOUR_MS, 60),
    (DAY_MS, 600),
    (3 * DAY_MS, 3600),
    (7 * DAY_MS + HOUR_MS, 8 * 3600),
    (30 * DAY_MS + HOUR_MS, 86_400),
    (90 * DAY_MS + HOUR_MS, 3 * 86_400),
)
"""``(range in milliseconds, bucket in seconds)``: a range shorter than the first gets buckets of the second.

The last 7, 30 or 90 days are asked for by pages that move the start along only now and then: the hour keeps their buckets' size.
"""

LONG_BUCKET_S, LONGEST_BUCKET_S = 7 * 86_400, 30 * 86_400
"""Buckets, in seconds, for ranges up to a year and for longer ones."""

PERCENTILES = {"p90_latency": 0.90, "p95_latency": 0.95, "p99_latency": 0.99}

_TOKENS = ("calls", *TOKEN_COLUMNS)

MEASURES: dict[str, Sequence[str]] = {
    "requests": ("calls", "completed"),
    "tokens": _TOKENS,
    "cost": ("cost_nano",),
    "models": ("calls", "completed"),
    "latency": ("latency_ms", "timed"),
}
"""The kinds of histogram, and the measures each adds up."""

HISTOGRAM_DIMENSIONS: dict[str, tuple[str, ...]] = {
    "tokens": tuple(DIMENSIONS),
    "cost": tuple(DIMENSIONS),
    "latency": ("models", "providers"),
}
"""The dimensions by which a kind can be split."""


@dataclass(slots=True)
class Part:
    """The measures of one name in one bucket, and for latency how many calls are in each bin."""

    numbers: list[int]
    bins: dict[int, int] = field(default_factory=dict)

    def add(self, other: Part) -> None:
        """Add the measures of another part of the same kind."""
        self.numbers = [a + b for a, b in zip(self.numbers, other.numbers, strict=True)]
        for b, count in other.bins.items():
            self.bins[b] = self.bins.get(b, 0) + count


def histogram(conn: sqlite3.Connection, filters: Filters, kind: str, by: str | None, now: int) -> dict[str, Any]:
    """Return the buckets of a range of time; ``kind`` is a key of MEASURES, ``by`` one of DIMENSIONS or None."""
    filters, size = span(conn, filters, now)
    split_by = by or {"cost": "models", "models": "models"}.get(kind)
    parts = _parts(conn, filters, kind, DIMENSIONS[split_by] if split_by else None, size)
    shown = _largest(parts, kind) if split_by else []
    zeros = [0] * len(MEASURES[kind])
    buckets = []
    assert filters.start is not None
    assert filters.end is not None
    for number in range(filters.start // (size * 1000), -(-filters.end // (size * 1000))):
        names = parts.get(number, {})
        total = Part(zeros)
        for part in names.values():
            total.add(part)
        bucket: dict[str, Any] = {"timestamp": iso(number * size * 1000)}
        if kind != "models":
            bucket |= _values(kind, total)
        if split_by:
            by_name = {name: _values(kind, names[name]) for name in shown if name in names}
            if kind == "cost":
                bucket[f"by_{split_by.removesuffix('s')}"] = {n: v["total_cost"] for n, v in by_name.items()}
            else:
                bucket[f"by_{split_by.removesuffix('s')}"] = by_name
        buckets.append(bucket)
    answer = {"buckets": buckets, "bucket_size_seconds": size, **({split_by: shown} if split_by else {})}
    return answer | {"distribution": _distribution(parts)} if kind == "latency" else answer


def _distribution(parts: dict[int, dict[str, Part]]) -> list[dict[str, Any]]:
    """Return how many calls of the whole range took less than each edge, but not less than the one before; null: longer."""
    bins: Counter[int] = Counter()
    for names in parts.values():
        for part in names.values():
            bins.update(part.bins)
    return [{"under_ms": edge, "calls": bins[i]} for i, edge in enumerate((*LATENCY_EDGES_MS, None))]


def span(conn: sqlite3.Connection, filters: Filters, now: int) -> tuple[Filters, int]:
    """Return the filters with both ends of time, taken from the records where a filter has none, and the seconds of a bucket."""
    first, last = conn.execute("SELECT (SELECT min(at) FROM hours), (SELECT max(at) FROM hours)").fetchone()
    # A clock that was set back leaves calls after now.
    end = filters.end if filters.end is not None else max(now + 1, (last + 1) * HOUR_MS if last and last * HOUR_MS > now else 0)
    start = filters.start if filters.start is not None else first * HOUR_MS if first else now
    start = min(start, end)
    longest = LONG_BUCKET_S if end - start < 365 * DAY_MS else LONGEST_BUCKET_S
    size = next((seconds for limit, seconds in BUCKETS if end - start < limit), longest)
    return filters.between(start, end), size


def _parts(conn: sqlite3.Connection, filters: Filters, kind: str, dimension: str | None, size: int) -> dict[int, dict[str, Part]]:
    """Return the parts by bucket and name; the name is empty where nothing is split."""
    by = (dimension,) if dimension else ()
    measures = MEASURES[kind]
    parts: dict[int, dict[str, Part]] = defaultdict(dict)
    for (number, *names), numbers in sums(conn, filters, measures, by, size * 1000).items():
        parts[number][names[0] if names else ""] = Part(numbers)
    if kind == "latency":
        for (number, *names, b), (count,) in sums(conn, filters, ("calls",), (*by, "latency_bin"), size * 1000).items():
            parts[number][names[0] if names else ""].bins[b] = count
    return parts


def _values(kind: str, part: Part) -> dict[str, Any]:
    """Return the values shown for one bucket, or for one name in it."""
    numbers = part.numbers
    if kind in ("requests", "models"):
        return {"count" if kind == "requests" else "total": numbers[0], "success": numbers[1], "error": numbers[0] - numbers[1]}
    if kind == "cost":
        return {"total_cost": numbers[0] / NANO}
    if kind == "latency":
        shares = {name: percentile(part.bins, share) for name, share in PERCENTILES.items()}
        return {"avg_latency": average(*numbers), **shares, "total_requests": numbers[1]}
    tokens = dict(zip(TOKEN_COLUMNS, numbers[1:], strict=True))
    total, output = sum(tokens.values()), tokens["output_tokens"]
    values = {"prompt_tokens": total - output, "completion_tokens": output, "total_tokens": total}
    return values | {"cached_read_tokens": tokens["cache_read_tokens"]} | tokens


def _largest(parts: dict[int, dict[str, Part]], kind: str) -> list[str]:
    """Return the names with the largest sums, in alphabetical order."""
    totals: Counter[str] = Counter()
    for names in parts.values():
        for name, part in names.items():
            totals[name] += sum(part.numbers) if kind == "tokens" else part.numbers[0]
    return sorted(name for name, _ in totals.most_common(MAX_SERIES))
