"""The query parameters of the logs: their names, and how their values are read.

An unknown name or a bad value is an error that names the parameter and the nearest valid one: a filter that is ignored
would show people calls they did not ask for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from sluicegate.policy.labels import label_fragment
from sluicegate.providers.known import PROVIDER_NAME
from sluicegate.values import NANO, Outcome, Reason
from sluicegate.windows import DAY_MS, parse_iso

MAX_VALUES = 100
MAX_ROWS = 1000
MAX_OFFSET = 100_000
EARLIEST, LATEST = parse_iso("2000-01-01"), parse_iso("2100-01-01")
"""The range of times that may be asked for: a histogram has a bucket for every month, even without calls."""

STATUS = {
    "success": (Outcome.COMPLETED.value,),
    "error": tuple(o.value for o in Outcome if o is not Outcome.COMPLETED),
    "processing": (),
}
"""Bifrost's words for outcomes, and ours. A call in progress has no record yet, so ``processing`` finds none."""


class BadParameter(ValueError):
    """A query parameter that is unknown or whose value cannot be used; ``parameter`` is the name that was sent."""

    def __init__(self, parameter: str, message: str) -> None:
        self.parameter = parameter
        super().__init__(message)


def nearest(word: str, options: Iterable[str]) -> str:
    """Return a hint at the nearest valid word, or nothing."""
    close = difflib.get_close_matches(word.lower(), list(options), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its names, the preferred one first, how its text is read, and whether it takes a list."""

    names: tuple[str, ...]
    help: str
    read: Callable[[str], Any]
    many: bool = False


def _text(value: str) -> str:
    if len(value) > 256 or not value.isprintable():
        raise ValueError("must be at most 256 printable characters")
    return value


def _word(options: Iterable[str]) -> Callable[[str], str]:
    known = tuple(options)

    def read(value: str) -> str:
        if value not in known:
            raise ValueError(f"must be one of {', '.join(known)}{nearest(value, known)}")
        return value

    return read


def _status(value: str) -> str | int:
    if re.fullmatch(r"[1-5]\d\d", value):
        return int(value)
    return _word(STATUS)(value)


def _boolean(value: str) -> int:
    return _word(("true", "false"))(value) == "true"


def _instant(value: str, *, last: bool) -> int:
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return _iso(value) + (DAY_MS - 1 if last else 0)
    if not re.match(r"\d{4}-\d\d-\d\d[Tt ]", value):
        raise ValueError("must be a day such as 2026-02-28 or a time such as 2026-02-28T12:00:00Z")
    # The plus sign of an offset arrives as a space where the client did not escape it.
    return _iso(re.sub(r" (\d\d:?\d\d)$", r"+\1", value) if value.count(":") > 1 else value)


def _iso(value: str) -> int:
    try:
        moment = parse_iso(value)
    except (ValueError, OverflowError):
        raise ValueError("must be a day such as 2026-02-28 or a time such as 2026-02-28T12:00:00Z") from None
    if not EARLIEST <= moment < LATEST:
        raise ValueError("must be a day or a time between 2000 and 2100")
    return moment


def _start(value: str) -> int:
    return _instant(value, last=False)


def _end(value: str) -> int:
    return _instant(value, last=True)


def _integer(low: int, high: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not re.fullmatch(r"\d{1,15}", value) or not low <= int(value) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return read


def _dollars(value: str) -> int:
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise ValueError("must be an amount in dollars, such as 0.25") from None
    if not amount.is_finite() or not 0 <= amount <= 1_000_000_000:
        raise ValueError("must be an amount in dollars, such as 0.25")
    return int(amount * NANO)


_COUNT = _integer(0, 1 << 49)


def _id(kind: str, what: str) -> Parameter:
    return Parameter((kind, f"{kind}_ids", f"{kind}_id"), f"calls of these {what}", _text, many=True)


def _provider(value: str) -> str:
    """Return a provider's name; one that policy has no more may still have calls."""
    if PROVIDER_NAME.fullmatch(value) is None:
        raise ValueError("must be a provider's name, such as anthropic, openai or gemini")
    return value


FILTERS: dict[str, Parameter] = {
    "virtual_key_id": Parameter(("vk", "virtual_key_ids", "virtual_key_id"), "calls with these virtual keys", _text, many=True),
    "user_id": _id("user", "users"),
    "team_id": _id("team", "teams"),
    "customer_id": _id("customer", "customers"),
    "project_id": _id("project", "projects"),
    "session_id": _id("session", "sessions of an agent"),
    "agent_id": _id("agent", "sub-agents"),
    "provider": Parameter(("provider", "providers"), "calls to these providers", _provider, many=True),
    "model": Parameter(("model", "models"), "calls served by these models, or asking for them where none served", _text, many=True),
    "model_requested": Parameter(("model_requested",), "calls that asked their provider for these models", _text, many=True),
    "asked_model": Parameter(("asked_model",), "calls whose clients asked for these models, in their own words", _text, many=True),
    "model_served": Parameter(("model_served",), "calls that these models served", _text, many=True),
    "outcome": Parameter(("outcome", "outcomes"), "calls with these outcomes", _word(o.value for o in Outcome), many=True),
    "reason": Parameter(
        ("reason", "reasons"), "calls refused, or without an answer, for these reasons", _word(r.value for r in Reason), many=True
    ),
    "status": Parameter(("status",), "`success`, `error` or `processing`; or HTTP statuses", _status, many=True),
    "claimed_project": Parameter(
        ("claimed_project",), "calls whose clients named these projects or repositories, trusted or not", _text, many=True
    ),
    "project_source": Parameter(
        ("project_source",),
        "calls whose project the policy (`key`) or a trusted client (`client`) says",
        _word(("key", "client")),
        many=True,
    ),
    "node": Parameter(("node", "nodes"), "calls that went through these gateways, by name", _text, many=True),
    "label": Parameter(
        ("label", "labels"),
        "calls with these labels, as `cost_center:4711`: any of the values of one label, and each of several labels; "
        "`label.cost_center=4711` is the same, for values with commas too",
        label_fragment,
        many=True,
    ),
    "stream": Parameter(("stream",), "`true` or `false`: streamed calls, or the others", _boolean),
    "estimated": Parameter(("estimated",), "`true` or `false`: calls whose usage is an estimate, or the others", _boolean),
    "subscription": Parameter(("subscription",), "`true` or `false`: calls with their client's own login, or the others", _boolean),
    "cache": Parameter(
        ("cache",),
        "calls that the cache answered (`hit`), had no answer for (`miss`) or is not for (`bypass`)",
        _word(("hit", "miss", "bypass")),
        many=True,
    ),
    "start": Parameter(("start", "start_time"), "calls that began then or later: a day or a time", _start),
    "end": Parameter(("end", "end_time"), "calls that began then or earlier; a day is included whole", _end),
    "min_latency": Parameter(("min_latency", "min_latency_ms"), "calls that took at least this many milliseconds", _COUNT),
    "max_latency": Parameter(("max_latency", "max_latency_ms"), "calls that took at most this many milliseconds", _COUNT),
    "min_tokens": Parameter(("min_tokens",), "calls of at least this many tokens of all types", _COUNT),
    "max_tokens": Parameter(("max_tokens",), "calls of at most this many tokens", _COUNT),
    "min_cost": Parameter(("min_cost", "min_cost_usd"), "calls that cost at least this many dollars", _dollars),
    "max_cost": Parameter(("max_cost", "max_cost_usd"), "calls that cost at most this many dollars", _dollars),
}
"""Which calls: these apply to every query except those for a single call and for the values to filter by."""

SORTS = ("timestamp", "latency", "tokens", "cost")
ORDERS = ("desc", "asc")

PAGING: dict[str, Parameter] = {
    "sort_by": Parameter(("sort_by",), "`timestamp` (default), `latency`, `tokens` or `cost`", _word(SORTS)),
    "order": Parameter(("order",), "`desc` (default) or `asc`", _word(ORDERS)),
    "limit": Parameter(("limit",), f"rows on a page, 1 to {MAX_ROWS}; default 50", _integer(1, MAX_ROWS)),
    "cursor": Parameter(("cursor",), "the `next_cursor` of the page before", _text),
    "offset": Parameter(("offset",), f"rows to skip, at most {MAX_OFFSET}; a cursor is faster", _integer(0, MAX_OFFSET)),
    "search": Parameter(
        ("content_search",),
        "calls whose kept bodies contain this text, whatever its case; a page may be short of `limit` and still have a "
        "`next_cursor`. `stats` and `total_count` are of the other filters",
        _text,
    ),
}

EXPORT: dict[str, Parameter] = {
    "format": Parameter(("format",), "`csv` (default) or `jsonl`", _word(("csv", "jsonl"))),
    "order": Parameter(("order",), "`asc` (default, oldest first) or `desc`", _word(ORDERS)),
}

FACETS: dict[str, Parameter] = {
    "limit": Parameter(("limit",), f"names of a kind, 1 to {MAX_ROWS}; default all", _integer(1, MAX_ROWS)),
}

DIMENSIONS = {
    "models": "model",
    "providers": "provider",
    "virtual_keys": "virtual_key_id",
    "users": "user_id",
    "teams": "team_id",
    "customers": "customer_id",
    "projects": "project_id",
    "claimed_projects": "claimed_project",
}
"""What calls can be grouped by, as rankings and histograms name it, and its column."""

LABEL_DIMENSION = "label:"
"""How the dimension begins that is a label's values."""


def _dimension(value: str) -> str:
    if value.startswith(LABEL_DIMENSION):
        label_fragment(f"{value.removeprefix(LABEL_DIMENSION)}:x")
        return value
    return _word(DIMENSIONS)(value)


RANKING: dict[str, Parameter] = {
    "dimension": Parameter(
        ("dimension",),
        "`models` (default), or one of "
        + ", ".join(f"`{d}`" for d in list(DIMENSIONS)[1:])
        + "; `label:NAME` for the values of a label",
        _dimension,
    ),
    "rank_by": Parameter(
        ("rank_by",), "`requests` (default), `cost`, `tokens` or `latency`", _word(("requests", "cost", "tokens", "latency"))
    ),
    "limit": Parameter(("limit",), f"entries, 1 to {MAX_ROWS}; default 50", _integer(1, MAX_ROWS)),
}


def read(pairs: Sequence[tuple[str, str]], known: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return the values of the parameters that were sent, by their key in ``known``; lists as tuples. Raises BadParameter."""
    names = {name: key for key, parameter in known.items() for name in parameter.names}
    found: dict[str, Any] = {}
    sent: dict[str, str] = {}
    for name, text in pairs:
        if name.startswith("label.") and "label" in known:
            found["label"] = (*found.get("label", ()), _label(name, text))
            if len(found["label"]) > MAX_VALUES:
                raise BadParameter(name, f"'label' takes at most {MAX_VALUES} values")
            continue
        key = names.get(name)
        if key is None:
            raise BadParameter(name[:80], f"'{name[:80]}' is not a parameter here{nearest(name, names)}")
        parameter = known[key]
        if key in sent and (sent[key] != name or not parameter.many):
            other = (
                f"'{sent[key]}' and '{name}' are the same parameter: send one of them"
                if sent[key] != name
                else f"'{name}' is given twice"
            )
            raise BadParameter(name, other)
        sent[key] = name
        parts = [part.strip() for part in text.split(",")] if parameter.many else [text.strip()]
        for part in parts:
            if not part:
                raise BadParameter(name, f"'{name}' is empty: give a value or leave it out")
            try:
                value = parameter.read(part)
            except ValueError as e:
                raise BadParameter(name, f"'{name}' {e}, not '{part[:80]}'") from None
            found[key] = (*found.get(key, ()), value) if parameter.many else value
        if parameter.many and len(found[key]) > MAX_VALUES:
            raise BadParameter(name, f"'{name}' takes at most {MAX_VALUES} values")
    return found


def _label(name: str, text: str) -> str:
    """Return the part of a record's labels that ``label.NAME=VALUE`` stands for. Raises BadParameter."""
    try:
        return label_fragment(f"{name.removeprefix('label.')}:{text.strip()}")
    except ValueError as e:
        raise BadParameter(name[:80], f"'{name[:80]}={text[:80]}' {e}") from None
