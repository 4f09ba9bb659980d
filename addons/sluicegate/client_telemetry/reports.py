"""What Claude Code reports of its calls: tokens and cost in its metrics, and in one event for each answered call.

Source: https://code.claude.com/docs/en/monitoring-usage; names, types and temporality as Claude Code 2.1.332 sends them. What
a client reports is its own word: it is compared with records and never counts as money.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sluicegate.client_telemetry.messages import SIGNALS
from sluicegate.client_telemetry.reading import Tree, number_of
from sluicegate.model_names import undated
from sluicegate.values import NANO

Source = Literal["metrics", "events"]

COST, TOKENS, CALL = "claude_code.cost.usage", "claude_code.token.usage", "claude_code.api_request"
"""The two metrics and the event that tell of calls."""

FIGURES = ("cost_nano", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
"""What is reported and compared."""

_TOKEN_TYPES = {"input": 1, "output": 2, "cacheRead": 3, "cacheCreation": 4}
"""By the metric's attribute ``type``, the index in ``FIGURES``."""

_EVENT_TOKENS = {"input_tokens": 1, "output_tokens": 2, "cache_read_tokens": 3, "cache_creation_tokens": 4}

MAX_COST_USD, MAX_TOKENS = 10_000, 1_000_000_000
"""The largest figures of one point or event that are believed: more than a call, or a minute of calls, can have."""

MAX_NAME_CHARS = 100

Figures = tuple[int, int, int, int, int]
NONE: Figures = (0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Report:
    """What a client says of a session's calls of one model."""

    source: Source
    session_id: str
    model: str
    figures: Figures
    series: bytes | None = None
    """For a sum since ``began``, the id of its series; None where the figures are added to earlier ones."""
    began: int = 0
    """When a cumulative series began, nanoseconds by the client's clock."""


class Rejected(Exception):
    """A point or event whose figures cannot be used."""


def plus(a: Figures, b: Figures, sign: int = 1) -> Figures:
    """Return the sums, or with -1 the differences."""
    return (a[0] + sign * b[0], a[1] + sign * b[1], a[2] + sign * b[2], a[3] + sign * b[3], a[4] + sign * b[4])


def reports_of(signal: str, tree: Tree) -> tuple[list[Report], int]:
    """Return what a request reports of calls, and how many of its items have figures that cannot be used."""
    found: list[Report] = []
    rejected = 0
    for item in _FOUND_BY[signal](tree) if signal in _FOUND_BY else ():
        try:
            found.append(_of_event(item) if isinstance(item, dict) else _of_point(item))
        except Rejected:
            rejected += 1
    return found, rejected


def items_of(signal: str, tree: Tree) -> Iterator[Tree]:
    """Yield the metrics, log records or spans of a request."""
    names = SIGNALS[signal]
    for of_resource in tree.get(names.resources, ()):
        for of_scope in of_resource.get(names.scopes, ()):
            yield from of_scope.get(names.items, ())


def _attributes(pairs: list[Tree], names: frozenset[str]) -> dict[str, Any]:
    """Return the values of some attributes, texts and numbers; None for others. The last one counts where a name comes twice."""
    found: dict[str, Any] = {}
    for pair in pairs:
        if (name := pair.get("key")) in names:
            value = pair.get("value", {})
            whole = int(value["intValue"]) if "intValue" in value else None
            found[name] = value.get("stringValue", value.get("doubleValue", whole))
    return found


_POINT_NAMES = frozenset(("session.id", "model", "type"))
_EVENT_NAMES = frozenset(("session.id", "model", "event.name", "cost_usd", *_EVENT_TOKENS))


class _Point(NamedTuple):
    """A data point of one of the two metrics, with the sum that it belongs to."""

    name: str
    of: Tree
    point: Tree


def _points(tree: Tree) -> Iterator[_Point]:
    for metric in items_of("metrics", tree):
        name, kind = metric.get("name"), metric.get("sum")
        if name in (COST, TOKENS) and kind is not None:
            yield from (_Point(name, kind, point) for point in kind.get("dataPoints", ()))


def _of_point(item: _Point) -> Report:
    name, kind, point = item
    pairs = point.get("attributes", [])
    attributes = _attributes(pairs, _POINT_NAMES)
    index = 0 if name == COST else _TOKEN_TYPES.get(str(attributes.get("type")))
    amount = point.get("asDouble", point.get("asInt", 0))
    if index is None or not kind.get("isMonotonic"):
        raise Rejected
    figures = list(NONE)
    figures[index] = _cost(amount) if index == 0 else _count(amount)
    temporality = kind.get("aggregationTemporality")
    if temporality not in (1, 2):
        raise Rejected
    series = _digest(name, pairs) if temporality == 2 else None
    session, model = _names(attributes)
    began = int(point.get("startTimeUnixNano", 0)) & (1 << 63) - 1
    return Report("metrics", session, model, (*figures,), series, began)  # type: ignore[arg-type]


def _events(tree: Tree) -> Iterator[Tree]:
    for record in items_of("logs", tree):
        if CALL in (record.get("body", {}).get("stringValue"), record.get("eventName")):
            yield record


def _of_event(record: Tree) -> Report:
    attributes = _attributes(record.get("attributes", []), _EVENT_NAMES)
    figures = list(NONE)
    figures[0] = _cost(attributes.get("cost_usd", 0))
    for name, index in _EVENT_TOKENS.items():
        figures[index] = _count(attributes.get(name, 0))
    session, model = _names(attributes)
    return Report("events", session, model, (*figures,))  # type: ignore[arg-type]


_FOUND_BY: Mapping[str, Callable[[Tree], Iterator[_Point | Tree]]] = {"metrics": _points, "logs": _events}
"""By signal, what finds the items that tell of calls."""


def _names(attributes: Mapping[str, Any]) -> tuple[str, str]:
    session, model = attributes.get("session.id"), attributes.get("model")
    if not isinstance(session, str) or not isinstance(model, str) or not session or not model:
        raise Rejected
    if len(session) > MAX_NAME_CHARS or len(model) > MAX_NAME_CHARS:
        raise Rejected
    return session, undated(model)


def _cost(value: Any) -> int:
    dollars = number_of(value)
    if dollars is None or not 0 <= dollars <= MAX_COST_USD:
        raise Rejected
    return round(dollars * NANO)


def _count(value: Any) -> int:
    tokens = number_of(value)
    if tokens is None or not 0 <= tokens <= MAX_TOKENS or tokens != int(tokens):
        raise Rejected
    return int(tokens)


def _digest(name: str, pairs: list[Tree]) -> bytes:
    """Return the id of a cumulative series: a hash of its metric and of all attributes of its points, in any order."""
    parts = sorted(repr((pair.get("key"), pair.get("value"))) for pair in pairs)
    return hashlib.sha256("\n".join((name, *parts)).encode("utf-8", "surrogatepass")).digest()[:16]
