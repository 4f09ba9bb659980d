"""How much of a processor may go into what clients send: a share for each key, and one for all of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

SHARE, BURST_S = 0.1, 2.0
"""Share of one core for all keys, and seconds that may be saved up for a burst.

Whoever reads holds the interpreter's lock, so whatever this takes, calls wait for.
"""

KEY_SHARE, KEY_BURST_S = 0.04, 1.0
"""The same for one key."""

LEAST_S = 0.002
"""What a request counts as at least: it costs more than its reading."""

MAX_KEYS = 2_000
"""Keys whose time is remembered."""


class _Bucket:
    def __init__(self, share: float, burst_s: float, now: float) -> None:
        self._share, self._burst_s = share, burst_s
        self._left_s, self._at = burst_s, now

    def left_s(self, now: float) -> float:
        """Return the processor seconds that are left, negative after one that took more."""
        self._left_s = min(self._burst_s, self._left_s + (now - self._at) * self._share)
        self._at = now
        return self._left_s

    def spend(self, seconds: float) -> None:
        self._left_s -= seconds

    def wait_s(self, now: float) -> float:
        """Return the seconds until something is left."""
        return max(0.0, -self.left_s(now) / self._share)


class Pace:
    """Says whether a key's next request is read, and when not, when to send it again. For any thread."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """``monotonic`` returns seconds."""
        self._monotonic, self._lock = monotonic, threading.Lock()
        self._all = _Bucket(SHARE, BURST_S, monotonic())
        self._keys: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, key_id: str) -> float:
        """Return the seconds for which nothing of a key is read; 0 if it is now."""
        with self._lock:
            now = self._monotonic()
            return max(self._all.wait_s(now), self._of(key_id, now).wait_s(now))

    def spend(self, key_id: str, seconds: float) -> None:
        """Take the processor seconds of a request off what is left."""
        seconds = max(LEAST_S, seconds)
        with self._lock:
            self._all.spend(seconds)
            self._of(key_id, self._monotonic()).spend(seconds)

    def _of(self, key_id: str, now: float) -> _Bucket:
        bucket = self._keys.get(key_id)
        if bucket is None:
            bucket = self._keys[key_id] = _Bucket(KEY_SHARE, KEY_BURST_S, now)
            if len(self._keys) > MAX_KEYS:
                self._keys.popitem(last=False)
        self._keys.move_to_end(key_id)
        return bucket
