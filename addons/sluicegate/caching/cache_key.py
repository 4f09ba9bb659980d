"""The key of a call's answer: a short one, made at once, that tells nearly all calls apart, and a hash of all that the call means.

The second reads the whole body, so it is made only where the short one is known already, or in the thread that keeps the answer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from sluicegate.caching.keyed_hash import HASH_BYTES, SHORT_HASH_BYTES, KeyedHash
from sluicegate.caching.meaning import Meaning

KEY_BYTES = SHORT_HASH_BYTES + HASH_BYTES


class CacheKey:
    """A key that is made as far as it is needed. Two that are compared are made whole only where their short keys are equal.

    The event loop and the thread that keeps answers may use one at the same time.
    """

    __slots__ = ("_hash_value", "_hashed", "_meaning", "_whole", "short")

    def __init__(self, hashed: KeyedHash, meaning: Meaning) -> None:
        self._hashed, self._whole = hashed, b""
        self._meaning: Meaning | None = meaning
        self.short = hashed.of_short(meaning.in_short())
        """The first bytes of the key."""
        self._hash_value = hash(self.short)

    @property
    def whole(self) -> bytes:
        """Return the key by which an answer is kept, ``KEY_BYTES`` long. It is made once; what it is made of is let go then."""
        # Read first: another thread may let go of it once it has noted the key.
        meaning = self._meaning
        if not self._whole and meaning is not None:
            self._whole = self.short + self._hashed.of(meaning.parts())
            self._meaning = None
        return self._whole

    @property
    def held_bytes(self) -> int:
        """Return the size of the call's body, which is held until the key is made."""
        meaning = self._meaning
        return 0 if meaning is None else meaning.body_bytes

    def __hash__(self) -> int:
        return self._hash_value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CacheKey) and self.short == other.short and self.whole == other.whole


class KnownKeys:
    """The keys of kept answers, in 14 bytes each: two keys may share them, and the file tells them apart.

    Any thread may use it. Adding a key again changes nothing, nor does discarding one that is not there.
    """

    def __init__(self) -> None:
        self._of_short: dict[int, int | frozenset[int]] = {}
        """What follows the short key, by short key; several where calls differ in nothing that the short key sees."""
        self._lock = threading.Lock()

    def has_short(self, short: bytes) -> bool:
        """Return whether there is a key that begins like this."""
        return int.from_bytes(short) in self._of_short

    def __contains__(self, key: bytes) -> bool:
        short, rest = _split(key)
        found = self._of_short.get(short)
        return found == rest or (isinstance(found, frozenset) and rest in found)

    def __len__(self) -> int:
        return sum(len(found) if isinstance(found, frozenset) else 1 for found in self._of_short.copy().values())

    def add(self, keys: Iterable[bytes]) -> None:
        """Note some keys."""
        with self._lock:
            for key in keys:
                short, rest = _split(key)
                found = self._of_short.setdefault(short, rest)
                if isinstance(found, frozenset):
                    self._of_short[short] = found | {rest}
                elif found != rest:
                    self._of_short[short] = frozenset((found, rest))

    def discard(self, keys: Iterable[bytes]) -> None:
        """Forget some keys; others with the same short key stay known."""
        with self._lock:
            for key in keys:
                short, rest = _split(key)
                found = self._of_short.get(short)
                if found == rest:
                    del self._of_short[short]
                elif isinstance(found, frozenset) and rest in found:
                    left = found - {rest}
                    self._of_short[short] = left if len(left) > 1 else next(iter(left))


def _split(key: bytes) -> tuple[int, int]:
    return int.from_bytes(key[:SHORT_HASH_BYTES]), int.from_bytes(key[SHORT_HASH_BYTES : 2 * SHORT_HASH_BYTES])
