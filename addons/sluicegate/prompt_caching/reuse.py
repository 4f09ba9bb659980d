"""Take over what a request repeats of an earlier one, so that only what is new in a conversation is read block by block.

Bytes that are the same have the same blocks. One hash over them tells, which takes a fraction of reading them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sluicegate.prompt_caching.fingerprint import KEY_BYTES, NAME_BYTES, Anchor, Fingerprint, FingerprintBuilder, last_breakpoint

WHOLE_BYTES = 16
"""Bytes of the hash of a whole list."""

HEAD_BYTES = 256
"""Bytes of a list of messages by whose hash other conversations are told at once."""

MIN_ANCHOR_BYTES = 4096
"""Bytes that must stand before an anchor for it to be worth its hash."""

MOVING_MESSAGES = 6
"""Messages at the end among which a client moves its breakpoints with each turn."""


class Reuse:
    """What one request may take from earlier prompts of its session."""

    def __init__(self, made: FingerprintBuilder, earlier: Sequence[Fingerprint], dialect: bytes) -> None:
        """Take the prompts of other requests; ``dialect`` keeps those of another API apart."""
        self._made, self._earlier = made, earlier
        # By SHA-256, for which processors have instructions; of so much at once BLAKE2b takes two and a half times as long.
        self._begun = hashlib.sha256(made.key + dialect.ljust(KEY_BYTES, b"\0"))
        self._running = self._begun.copy()
        self._hashed = 0

    def tools(self, raw: bytes) -> bool:
        """Take the tools of a prompt that has them from the same list; return whether there is one."""
        made, whole = self._made, self._begun.copy()
        whole.update(raw)
        made.tools_hash = whole.digest()[:WHOLE_BYTES]
        same = next((e for e in self._earlier if e.tools_hash == made.tools_hash), None)
        if same is None:
            return False
        made.take(same, 0, same.tools)
        made.names = [same.names[i : i + NAME_BYTES] for i in range(0, len(same.names), NAME_BYTES)]
        return True

    def messages(self, raw: bytes) -> tuple[Fingerprint, Anchor] | None:
        """Take the messages up to the furthest anchor that fits, and return that and the prompt it is of; None for none."""
        head = self._head(raw)
        fitting = [(e.anchor.size, e, e.anchor) for e in self._earlier if e.anchor is not None and e.anchor.head == head]
        best: tuple[Fingerprint, Anchor] | None = None
        for size, earlier, anchor in sorted(fitting, key=lambda found: found[0]):
            if size <= len(raw) and self._digest_to(raw, size) == anchor.digest:
                best = earlier, anchor
        if best is not None:
            self._made.take(best[0], best[1].begin, best[1].block)
        return best

    def set_anchor(self, raw: bytes, begin: int, places: list[tuple[int, int]]) -> None:
        """Set the anchor for those to come.

        ``begin`` is the list's first block, and ``places`` says where each message that was read begins, and its first block.
        """
        flags, first = self._made.flags, len(places) - 1
        for i in range(max(0, len(places) - MOVING_MESSAGES), len(places)):
            end = places[i + 1][1] if i + 1 < len(places) else len(flags)
            if last_breakpoint(flags[places[i][1] : end]) >= 0:
                first = i
                break
        if first < 0:
            return
        size, block = places[first]
        if size < self._hashed:
            # A longer conversation with the same beginning was looked for.
            self._running, self._hashed = self._begun.copy(), 0
        if size >= MIN_ANCHOR_BYTES:
            self._made.anchor = Anchor(size, self._digest_to(raw, size), self._head(raw), begin, block)

    def _head(self, raw: bytes) -> bytes:
        begun = self._begun.copy()
        begun.update(raw[:HEAD_BYTES])
        return begun.digest()[:WHOLE_BYTES]

    def _digest_to(self, raw: bytes, size: int) -> bytes:
        """Return the hash of the first bytes, of ever more of them."""
        self._running.update(memoryview(raw)[self._hashed : size])
        self._hashed = size
        return self._running.copy().digest()[:WHOLE_BYTES]
