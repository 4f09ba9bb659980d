"""What calls were that have been deleted for their age: sums by day in the table ``past_calls``, with which a new index begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

HOURS = 24
"""Hours of a day."""


def seeding(facet: Sequence[str], kinds: Sequence[str], measures: Sequence[str]) -> Iterable[str]:
    """Yield the statements that add what deleted calls were. They count in their day's first hour: more is not known.

    ``facet`` and ``kinds`` are the names that the index groups by, ``measures`` what it adds up.
    """
    names = ", ".join(facet)
    yield f"INSERT OR IGNORE INTO facets ({names}) SELECT DISTINCT {names} FROM source.past_calls"
    same = " AND ".join(f"f.{name} = p.{name}" for name in facet)
    past = f"source.past_calls AS p JOIN facets AS f ON {same}"
    of_kinds = [f"f.{name}" for name in kinds]
    for table, when, groups, added in (
        ("days", "p.day", ["f.id"], measures),
        ("hours", f"p.day * {HOURS}", of_kinds, measures),
        ("latencies", "p.day", [*of_kinds, "p.latency_bin"], ["calls"]),
        ("facet_latencies", "p.day", ["f.id", "p.latency_bin"], ["calls"]),
    ):
        columns = ", ".join([when, *groups, *(f"sum(p.{name})" for name in added)])
        numbers = ", ".join(str(i + 1) for i in range(len(groups) + 1))
        yield f"INSERT INTO {table} SELECT {columns} FROM {past} GROUP BY {numbers}"
