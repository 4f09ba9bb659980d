"""Judge the usage objects of a Messages answer, in the order in which they came, and bill their parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from sluicegate.providers.answers.reported_counts import unexplained_zeros
from sluicegate.providers.answers.usage_reader import parse_count
from sluicegate.values import TOKEN_COLUMNS, Usage

Fields = dict[str, Any]
"""A usage object as the provider wrote it."""

_INPUT = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_COUNTS = (*_INPUT, "output_tokens")
_SPLIT = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")

_ADDED = ("compaction", "advisor_message")
"""Iterations whose tokens are not in the totals beside them."""


class Ending(NamedTuple):
    """What an answer's content says about its attempts, which decides what is billed."""

    was_refused: bool = False
    has_output: tuple[bool, ...] = ()
    """For each attempt in order, whether any of its output was seen; empty where that cannot be known."""


def merge(reports: Iterable[Fields]) -> Fields:
    """Return what all usage objects of one answer say together. Counts are cumulative, so later ones replace earlier ones.

    A zero or null replaces no count, unless another count of the input rises to explain it.
    """
    merged: Fields = {}
    for report in reports:
        new = {name: value for name, value in report.items() if value is not None}
        if not merged:
            # An answer that is not streamed has one report, which replaces nothing.
            _merge_details(merged, new)
            merged = new
            continue
        before = {n: parse_count(merged.get(n)) or 0 for n in _INPUT}
        # A zero does not mend an output count that was invalid.
        before["output_tokens"] = int(bool(merged.get("output_tokens")))
        now = {n: count for n in _COUNTS if (count := parse_count(new.get(n))) is not None}
        for name in unexplained_zeros(before, now, _INPUT):
            del new[name]
        _merge_details(merged, new)
        merged |= new
    return merged


def _merge_details(merged: Fields, new: Fields) -> None:
    """Make the objects and lists inside a usage object say all that was seen of them."""
    split, total = new.get("cache_creation"), new.get("cache_creation_input_tokens")
    if not isinstance(split, dict) or not any(split.get(n) for n in _SPLIT):
        new.pop("cache_creation", None)
        before = parse_count(merged.get("cache_creation_input_tokens")) or 0
        if total is not None and (parse_count(total) or 0) < before:
            # The split that was seen is of more than was written.
            merged.pop("cache_creation", None)
    old, counts = merged.get("server_tool_use"), new.get("server_tool_use")
    if isinstance(old, dict) and isinstance(counts, dict):
        new["server_tool_use"] = old | {k: v for k, v in counts.items() if v}
    if not new.get("iterations"):
        new.pop("iterations", None)


def has_invalid_count(fields: Fields) -> bool:
    """Return whether a count is something that is none, such as "12", -1 or 1.5. That is not taken for zero."""
    tools, split = fields.get("server_tool_use"), fields.get("cache_creation")
    searches = tools.get("web_search_requests") if isinstance(tools, dict) else None
    values = [fields[name] for name in _COUNTS if name in fields]
    if isinstance(split, dict) and "cache_creation_input_tokens" not in fields:
        # The split is all that is known of the cache writes.
        values += [split[name] for name in _SPLIT if split.get(name) is not None]
    return None in map(parse_count, values) or (searches is not None and parse_count(searches) is None)


def read_usage(fields: Fields, model: str | None, ending: Ending | None = None) -> Usage:
    """Return a usage object's counts as Usage. Parts served by other models are kept apart: each has its own price."""
    usage = _read_counts(fields, model)
    search = fields.get("server_tool_use")
    if isinstance(search, dict):
        usage.web_search_requests = parse_count(search.get("web_search_requests")) or 0
    steps = fields.get("iterations")
    return _with_parts(usage, steps, ending or Ending()) if isinstance(steps, list) and steps else usage


