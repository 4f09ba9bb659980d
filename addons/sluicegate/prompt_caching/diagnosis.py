"""Diagnose a call: whether it paid again for a prefix that was cached before, by what, and how many tokens that was.

A cause is named only where the provider read less than it had cached. The earliest change in the order of the prefix is named;
what else would have ended it is listed beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from sluicegate.prompt_caching import rules
from sluicegate.prompt_caching.block_changes import block_change
from sluicegate.prompt_caching.finding import Break, Cause
from sluicegate.prompt_caching.fingerprint import IMAGE, Fingerprint
from sluicegate.prompt_caching.nearest import Match, nearest
from sluicegate.prompt_caching.prompt import Prompt

HEADER = "anthropic-beta"
"""The header whose change may change how the provider writes the prompt out."""

_OF_SYSTEM: dict[str, Cause] = {"speed": "speed_changed"}
"""Fields whose change ends the prefix after the tools."""

_OF_MESSAGES: dict[str, Cause] = {
    "tool_choice": "tool_choice_changed",
    "thinking": "thinking_changed",
    "reasoning": "thinking_changed",
    "reasoning_effort": "thinking_changed",
    "thinkingConfig": "thinking_changed",
    "toolConfig": "tool_choice_changed",
    "tool_config": "tool_choice_changed",
}
"""Fields whose change ends the prefix before the messages; those in neither table are named last."""


class Diagnosis(NamedTuple):
    """What was found of one call."""

    before: Prompt | None
    """The call that it continues."""
    found: Break | None = None
    expected_tokens: int = 0
    """Tokens that it could have read."""
    lost_tokens: int = 0


def diagnose(now: Prompt, earlier: Iterable[Prompt]) -> Diagnosis:
    """Compare a call with those of its session before it."""
    match = nearest(now, earlier)
    if match is None:
        return Diagnosis(None)
    before = match.before
    if not before.cached_tokens:
        return _too_short(now, match)
    if now.input_tokens + now.written_tokens < rules.MIN_LOST_TOKENS:
        return Diagnosis(before)
    expected = min(_shared_tokens(now, match), now.tokens)
    lost = expected - now.read_tokens
    least = rules.MIN_LOST_TOKENS if now.fingerprint.is_marked else rules.MIN_UNPROMISED_TOKENS
    if lost < least:
        return Diagnosis(before)
    causes = list(_causes(now, match))
    if not causes:
        is_promised = now.fingerprint.is_marked or rules.writes_are_billed(now.model)
        if not match.is_whole or (not is_promised and now.read_tokens >= rules.UNPROMISED_SHARE * expected):
            # What came after the change is gone from the conversation: rewound or summarised, so nothing was paid again.
            return Diagnosis(before)
        causes = [Break("context_edited" if before.fingerprint.edits_context else "not_reused")]
    first, *others = causes
    also = tuple(dict.fromkeys(other.cause for other in others if other.cause != first.cause))
    return Diagnosis(before, replace(first, also=also), expected, lost)


def _shared_tokens(now: Prompt, match: Match) -> int:
    """Return how many of the cached tokens a call has sent again, a changed block counted as far as both have it."""
    cached = match.before.cached_tokens
    if match.is_whole or not match.prefix_bytes:
        return cached
    changed_before = match.prefix_bytes - match.kept_bytes
    old, new = match.before.fingerprint, now.fingerprint
    theirs, sizes = set(old.split()), new.block_sizes()
    digests = new.split()
    last_kept = max((i for i in range(new.count) if digests[i] in theirs), default=-1)
    # A block that was exchanged at the end has nothing behind it.
    until = last_kept if last_kept >= match.shared_prefix else min(new.count, match.before.last_cached + 1) - 1
    changed_now = sum(sizes[i] for i in range(match.shared_prefix, until + 1) if digests[i] not in theirs)
    same = match.kept_bytes + min(changed_before, changed_now)
    return cached * same // match.prefix_bytes


def _causes(now: Prompt, match: Match) -> Iterator[Break]:
    """Yield what would have ended the cached prefix, the first to end it first."""
    before, old, new = match.before, match.before.fingerprint, now.fingerprint
    if new.is_marked and old.is_marked and not new.breakpoints():
        yield Break("breakpoint_removed", field="cache_control")
    idle = now.sent_at - before.ready_at
    lapsed = [Break("ttl_lapsed", idle_ms=idle)] if _has_lapsed(now, match, idle) else []
    # Where no time is promised, a change explains more than a pause of some minutes.
    is_certain = idle > rules.TTL_1H_MS or new.is_marked or rules.writes_are_billed(before.model)
    if is_certain:
        yield from lapsed
    if before.provider != now.provider:
        yield Break("provider_changed", before=before.provider, now=now.provider)
    elif before.model != now.model:
        yield Break("model_changed", before=before.model, now=now.model)
    yield from _changes(now, match)
    if not is_certain:
        yield from lapsed
    if match.is_whole and new.is_marked:
        yield from _breakpoint_change(before, new)


def _changes(now: Prompt, match: Match) -> Iterator[Break]:
    """Yield what differs between two requests, in the order of the prefix: tools, system, messages."""
    old, new = match.before.fingerprint, now.fingerprint
    fields = {name for name in old.fields.keys() | new.fields.keys() if old.fields.get(name) != new.fields.get(name)}
    block = block_change(now, match)
    level = block.level if block is not None else ""
    header = [Break("header_changed", field=HEADER)] if HEADER in fields else []
    if block is not None and level == "tools":
        yield block
    if not now.read_tokens:
        # Tokens that were read show that the beginning was found, which a header would have ended.
        yield from header
    yield from (Break(cause, field=name) for name, cause in _OF_SYSTEM.items() if name in fields)
    if block is not None and level == "system":
        yield block
    yield from (Break(cause, field=name) for name, cause in _OF_MESSAGES.items() if name in fields)
    yield from _image_change(old, new)
    if block is not None and level == "messages":
        yield block
    yield from (Break("field_changed", field=name) for name in sorted(fields - {*_OF_SYSTEM, *_OF_MESSAGES, HEADER}))
    if now.read_tokens:
        yield from header


def _has_lapsed(now: Prompt, match: Match, idle_ms: int) -> bool:
    """Return whether the pause explains what was not read: of a prompt with both lifetimes only what had the shorter one."""
    before = match.before
    if idle_ms <= before.ttl_ms:
        return False
    long_lived = before.long_lived_blocks
    if idle_ms > rules.TTL_1H_MS or not 0 < long_lived <= before.last_cached or match.shared_prefix < long_lived:
        return True
    sizes = before.fingerprint.block_sizes()
    alive = before.cached_tokens * sum(sizes[:long_lived]) // (match.prefix_bytes or 1)
    return now.read_tokens >= alive // 2


def _image_change(old: Fingerprint, new: Fingerprint) -> Iterator[Break]:
    """Yield that images came or went, of an API that reads all messages again for that."""
    if not new.is_marked:
        return
    had, has = (any(flags & IMAGE for flags in f.flags) for f in (old, new))
    if had != has:
        shows = new if has else old
        block = next(i for i, flags in enumerate(shows.flags) if flags & IMAGE)
        yield Break("images_changed", shows.level(block), shows.position(block), size_now=shows.block_sizes()[block])


def _breakpoint_change(before: Prompt, new: Fingerprint) -> Iterator[Break]:
    """Yield where breakpoints no longer reach what was cached."""
    points, cached_to = new.breakpoints(), before.last_cached
    behind = [point for point in points if point >= cached_to]
    if points and not behind:
        yield Break("breakpoint_moved", new.level(points[-1]), new.position(points[-1]), "cache_control")
    elif behind and behind[0] - cached_to >= rules.LOOKBACK_BLOCKS:
        yield Break("lookback_exceeded", new.level(behind[0]), new.position(behind[0]), "cache_control")


def _too_short(now: Prompt, match: Match) -> Diagnosis:
    """Return that breakpoints have no effect, where a prefix is sent again that is shorter than the provider caches."""
    before, least = match.before, rules.minimum_tokens(now.model)
    is_tried = now.fingerprint.is_marked and bool(now.fingerprint.breakpoints()) and before.model == now.model
    if not is_tried or now.read_tokens or before.tokens >= least or not match.is_whole:
        return Diagnosis(before)
    # What stands behind the breakpoint would have been paid for in any case.
    sent = match.before.fingerprint.block_sizes()
    again = before.tokens * match.prefix_bytes // (sum(sent) or 1)
    if again < rules.MIN_LOST_TOKENS // 2:
        return Diagnosis(before)
    found = Break("below_minimum", field="cache_control", now=f"{least:,}")
    return Diagnosis(before, found, again, again)
