"""Calls added up: from the sums by day and hour wherever those can answer, from entries at the ends of a range."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluicegate.logs.filters import Filters
from sluicegate.logs.index import FACET, HOUR_MS, KINDS, LATENCY_BIN, LATENCY_EDGES_MS, MEASURES
from sluicegate.logs.reading import route
from sluicegate.windows import DAY_MS

Sums = dict[tuple[Any, ...], list[int]]
"""Sums by the number of the bucket of time, if there are buckets, then by the names."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of sums: the milliseconds of each sum, the names it groups by, and whether those are a facet's number."""

    name: str
    unit_ms: int
    dimensions: tuple[str, ...]
    by_facet: bool = False


TABLES = (
    Table("hours", HOUR_MS, KINDS),
    Table("days", DAY_MS, FACET, by_facet=True),
    Table("latencies", DAY_MS, (*KINDS, "latency_bin")),
    Table("facet_latencies", DAY_MS, (*FACET, "latency_bin"), by_facet=True),
)
"""From small to large; those with latencies hold nothing else."""


def sums(conn: sqlite3.Connection, filters: Filters, measures: Sequence[str], by: Sequence[str] = (), bucket: int = 0) -> Sums:
    """Return the measures of the calls that match, by names and by buckets of ``bucket`` milliseconds (0: no buckets).

    Measures are those of the index; names are those of a facet, and ``latency_bin``.
    """
    found: Sums = {}
    for sql, values in _queries(conn, filters, measures, by, bucket):
        for row in conn.execute(sql, values):
            key, numbers = row[: -len(measures)], [n or 0 for n in row[-len(measures) :]]
            have = found.get(key)
            found[key] = numbers if have is None else [a + b for a, b in zip(have, numbers, strict=True)]
    return found


Query = tuple[str, list[Any]]


def _queries(
    conn: sqlite3.Connection, filters: Filters, measures: Sequence[str], by: Sequence[str], bucket: int
) -> Iterator[Query]:
    """Yield queries whose results add up: on a table of sums for whole days or hours, on entries for the rest."""
    table = _table_for(filters, by, bucket)
    start, end = filters.start, filters.end
    low = None if table is None or start is None else -(-start // table.unit_ms)
    high = None if table is None or end is None else end // table.unit_ms
    if table is None or (low is not None and high is not None and low >= high):
        yield _of_entries(conn, filters, measures, by, bucket)
        return
    yield _of_sums(table, filters, (low, high), measures, by, bucket)
    if low is not None and low * table.unit_ms != start:
        yield _of_entries(conn, filters.between(start, low * table.unit_ms), measures, by, bucket)
    if high is not None and high * table.unit_ms != end:
        yield _of_entries(conn, filters.between(high * table.unit_ms, end), measures, by, bucket)


def _table_for(filters: Filters, by: Sequence[str], bucket: int) -> Table | None:
    """Return the smallest table of sums that has every name in question, if one does."""
    names = {*filters.columns, *by}
    for table in TABLES if filters.is_summable else ():
        latencies = "latency_bin" in table.dimensions
        if latencies == ("latency_bin" in by) and names <= {*table.dimensions} and bucket % table.unit_ms == 0:
            return table
    return None


def _of_sums(
    table: Table, filters: Filters, span: tuple[int | None, int | None], measures: Sequence[str], by: Sequence[str], bucket: int
) -> Query:
    where, values = filters.facets() if table.by_facet else filters.names()
    for sign, bound in zip((">=", "<"), span, strict=True):
        where += "" if bound is None else f" AND at {sign} {bound}"
    times = [f"at / {bucket // table.unit_ms}"] if bucket else []
    return _grouped(table.name, where, times, {n: n for n in by}, measures, table.by_facet), values


def _of_entries(conn: sqlite3.Connection, filters: Filters, measures: Sequence[str], by: Sequence[str], bucket: int) -> Query:
    named = any(name in FACET for name in by)
    access_path = route(conn, filters, by_facet=named)
    expressions = [MEASURES[m] for m in measures]
    times = [f"at / {bucket}"] if bucket else []
    columns = {n: LATENCY_BIN if n == "latency_bin" else n for n in by}
    return _grouped(access_path.source, access_path.where, times, columns, expressions, named), access_path.values


def _grouped(source: str, where: str, times: Sequence[str], by: Mapping[str, str], measures: Sequence[str], by_facet: bool) -> str:
    """Return the query that adds up ``measures`` by time and names; ``by`` says how a name is read from the source.

    A source with a facet's number instead of names is sorted by that number. So without time it is added up by facet
    while it is read, and few names are left to look up and sort.
    """
    if not by_facet or by.keys().isdisjoint(FACET):
        return _select([*times, *by.values()], [f"sum({m})" for m in measures], source, where)
    if times:
        names = [f"f.{name}" if name in FACET else column for name, column in by.items()]
        return _select([*times, *names], [f"sum({m})" for m in measures], f"{source} CROSS JOIN facets AS f ON f.id = facet", where)
    inner = [f"{column} AS {name}" for name, column in by.items() if name not in FACET]
    grouped = _select(["facet AS facet", *inner], [f"sum({m}) AS s{i}" for i, m in enumerate(measures)], source, where)
    outer = [f"f.{name}" if name in FACET else name for name in by]
    joined = f"({grouped}) CROSS JOIN facets AS f ON f.id = facet"
    return _select(outer, [f"sum(s{i})" for i in range(len(measures))], joined, "true")


def _select(groups: Sequence[str], measures: Sequence[str], source: str, where: str) -> str:
    by = f" GROUP BY {', '.join(str(i + 1) for i in range(len(groups)))}" if groups else ""
    return f"SELECT {', '.join([*groups, *measures])} FROM {source} WHERE {where}{by}"


def percentile(bins: dict[int, int], share: float) -> float:
    """Return the latency in milliseconds below which this share of the calls stayed, from counts by bin; 0 without calls.

    Inside a bin, calls are assumed to be spread evenly. A bin's end is 1.41 times its start, which bounds the error.
    """
    left = share * sum(n for b, n in bins.items() if b >= 0)
    for b in sorted(b for b in bins if b >= 0):
        if bins[b] >= left > 0:
            low = LATENCY_EDGES_MS[b - 1] if b else 0
            high = LATENCY_EDGES_MS[b] if b < len(LATENCY_EDGES_MS) else 2 * low
            return round(low + (high - low) * left / bins[b], 1)
        left -= bins[b]
    return 0.0
