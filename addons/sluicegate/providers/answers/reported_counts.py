"""Counts as an answer reports them, several times over: which of them stand once the answer has ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluicegate.providers.answers.usage_reader import parse_count, parse_json


def unexplained_zeros(before: Mapping[str, int], now: Mapping[str, int], input_names: tuple[str, ...]) -> list[str]:
    """Return the names of the zeros in a report that replace no count, because no other count of the input rises instead.

    8834 tokens of input may turn into 18 and 8831 from the cache, but a server that fills its last event with zeros takes
    nothing back.
    """
    emptied = [name for name, count in now.items() if not count and before.get(name)]
    fall = sum(before[n] for n in emptied if n in input_names)
    rise = sum(max(0, now.get(n, 0) - before.get(n, 0)) for n in input_names)
    # The first figure may have been the server's own estimate, so the parts need not add up to it.
    return [name for name in emptied if name not in input_names or 2 * rise < fall]


class ReportedCounts:
    """The counts of one answer, by all reports that were seen. Each report includes the ones before it, so later counts win.

    A zero or null replaces no count, unless other counts of the input rise to explain it: a server that leaves the cached
    tokens out of its last chunk takes nothing back.
    """

    def __init__(self, input_names: tuple[str, ...]) -> None:
        """Take the names of the counts of the input, that of the prompt first."""
        self.is_invalid = False
        """Whether a count was written as something that is not a count."""
        self._input = input_names
        self._counts: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._counts

    def __getitem__(self, name: str) -> int:
        return self._counts.get(name, 0)

    def get(self, name: str) -> int | None:
        """Return a count; None if nothing has been said of it."""
        return self._counts.get(name)

    def has_input(self, *, is_counted: bool) -> bool:
        """Return whether the input has been counted; ``is_counted`` says whether the answer's end has counted some output.

        No prompt has 0 tokens. Until then a 0 is a count that is not filled yet, or never will be.
        """
        return any(self[name] for name in self._input) or (is_counted and self._input[0] in self)

    def note(self, values: Iterable[tuple[str, Any]]) -> frozenset[str]:
        """Note one report, values as the provider wrote them; return the names of the counts in it."""
        found: dict[str, int] = {}
        for name, value in values:
            count = parse_count(value)
            if count is not None:
                found[name] = count
            elif value is not None:
                self.is_invalid = True
        reported = frozenset(found)
        for name in unexplained_zeros(self._counts, found, self._input):
            del found[name]
        self._counts |= found
        return reported


@dataclass(frozen=True, slots=True)
class _Repeated:
    """All values of a key that stands in one object more than once."""

    values: Sequence[Any]


def parse_report(data: bytes, name: str, join_values: Callable[[Sequence[Any]], Any] = _Repeated) -> Any:
    """Return a JSON value; where the key of its report stands in an object twice, both values are joined.

    By default both are kept for ``reports_in``.
    """
    value = parse_json(data)
    if value is not None and data.count(b'"%b"' % name.encode()) > 1:

        def join(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            values = [value for key, value in pairs if key == name]
            return dict(pairs) | ({name: join_values(values)} if len(values) > 1 else {})

        try:
            return json.loads(data, object_pairs_hook=join)
        except (ValueError, RecursionError):
            pass
    return value


def reports_in(value: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the reports of an event or answer in their order: at most one, unless their key stands there twice."""
    found = value.get(name)
    values = found.values if isinstance(found, _Repeated) else (found,)
    return [report for report in values if isinstance(report, dict)]
