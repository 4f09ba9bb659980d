"""Dashboard sessions: who is signed in. Kept in memory only, so a restart signs everyone out.

A session stands for the credential it was opened with, known by its hash: when the credential is revoked, so is the
session. Anyone with a virtual key may open sessions, so their number is limited per holder and in total.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

IDLE_TIMEOUT_MS = 2 * 3_600_000
"""How long a session lasts without being used."""

MAX_AGE_MS = 12 * 3_600_000
"""How long a session lasts at most: a working day."""

MAX_PER_HOLDER = 20
"""Sessions that one credential may have open."""

MAX_SESSIONS = 5_000


@dataclass(slots=True)
class _Session:
    holder: bytes
    opened_at: int
    used_at: int

    def is_over(self, now: int) -> bool:
        return now >= self.used_at + IDLE_TIMEOUT_MS or now >= self.opened_at + MAX_AGE_MS


class Sessions:
    """Open sessions by the hash of their id. Times are epoch milliseconds."""

    def __init__(self) -> None:
        self._open: dict[bytes, _Session] = {}
        """Least recently used first."""
        self._by_holder: dict[bytes, list[bytes]] = {}
        """By holder, oldest first."""

    def __len__(self) -> int:
        return len(self._open)

    def open(self, holder: bytes, now: int, path: str = "") -> str:
        """Begin a session for the holder of the credential with this hash and return its secret id.

        The id is valid only under ``path``, the path of its pages. Where the holder has too many sessions, the oldest
        of them ends; where there are too many in total, the least recently used.
        """
        while self._open and (first := next(iter(self._open.items())))[1].is_over(now):
            self._forget(first[0])
        if len(self._by_holder.get(holder, ())) >= MAX_PER_HOLDER:
            self._forget(self._by_holder[holder][0])
        elif len(self._open) >= MAX_SESSIONS:
            self._forget(next(iter(self._open)))
        session_id = secrets.token_urlsafe(32)
        key = session_digest(session_id, path)
        self._open[key] = _Session(holder, now, now)
        self._by_holder.setdefault(holder, []).append(key)
        return session_id

    def find(self, session_id: str, now: int, path: str = "", *, use: bool = True) -> bytes | None:
        """Return the holder of a session, None where it is over or never existed. With ``use``, note that it was used.

        The id is looked up by its hash, so the time taken reveals nothing about valid ids.
        """
        key = session_digest(session_id, path)
        found = self._open.get(key)
        if found is None:
            return None
        if found.is_over(now):
            self._forget(key)
            return None
        if use:
            found.used_at = now
            self._open[key] = self._open.pop(key)
        return found.holder

    def close(self, session_id: str, path: str = "") -> None:
        """End a session."""
        self._forget(session_digest(session_id, path))

    def _forget(self, key: bytes) -> None:
        gone = self._open.pop(key, None)
        if gone is not None:
            sessions = self._by_holder[gone.holder]
            sessions.remove(key)
            if not sessions:
                del self._by_holder[gone.holder]


def session_digest(session_id: str, path: str) -> bytes:
    """Return what a session is known by: who reads it cannot use it."""
    return hashlib.sha256(f"{path} {session_id}".encode("utf-8", "surrogateescape")).digest()


FREE_ATTEMPTS = 5
"""Wrong attempts a source may make before it has to wait."""

MAX_DELAY_MS = 30_000
"""The longest wait between two attempts."""

FORGET_AFTER_MS = 15 * 60_000
"""How long after its last wrong attempt a source counts as new."""

MAX_SOURCES = 10_000
"""Sources that are remembered; beyond that the oldest is forgotten."""


class Attempts:
    """Wrong attempts to sign in, by source address: after a few, each costs a longer wait."""

    def __init__(self) -> None:
        self._wrong: dict[str, tuple[int, int]] = {}
        """By source: how many, and when the last one was; oldest first."""

    def delay_ms(self, source: str, now: int) -> int:
        """Return how many milliseconds this source has to wait before its next attempt; 0 if it need not."""
        return delay_after(*self._wrong.get(source, (0, 0)), now)

    def failed(self, source: str, now: int) -> None:
        """Count a wrong attempt."""
        count, last = self._wrong.pop(source, (0, 0))
        self._wrong[source] = (1 if now - last >= FORGET_AFTER_MS else count + 1, now)
        if len(self._wrong) > MAX_SOURCES:
            del self._wrong[next(iter(self._wrong))]


def delay_after(count: int, last: int, now: int) -> int:
    """Return how many milliseconds a source has to wait that has made so many wrong attempts, the last of them then."""
    if count < FREE_ATTEMPTS or now - last >= FORGET_AFTER_MS:
        return 0
    return max(0, last + min(MAX_DELAY_MS, 1_000 << min(count - FREE_ATTEMPTS, 10)) - now)