def _with_parts(usage: Usage, steps: Sequence[Any], ending: Ending) -> Usage:
    """Return the usage as the sum of its iterations that are billed."""
    valid = [
        s for s in steps if isinstance(s, dict) and parse_count(s.get("input_tokens")) is not None and not has_invalid_count(s)
    ]
    attempts = [s for s in valid if s.get("type") not in _ADDED]
    declined = _declined(attempts, ending)
    parts, in_totals = [], Usage()
    for step in valid:
        part = _read_counts(step, step.get("model") or usage.model)
        part.speed, part.service_tier, part.inference_geo = usage.speed, usage.service_tier, usage.inference_geo
        if step.get("type") not in _ADDED:
            in_totals = _sum([in_totals, part])
        if not any(step is d for d in declined):
            parts.append(part)
    # Iterations never bill less than the totals: what they leave out is the answer's own.
    rest = replace(usage, estimated=True, web_search_requests=0)
    for name in TOKEN_COLUMNS:
        setattr(rest, name, max(0, getattr(usage, name) - getattr(in_totals, name)))
    if rest.total_tokens:
        parts.append(rest)
    total = _sum(parts)
    return replace(
        usage,
        **{name: getattr(total, name) for name in TOKEN_COLUMNS},
        model=_served(attempts, declined) or usage.model,
        estimated=any(p.estimated for p in parts) or len(valid) < len(steps),
        iterations=tuple(parts),
    )


def _declined(attempts: list[Fields], ending: Ending) -> list[Fields]:
    """Return the attempts that are not billed: refused before any output, and followed by another model's or by none."""
    last_fallback = max((i for i, a in enumerate(attempts) if a.get("type") == "fallback_message"), default=0)
    # How many attempts the content shows is only of use if the provider counts as many.
    seen = ending.has_output if len(ending.has_output) == len(attempts) else None
    declined = []
    for i, attempt in enumerate(attempts):
        was_left = i < last_fallback or (ending.was_refused and i > 0 and i == len(attempts) - 1)
        # A refusal before any output may still count a token or two.
        if was_left and (not parse_count(attempt.get("output_tokens", 0)) or (seen is not None and not seen[i])):
            declined.append(attempt)
    return declined


def has_output_before_last(fields: Fields) -> bool:
    """Return whether iterations before the last one say that they had output: those are billed if the last was refused."""
    steps = fields.get("iterations")
    earlier = steps[:-1] if isinstance(steps, list) else ()
    return any(isinstance(step, dict) and parse_count(step.get("output_tokens")) for step in earlier)


def _served(attempts: list[Fields], declined: list[Fields]) -> str | None:
    """Return the model of the last attempt that is billed, if other models than the one asked for were tried."""
    if not any(attempt.get("type") == "fallback_message" for attempt in attempts):
        return None
    billed = [attempt for attempt in attempts if not any(attempt is d for d in declined)]
    model = billed[-1].get("model") if billed else None
    return model[:200] if isinstance(model, str) else None


def _sum(parts: Iterable[Usage]) -> Usage:
    total = Usage()
    for part in parts:
        for name in TOKEN_COLUMNS:
            setattr(total, name, getattr(total, name) + getattr(part, name))
    return total


def _read_counts(fields: Fields, model: Any) -> Usage:
    written = parse_count(fields.get("cache_creation_input_tokens")) or 0
    split = fields.get("cache_creation")
    short, long = (parse_count(split.get(n)) for n in _SPLIT) if isinstance(split, dict) else (None, None)
    has_split = short is not None or long is not None
    short, long = short or 0, long or 0
    # The total is what is billed: tokens that the split leaves out count as the shorter, cheaper kind, and are marked.
    unsplit = max(0, written - short - long)
    return Usage(
        input_tokens=parse_count(fields.get("input_tokens")) or 0,
        output_tokens=parse_count(fields.get("output_tokens")) or 0,
        cache_read_tokens=parse_count(fields.get("cache_read_input_tokens")) or 0,
        cache_write_5m_tokens=short + unsplit,
        cache_write_1h_tokens=long,
        model=model[:200] if isinstance(model, str) else None,
        speed=_short_text(fields.get("speed")),
        service_tier=_short_text(fields.get("service_tier")),
        inference_geo=_short_text(fields.get("inference_geo")),
        estimated=bool(unsplit) and (not has_split or written != short + long),
    )


def _short_text(value: Any) -> str | None:
    return value[:64] if isinstance(value, str) else None
