"""Judge the usage objects of a Messages answer, in the order in which they came, and bill their parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from sluicegate.providers.answers.reported_counts import unexplained_zeros
from sluicegate.providers.answers.usage_reader import MAX_COUNT, parse_count
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
    """Return what all usage objects of one answer say together, see ``merged_with``."""
    merged: Fields = {}
    for report in reports:
        merged = merged_with(merged, report)
    return merged


def merged_with(merged: Fields, report: Fields) -> Fields:
    """Return what the usage objects that were seen say together with one more, in a new object; ``merged`` is used up.

    Counts are cumulative, so later ones replace earlier ones. A zero or null replaces no count, unless another count of the
    input rises to explain it.
    """
    new = report.copy()
    if None in new.values():
        new = {name: value for name, value in new.items() if value is not None}
    if merged:
        for name in _COUNTS:
            # Most zeros replace nothing, or a zero.
            if not new.get(name, True) and merged.get(name):
                for unexplained in _unexplained(merged, new):
                    del new[unexplained]
                break
    _merge_details(merged, new)
    return merged | new if merged else new


def _unexplained(merged: Fields, new: Fields) -> list[str]:
    """Return the names of the zeros in a usage object that replace no count."""
    before = {n: parse_count(merged.get(n)) or 0 for n in _INPUT}
    # A zero does not mend an output count that was invalid.
    before["output_tokens"] = int(bool(merged.get("output_tokens")))
    now = {n: count for n in _COUNTS if (count := parse_count(new.get(n))) is not None}
    return unexplained_zeros(before, now, _INPUT)


def _merge_details(merged: Fields, new: Fields) -> None:
    """Make the objects and lists inside a usage object say all that was seen of them."""
    split = new.get("cache_creation")
    if not isinstance(split, dict) or not (split.get("ephemeral_5m_input_tokens") or split.get("ephemeral_1h_input_tokens")):
        if split is not None:
            del new["cache_creation"]
        if "cache_creation" in merged and (total := new.get("cache_creation_input_tokens")) is not None:
            before = parse_count(merged.get("cache_creation_input_tokens")) or 0
            if (parse_count(total) or 0) < before:
                # The split that was seen is of more than was written.
                del merged["cache_creation"]
    if "server_tool_use" in merged:
        old, counts = merged["server_tool_use"], new.get("server_tool_use")
        if isinstance(old, dict) and isinstance(counts, dict):
            new["server_tool_use"] = old | {k: v for k, v in counts.items() if v}
    if "iterations" in new and not new["iterations"]:
        del new["iterations"]


def _plain_counts(fields: Fields) -> tuple[int, int, int, int] | None:
    """Return the counts of a usage object in the order of _COUNTS, 0 for one that it leaves out; None if one is not a plain count.

    Nearly all are, and then this takes a fifth of the time of ``parse_count`` for each.
    """
    get = fields.get
    sent, read, written, output = (
        get("input_tokens", 0),
        get("cache_read_input_tokens", 0),
        get("cache_creation_input_tokens", 0),
        get("output_tokens", 0),
    )
    if (
        type(sent) is type(read) is type(written) is type(output) is int
        and 0 <= sent < MAX_COUNT
        and 0 <= read < MAX_COUNT
        and 0 <= written < MAX_COUNT
        and 0 <= output < MAX_COUNT
    ):
        return sent, read, written, output
    return None


def has_invalid_count(fields: Fields) -> bool:
    """Return whether a count is something that is none, such as "12", -1 or 1.5. That is not taken for zero."""
    if _plain_counts(fields) is None and any(parse_count(fields[name]) is None for name in _COUNTS if name in fields):
        return True
    if "cache_creation" in fields and "cache_creation_input_tokens" not in fields and isinstance(fields["cache_creation"], dict):
        # The split is all that is known of the cache writes.
        split = fields["cache_creation"]
        if any(split.get(name) is not None and parse_count(split[name]) is None for name in _SPLIT):
            return True
    tools = fields.get("server_tool_use")
    searches = tools.get("web_search_requests") if isinstance(tools, dict) else None
    return searches is not None and parse_count(searches) is None


def web_searches(fields: Fields) -> int:
    """Return the searches on the web that a usage object counts."""
    tools = fields.get("server_tool_use")
    return parse_count(tools.get("web_search_requests")) or 0 if isinstance(tools, dict) else 0


def read_usage(fields: Fields, model: str | None, ending: Ending | None = None) -> Usage:
    """Return a usage object's counts as Usage. Parts served by other models are kept apart: each has its own price."""
    usage = _read_counts(fields, model)
    if "server_tool_use" in fields:
        usage.web_search_requests = web_searches(fields)
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
    sent, read, written, output = _plain_counts(fields) or (parse_count(fields.get(name)) or 0 for name in _COUNTS)
    split, short, long = fields.get("cache_creation"), None, None
    if isinstance(split, dict):
        short, long = parse_count(split.get("ephemeral_5m_input_tokens")), parse_count(split.get("ephemeral_1h_input_tokens"))
    has_split = short is not None or long is not None
    short, long = short or 0, long or 0
    # The total is what is billed: tokens that the split leaves out count as the shorter, cheaper kind, and are marked.
    unsplit = written - short - long if written > short + long else 0
    speed, tier, geo = fields.get("speed"), fields.get("service_tier"), fields.get("inference_geo")
    return Usage(
        input_tokens=sent,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_5m_tokens=short + unsplit,
        cache_write_1h_tokens=long,
        model=model[:200] if isinstance(model, str) else None,
        speed=speed[:64] if isinstance(speed, str) else None,
        service_tier=tier[:64] if isinstance(tier, str) else None,
        inference_geo=geo[:64] if isinstance(geo, str) else None,
        estimated=unsplit > 0 and (not has_split or written != short + long),
    )
