"""Name the first block that differs between two prompts of one conversation, and how: changed, added, removed, moved."""

from __future__ import annotations

from array import array

from sluicegate.prompt_caching.finding import Break
from sluicegate.prompt_caching.fingerprint import Fingerprint
from sluicegate.prompt_caching.nearest import Match
from sluicegate.prompt_caching.prompt import Prompt


def block_change(now: Prompt, match: Match) -> Break | None:
    """Return the first change of a block within the cached prefix; None where there is none that was paid for.

    A conversation that was cut back and went on differently has lost what stood there, and nothing was paid again.
    """
    if match.is_whole:
        return None
    old, new, at = match.before.fingerprint, now.fingerprint, match.shared_prefix
    if at < max(old.tools, new.tools) and _tools(old) != _tools(new):
        return _tool_change(old, new)
    head = max(old.tools + old.system, new.tools + new.system)
    if at < head and _system(old) != _system(new):
        return _system_change(old, new)
    return _message_change(now, match)


def _tools(fingerprint: Fingerprint) -> list[bytes]:
    return [fingerprint.digest(i) for i in range(fingerprint.tools)]


def _system(fingerprint: Fingerprint) -> list[bytes]:
    return [fingerprint.digest(i) for i in range(fingerprint.tools, fingerprint.tools + fingerprint.system)]


def _tool_change(old: Fingerprint, new: Fingerprint) -> Break:
    """Return what happened to the tools, told apart by the hashes of their names."""
    before, now = [old.name(i) for i in range(old.tools)], [new.name(i) for i in range(new.tools)]
    sizes_before, sizes_now = old.block_sizes(), new.block_sizes()
    added = [i for i, name in enumerate(now) if name not in before]
    removed = [i for i, name in enumerate(before) if name not in now]
    if added and (not removed or added[0] <= removed[0]):
        return Break("tool_added", "tools", added[0] + 1, size_now=sizes_now[added[0]])
    if removed:
        return Break("tool_removed", "tools", removed[0] + 1, size_before=sizes_before[removed[0]])
    for i, name in enumerate(now):
        was = before.index(name)
        if old.digest(was) != new.digest(i):
            return Break("tool_changed", "tools", i + 1, size_before=sizes_before[was], size_now=sizes_now[i])
    first = next((i for i, name in enumerate(now) if i >= len(before) or before[i] != name), len(now) - 1)
    return Break("tool_order", "tools", first + 1)


def _system_change(old: Fingerprint, new: Fingerprint) -> Break:
    before, now = _system(old), _system(new)
    at = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), min(len(before), len(now)))
    size_before = old.block_sizes()[old.tools + at] if at < len(before) else None
    size_now = new.block_sizes()[new.tools + at] if at < len(now) else None
    return Break("system_changed", "system", at + 1, size_before=size_before, size_now=size_now)


def _bytes(blocks: list[int], sizes: array[int]) -> int:
    return sum(sizes[i] for i in blocks)


def _message_change(now: Prompt, match: Match) -> Break | None:
    """Return the message block that differs, if what stood behind it is still there, or if it was only exchanged."""
    old, new, at = match.before.fingerprint, now.fingerprint, match.shared_prefix
    if at >= new.count:
        return None
    end = match.before.last_cached + 1
    sizes_before, sizes_now = old.block_sizes(), new.block_sizes()
    lost = [i for i in range(at, end) if i not in match.kept]
    behind = [i for i in range(at, end) if i in match.kept]
    # Results of tools that are cleared one by one are many bytes, and few blocks of all.
    is_still_there = 2 * len(behind) >= len(lost) or 2 * _bytes(behind, sizes_before) >= _bytes(lost, sizes_before)
    is_end_exchanged = len(lost) == 1 and new.count > old.count
    if not is_end_exchanged and (not behind or not is_still_there):
        return None
    return Break(
        "message_changed",
        "messages",
        new.position(at) if new.level(at) == "messages" else 1,
        size_before=sizes_before[at] if at < old.count else None,
        size_now=sizes_now[at],
    )
