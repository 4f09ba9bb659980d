"""Take over what a request repeats of an earlier one, so that only what is new in a conversation is read block by block.

Bytes that are the same have the same blocks. One hash over them tells, which takes a fraction of reading them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from sluicegate.caching.keyed_hash import KeyedHash
from sluicegate.prompt_caching.fingerprint import NAME_BYTES, Anchor, Fingerprint, FingerprintBuilder, last_breakpoint

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
        self._dialect, self._hashed = dialect, _keyed(made.key)
        self._head = b""
        """The hash of the beginning of the messages."""

    def tools(self, raw: bytes) -> bool:
        """Take the tools of a prompt that has them from the same list; return whether there is one."""
        made = self._made
        made.tools_hash = self._digest(raw)
        same = next((e for e in self._earlier if e.tools_hash == made.tools_hash), None)
        if same is None:
            return False
        made.take(same, 0, same.tools)
        made.names = [same.names[i : i + NAME_BYTES] for i in range(0, len(same.names), NAME_BYTES)]
        return True

    def messages(self, raw: bytes) -> tuple[Fingerprint, Anchor] | None:
        """Take the messages up to the furthest anchor that fits, and return that and the prompt it is of; None for none."""
        head = self._head = self._digest(raw[:HEAD_BYTES])
        fitting = [(e.anchor.size, e, e.anchor) for e in self._earlier if e.anchor is not None and e.anchor.head == head]
        for size, earlier, anchor in sorted(fitting, key=lambda found: -found[0]):
            if size <= len(raw) and self._digest(memoryview(raw)[:size]) == anchor.digest:
                self._made.take(earlier, anchor.begin, anchor.block)
                return earlier, anchor
        return None

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
        if size >= MIN_ANCHOR_BYTES:
            self._made.anchor = Anchor(size, self._digest(memoryview(raw)[:size]), self._head, begin, block)

    def _digest(self, raw: bytes | memoryview) -> bytes:
        """Return the hash of some bytes.

        That of so many bytes takes a quarter of SHA-256's time, and can be undone by who has the key; what is kept cannot.
        """
        return hashlib.blake2b(self._hashed.of((self._dialect, raw)), digest_size=WHOLE_BYTES, key=self._made.key).digest()


@lru_cache(maxsize=2)
def _keyed(key: bytes) -> KeyedHash:
    """Return the hash by a key, which takes longer to make than a short hash: a file has one key."""
    return KeyedHash(key)
