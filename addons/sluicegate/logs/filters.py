"""Which calls a query is about: read from query parameters, turned into SQL conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sluicegate.logs.index import FACET
from sluicegate.logs.parameters import FILTERS, STATUS, BadParameter, Parameter, read

RANGES = {"latency": "latency_ms", "tokens": "tokens", "cost": "cost_nano"}
"""Names that take the prefixes ``min_`` and ``max_``, and the column of an entry that each compares."""

DERIVED = {"subscription": "(shadow_nano >= 0)"}
"""Filters whose values are those of an expression over an entry, not of a column."""

LABEL = "label"
"""The filter whose values are parts of the column ``labels``."""

Where = tuple[str, list[Any]]
"""An SQL condition and its values."""


class NotPermitted(Exception):
    """A developer has asked for the calls of another key."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Calls whose columns have one of these values, in these ranges, begun in ``[start, end)``, epoch milliseconds."""

    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    ranges: tuple[tuple[str, str, int], ...] = ()
    """``(column of an entry, '>=' or '<=', bound)``"""
    start: int | None = None
    end: int | None = None

    @classmethod
    def read(cls, pairs: Sequence[tuple[str, str]], more: Mapping[str, Parameter] | None = None) -> tuple[Filters, dict[str, Any]]:
        """Return the filters among the parameters that were sent, and the values of those in ``more``. Raises BadParameter."""
        found = read(pairs, FILTERS | dict(more or {}))
        values = {n: v if isinstance(v, tuple) else (v,) for n, v in found.items() if n in FILTERS and n not in _NOT_COLUMNS}
        values |= _status(found.get("status", ()), values.get("outcome"))
        ranges = []
        for name, column in RANGES.items():
            low, high = found.get(f"min_{name}"), found.get(f"max_{name}")
            if low is not None and high is not None and low > high:
                raise BadParameter(f"min_{name}", f"'min_{name}' is above 'max_{name}', so no call can match")
            ranges += [(column, ">=", low)] if low is not None else []
            ranges += [(column, "<=", high)] if high is not None else []
        start, end = found.get("start"), found.get("end")
        if start is not None and end is not None and start > end:
            raise BadParameter("start", "'start' is after 'end', so no call can match")
        asked = cls(values, tuple(ranges), start, None if end is None else end + 1)
        return asked, {n: v for n, v in found.items() if more and n in more}

    def of_key(self, key_id: str) -> Filters:
        """Return the same filters limited to one virtual key's calls. Raises NotPermitted if they name another key."""
        if set(self.values.get("virtual_key_id", (key_id,))) != {key_id}:
            raise NotPermitted
        return replace(self, values={**self.values, "virtual_key_id": (key_id,)})

    def between(self, start: int | None, end: int | None) -> Filters:
        """Return the same filters for another range of time."""
        return replace(self, start=start, end=end)

    @property
    def is_summable(self) -> bool:
        """Whether sums alone can answer, because all filters are names of a facet."""
        return not self.ranges and self.columns <= set(FACET)

    @property
    def columns(self) -> set[str]:
        """Return the columns that values are looked for in."""
        return {_column_of(name) for name in self.values}

    @property
    def has_facets(self) -> bool:
        """Whether only some facets match, rather than all."""
        return not self.columns.isdisjoint(FACET)

    def names(self) -> Where:
        """Return the condition on a table whose columns are a facet's names."""
        return _all([_one_of(name, values) for name, values in self.values.items() if _column_of(name) in FACET])

    def facets(self) -> Where:
        """Return the condition on a table with a facet's number."""
        where, values = self.names()
        return (f"facet IN (SELECT id FROM facets WHERE {where})", values) if self.has_facets else ("true", [])

    def entries(self) -> Where:
        """Return the condition on an entry, time included."""
        parts = [self.facets()] if self.has_facets else []
        parts += [_one_of(name, values) for name, values in self.values.items() if _column_of(name) not in FACET]
        parts += [(f"{column} {sign} ?", [bound]) for column, sign, bound in self.ranges]
        if any(column == "latency_ms" for column, _, _ in self.ranges):
            parts.append(("latency_ms >= 0", []))
        if not self.is_summable:
            # What was adjusted for a scope has no session, status, tokens and so on that a filter could be about.
            parts.append(("row > 0", []))
        parts += [("at >= ?", [self.start])] if self.start is not None else []
        parts += [("at < ?", [self.end])] if self.end is not None else []
        return _all(parts)


_NOT_COLUMNS = frozenset({"status", "start", "end", *(f"{m}_{r}" for m in ("min", "max") for r in RANGES)})


def _status(status: tuple[str | int, ...], outcomes: tuple[str, ...] | None) -> dict[str, tuple[Any, ...]]:
    """Return the filter that ``status`` stands for: HTTP statuses, or outcomes, which narrow those asked for already."""
    words = [s for s in status if isinstance(s, str)]
    if not words:
        return {"status": status} if status else {}
    if len(words) < len(status):
        raise BadParameter("status", "'status' takes words or HTTP statuses, not both")
    meant = [outcome for word in words for outcome in STATUS[word]]
    return {"outcome": tuple(o for o in meant if outcomes is None or o in outcomes)}


def _column_of(name: str) -> str:
    return "labels" if name == LABEL else name


def _one_of(column: str, values: tuple[Any, ...]) -> Where:
    if column == LABEL:
        # Of one label any of the values, of several labels each.
        by_name: dict[str, list[str]] = {}
        for part in values:
            by_name.setdefault(part.partition(":")[0], []).append(part)
        return _all([(f"({' OR '.join(['instr(labels, ?) > 0'] * len(parts))})", list(parts)) for parts in by_name.values()])
    return f"{DERIVED.get(column, column)} IN ({', '.join('?' * len(values))})", list(values)


def _all(parts: list[Where]) -> Where:
    return " AND ".join(text for text, _ in parts) or "true", [v for _, values in parts for v in values]
