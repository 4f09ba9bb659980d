"""Calls added up: from the sums by day and hour wherever those can answer, from entries at the ragged ends of a range."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluicegate.logs.filters import Filters
from sluicegate.logs.index import FACET, HOUR_MS, KINDS, LATENCY_BIN, LATENCY_EDGES, MEASURES
from sluicegate.logs.reading import route
from sluicegate.windows import DAY_MS

Sums = dict[tuple[Any, ...], list[int]]
"""By what they are of: the number of the bucket of time, if asked, then the names."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of sums: the milliseconds it adds up over, the names it tells apart, whether by a facet's number."""

    name: str
    unit: int
    dimensions: tuple[str, ...]
    by_facet: bool = False


TABLES = (
    Table("hours", HOUR_MS, KINDS),
    Table("days", DAY_MS, FACET, by_facet=True),
    Table("latencies", DAY_MS, (*KINDS, "latency_bin")),
    Table("facet_latencies", DAY_MS, (*FACET, "latency_bin"), by_facet=True),
)
"""From small to large; those that know latencies know nothing else."""


def sums(conn: sqlite3.Connection, filters: Filters, measures: Sequence[str], by: Sequence[str] = (), bucket: int = 0) -> Sums:
    """The measures of the calls that match, by names and by buckets of so many milliseconds (0: all time together).

    Measures are those of the index, names those of a facet and ``latency_bin``.
    """
    found: Sums = {}
    for sql, values in _questions(conn, filters, measures, by, bucket):
        for row in conn.execute(sql, values):
            key, numbers = row[: -len(measures)], [n or 0 for n in row[-len(measures) :]]
            have = found.get(key)
            found[key] = numbers if have is None else [a + b for a, b in zip(have, numbers, strict=True)]
    return found


Question = tuple[str, list[Any]]


def _questions(
    conn: sqlite3.Connection, filters: Filters, measures: Sequence[str], by: Sequence[str], bucket: int
) -> Iterator[Question]:
    """The queries whose results add up to the answer: of a table of sums for whole days or hours, of entries for the rest."""
    table = _fitting(filters, by, bucket)
    start, end = filters.start, filters.end
    low = None if table is None or start is None else -(-start // table.unit)
    high = None if table is None or end is None else end // table.unit
    if table is None or (low is not None and high is not None and low >= high):
        yield _of_entries(conn, filters, measures, by, bucket)
        return
    yield _of_sums(table, filters, (low, high), measures, by, bucket)
    if low is not None and low * table.unit != start:
        yield _of_entries(conn, filters.between(start, low * table.unit), measures, by, bucket)
    if high is not None and high * table.unit != end:
        yield _of_entries(conn, filters.between(high * table.unit, end), measures, by, bucket)


def _fitting(filters: Filters, by: Sequence[str], bucket: int) -> Table | None:
    """The smallest table of sums that knows every name in question, if one does."""
    asked = {*filters.values, *by}
    for table in TABLES if filters.summed else ():
        latencies = "latency_bin" in table.dimensions
        if latencies == ("latency_bin" in by) and asked <= {*table.dimensions} and bucket % table.unit == 0:
            return table
    return None


def _of_sums(
    table: Table, filters: Filters, span: tuple[int | None, int | None], measures: Sequence[str], by: Sequence[str], bucket: int
) -> Question:
    where, values = filters.facets() if table.by_facet else filters.names()
    for sign, bound in zip((">=", "<"), span, strict=True):
        where += "" if bound is None else f" AND at {sign} {bound}"
    times = [f"at / {bucket // table.unit}"] if bucket else []
    return _grouped(table.name, where, times, {n: n for n in by}, measures, table.by_facet), values


def _of_entries(conn: sqlite3.Connection, filters: Filters, measures: Sequence[str], by: Sequence[str], bucket: int) -> Question:
    named = any(name in FACET for name in by)
    way = route(conn, filters, by_facet=named)
    added = [MEASURES[m] for m in measures]
    times = [f"at / {bucket}"] if bucket else []
    columns = {n: LATENCY_BIN if n == "latency_bin" else n for n in by}
    return _grouped(way.source, way.where, times, columns, added, named), way.values


def _grouped(source: str, where: str, times: Sequence[str], by: Mapping[str, str], measures: Sequence[str], by_facet: bool) -> str:
    """The query that adds up ``measures`` by time and names; ``by`` says how a name is read from the source.

    What has a facet's number instead of names lies in the order of those. So without time it is added up by facet while
    it is read, and little is left to look up and sort.
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
    """The latency below which this share of the calls stayed, milliseconds, from counts by bin; 0 without any call.

    Inside a bin calls are taken to be spread evenly. A bin's end is 1.41 times its beginning, so the error is less.
    """
    left = share * sum(n for b, n in bins.items() if b >= 0)
    for b in sorted(b for b in bins if b >= 0):
        if bins[b] >= left > 0:
            low = LATENCY_EDGES[b - 1] if b else 0
            high = LATENCY_EDGES[b] if b < len(LATENCY_EDGES) else 2 * low
            return round(low + (high - low) * left / bins[b], 1)
        left -= bins[b]
    return 0.0
