"""Find the call that a call continues, among those of its session: the one whose conversation it shares, not simply the last.

A session's calls interleave: agents, sub-agents and helpers have prompts of their own. Some share tools and system prompt, some
the first message; one conversation shares most of its messages, and either its beginning or an answer that a model has given.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sluicegate.prompt_caching.fingerprint import ASSISTANT
from sluicegate.prompt_caching.prompt import Prompt

MIN_SHARED = 0.5
"""Share of an earlier call's messages, in bytes, that a call must repeat to continue it."""

SIMILAR_BYTES = 0.1
"""By how much the size of the beginning may differ where its blocks do: a date or a list changes less."""


@dataclass(frozen=True, slots=True)
class Match:
    """An earlier call, and what a later one has in common with it."""

    before: Prompt
    shared_prefix: int
    """Blocks in common from the beginning."""
    kept: frozenset[int]
    """Blocks of the earlier call's cached prefix that stand in the later call, at any place; empty where all of them do."""
    prefix_bytes: int
    """Bytes of the earlier call's cached prefix."""
    kept_bytes: int
    is_whole: bool
    """Whether the later call begins with the whole cached prefix."""


def nearest(now: Prompt, earlier: Iterable[Prompt]) -> Match | None:
    """Return the earlier call that this one continues; None where it begins something new."""
    mine: set[bytes] | None = None
    best: Match | None = None
    best_weight = -1
    # The last call first: it is nearly always the one, and nothing can share more with this than all that it has.
    for before in sorted(earlier, key=lambda p: p.sent_at, reverse=True):
        if before.agent_id != now.agent_id or before.ready_at > now.sent_at or before.last_cached < 0:
            continue
        shared = before.fingerprint.shared_prefix(now.fingerprint)
        is_whole = shared == before.fingerprint.count
        if mine is None and not is_whole:
            mine = set(now.fingerprint.split())
        match, weight = _compare(now, before, shared, mine or set())
        if match is not None and weight > best_weight:
            best, best_weight = match, weight
            if is_whole and mine is None:
                break
    return best


def _compare(now: Prompt, before: Prompt, shared: int, mine: set[bytes]) -> tuple[Match | None, int]:
    """Return what a call shares with an earlier one and how many bytes of messages that is; None where it is another's.

    ``shared`` are the blocks in common from the beginning, ``mine`` the hashes of the call's blocks if it needs them.
    """
    old = before.fingerprint
    end, sizes, head = before.last_cached + 1, old.block_sizes(), old.tools + old.system
    if shared == old.count:
        total = sum(sizes[head:])
        common = range(head, old.count)
        if not total or not _is_one_conversation(before, now, common, shared):
            return None, 0
        prefix = sum(sizes[:end])
        return Match(before, shared, frozenset(), prefix, prefix, is_whole=True), total
    digests = old.split()
    if mine.isdisjoint(digests[head:]):
        return None, 0
    # All of its messages count here, not only those that were cached: some requests cache their tools alone.
    common_now = [i for i in range(head, old.count) if i < shared or digests[i] in mine]
    total, weight = sum(sizes[head:]), sum(sizes[i] for i in common_now)
    if not total or weight < MIN_SHARED * total or not _is_one_conversation(before, now, common_now, shared):
        return None, 0
    kept = frozenset(i for i in range(end) if i < shared or digests[i] in mine)
    return Match(before, shared, kept, sum(sizes[:end]), sum(sizes[i] for i in kept), shared >= end), weight


def _is_one_conversation(before: Prompt, now: Prompt, common: Sequence[int], shared: int) -> bool:
    """Return whether shared messages mean one conversation, and not a helper that was given the same first message."""
    old, new = before.fingerprint, now.fingerprint
    if any(old.flags[i] & ASSISTANT for i in common):
        return True
    head = old.tools + old.system
    if len(common) < old.count - head:
        # Without an answer in common, a part of the messages may be what every helper is given.
        return False
    if shared >= head and new.tools + new.system == head:
        return True
    theirs, ours = _head_bytes(old.block_sizes(), head), _head_bytes(new.block_sizes(), new.tools + new.system)
    return abs(theirs - ours) <= SIMILAR_BYTES * max(theirs, ours)


def _head_bytes(sizes: array[int], head: int) -> int:
    return sum(sizes[:head])
