"""Answers about many calls, in the shapes Bifrost gives them: statistics, rankings, and the names to filter by.

Money is in dollars, latency in milliseconds, rates and trends in percent. Calls without a user, team and so on are
listed under the empty name in histograms and under null in rankings.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import orjson

from sluicegate.logs.filters import Filters
from sluicegate.logs.index import FACET
from sluicegate.logs.parameters import DIMENSIONS, LABEL_DIMENSION
from sluicegate.logs.totals import Sums, sums
from sluicegate.values import NANO, Outcome, Reason

Answer = dict[str, Any]

MAX_FACETS = 50_000

CACHE = ("saved_nano", "cache_hits", "cache_misses")

STATISTICS = ("calls", "completed", "tokens", "cost_nano", "shadow_nano", "latency_ms", "timed", *CACHE)


def stats(conn: sqlite3.Connection, filters: Filters) -> Answer:
    """Return how many calls there were, how many completed, how long they took, and what they used and cost."""
    by_outcome = sums(conn, filters, STATISTICS, ("outcome",))
    added = map(sum, zip([0] * len(STATISTICS), *by_outcome.values(), strict=True))
    calls, completed, tokens, nano, shadow, latency, timed, *cached = added
    denied = by_outcome.get((Outcome.DENIED.value,), [0])[0]
    return {
        "total_requests": calls,
        "completed_requests": completed,
        "denied_requests": denied,
        "completion_rate": percent(completed, calls - denied) if calls > denied else None,
        "success_rate": percent(completed, calls),
        "average_latency": average(latency, timed),
        "total_tokens": tokens,
        "total_cost": nano / NANO,
        "total_shadow_cost": shadow / NANO,
        **_cached(*cached),
    }


RANKED_BY = {"requests": "total_requests", "tokens": "total_tokens", "cost": "total_cost", "latency": "avg_latency"}


def rankings(conn: sqlite3.Connection, filters: Filters, dimension: str, rank_by: str, limit: int, now: int) -> Answer:
    """Return the models, users, teams and so on with the most calls, cost or tokens, and the trend.

    The trend compares them with the period of equal length before.
    """
    columns = _columns(dimension)
    before: Sums = {}
    if filters.start is not None:
        length = (now if filters.end is None else filters.end) - filters.start
        before = _sums_by(conn, filters.between(filters.start - length, filters.start), dimension)
    entries = []
    for names, numbers in _sums_by(conn, filters, dimension).items():
        entry: Answer = {column: name or None for column, name in zip(columns, names, strict=True)}
        entries.append(entry | _ranked(numbers) | {"trend": _trend(before.get(names), numbers)})
    entries.sort(key=lambda e: (-e[RANKED_BY[rank_by]], str(e[columns[0]])))
    return {"rankings": entries[:limit], "dimension": dimension}


def _columns(dimension: str) -> tuple[str, ...]:
    if dimension.startswith(LABEL_DIMENSION):
        return ("label",)
    return ("model", "provider") if dimension == "models" else (DIMENSIONS[dimension],)


def _sums_by(conn: sqlite3.Connection, filters: Filters, dimension: str) -> Sums:
    """Return the statistics by the names of a dimension, or by the values of a label."""
    if not dimension.startswith(LABEL_DIMENSION):
        return sums(conn, filters, STATISTICS, _columns(dimension))
    label, found = dimension.removeprefix(LABEL_DIMENSION), Sums()
    for (labels,), numbers in sums(conn, filters, STATISTICS, ("labels",)).items():
        value = (orjson.loads(labels).get(label, "") if labels else "",)
        found[value] = [a + b for a, b in zip(found.get(value, [0] * len(numbers)), numbers, strict=True)]
    return found


def _ranked(numbers: list[int]) -> Answer:
    calls, completed, tokens, nano, shadow, latency, timed, *cached = numbers
    return {
        "total_requests": calls,
        "success_count": completed,
        "success_rate": percent(completed, calls),
        "total_tokens": tokens,
        "total_cost": nano / NANO,
        "total_shadow_cost": shadow / NANO,
        **_cached(*cached),
        "avg_latency": average(latency, timed),
    }


def _cached(saved: int, hits: int, misses: int) -> Answer:
    """Return what the cache did: how often it answered and had no answer, its share of both in percent, dollars saved."""
    rate = percent(hits, hits + misses) if hits + misses else None
    return {"cache_hits": hits, "cache_misses": misses, "cache_hit_rate": rate, "total_saved": saved / NANO}


def _trend(before: list[int] | None, numbers: list[int]) -> Answer:
    now, then = _ranked(numbers), _ranked(before or [0] * len(STATISTICS))
    changes = {f"{name}_trend": change(then[field], now[field]) for name, field in RANKED_BY.items()}
    return {"has_previous_period": before is not None, **changes}


def facets(conn: sqlite3.Connection, filters: Filters) -> Answer:
    """Return what calls can be filtered by: every name that has occurred, without the models of refused calls.

    Clients may have made those up.
    """
    where, values = filters.names()
    seen = conn.execute(f"SELECT {', '.join(FACET)} FROM facets WHERE {where} LIMIT {MAX_FACETS}", values).fetchall()
    found: Answer = {}
    for name, column in DIMENSIONS.items():
        position, outcome = FACET.index(column), FACET.index("outcome")
        excluded = Outcome.DENIED.value if column == "model" else None
        found[name] = sorted({f[position] for f in seen if f[position] and f[outcome] != excluded})
    labels: dict[str, set[str]] = {}
    for text in {f[FACET.index("labels")] for f in seen} - {""}:
        for label, value in orjson.loads(text).items():
            labels.setdefault(label, set()).add(value)
    found["labels"] = {label: sorted(values) for label, values in sorted(labels.items())}
    return found | {"outcomes": [o.value for o in Outcome], "reasons": [r.value for r in Reason]}


def percent(part: int, whole: int) -> float:
    """Return a share in percent, 0 where there is no whole."""
    return round(100 * part / whole, 2) if whole else 0.0


def average(total: int, count: int) -> float:
    """Return a mean, 0 where there is nothing to average."""
    return round(total / count, 2) if count else 0.0


def change(before: float, now: float) -> float:
    """Return by how many percent something has changed, 0 if there was nothing before."""
    return round(100 * (now - before) / before, 2) if before else 0.0
