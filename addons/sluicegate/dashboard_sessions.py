"""Sessions: who is signed in to the dashboard. Kept in memory alone, so a restart signs everybody out.

A session stands for the credential it was opened with, known by its hash: whoever loses the credential loses the session.
The holder of the smallest key may open sessions, so what one holder can take up is bounded, and so is all of it.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

IDLE_TIMEOUT_MS = 2 * 3_600_000
"""Milliseconds after which a session nobody used ends."""

MAX_AGE_MS = 12 * 3_600_000
"""Milliseconds after which any session ends: a working day."""

MAX_PER_HOLDER = 20
MAX_SESSIONS = 5_000


@dataclass(slots=True)
class _Session:
    holder: bytes
    opened_at: int
    used_at: int

    def over(self, now: int) -> bool:
        return now >= self.used_at + IDLE_TIMEOUT_MS or now >= self.opened_at + MAX_AGE_MS


class Sessions:
    """Open sessions by the hash of their id. Times are epoch milliseconds."""

    def __init__(self) -> None:
        self._open: dict[bytes, _Session] = {}
        """The one not used for longest first."""
        self._held: dict[bytes, list[bytes]] = {}
        """By holder, in order of opening."""

    def __len__(self) -> int:
        return len(self._open)

    def open(self, holder: bytes, now: int, place: str = "") -> str:
        """Begin a session for whoever has the credential with this hash; its id, known to nobody else.

        From elsewhere than ``place`` it is no session.

        Where a holder has its share, its oldest ends; where all is full, the one not used for longest.
        """
        while self._open and (first := next(iter(self._open.items())))[1].over(now):
            self._forget(first[0])
        if len(self._held.get(holder, ())) >= MAX_PER_HOLDER:
            self._forget(self._held[holder][0])
        elif len(self._open) >= MAX_SESSIONS:
            self._forget(next(iter(self._open)))
        session_id = secrets.token_urlsafe(32)
        key = _digest(session_id, place)
        self._open[key] = _Session(holder, now, now)
        self._held.setdefault(holder, []).append(key)
        return session_id

    def find(self, session_id: str, now: int, place: str = "", *, use: bool = True) -> bytes | None:
        """Whose session this is, None where it is over or never was. With ``use``, note that somebody used it.

        Looked up by hash, so the time taken tells nothing about ids.
        """
        key = _digest(session_id, place)
        found = self._open.get(key)
        if found is None:
            return None
        if found.over(now):
            self._forget(key)
            return None
        if use:
            found.used_at = now
            self._open[key] = self._open.pop(key)
        return found.holder

    def close(self, session_id: str, place: str = "") -> None:
        """End a session."""
        self._forget(_digest(session_id, place))

    def _forget(self, key: bytes) -> None:
        gone = self._open.pop(key, None)
        if gone is not None:
            held = self._held[gone.holder]
            held.remove(key)
            if not held:
                del self._held[gone.holder]


def _digest(session_id: str, place: str) -> bytes:
    return hashlib.sha256(f"{place} {session_id}".encode("utf-8", "surrogateescape")).digest()


FREE_ATTEMPTS = 5
"""Wrong attempts a source may make before it is slowed."""

MAX_DELAY_MS = 30_000
"""Milliseconds a source waits at most between two attempts."""

FORGET_AFTER_MS = 15 * 60_000
"""Milliseconds without a wrong attempt after which a source begins anew."""

MAX_SOURCES = 10_000


class Attempts:
    """Wrong attempts to sign in, by where they come from: after a few each costs a longer wait."""

    def __init__(self) -> None:
        self._wrong: dict[str, tuple[int, int]] = {}
        """By source: how many, and when the last was; oldest first."""

    def delay_ms(self, source: str, now: int) -> int:
        """Milliseconds this source has to wait before it may try; 0 if it may now."""
        count, last = self._wrong.get(source, (0, 0))
        if count < FREE_ATTEMPTS or now - last >= FORGET_AFTER_MS:
            return 0
        return max(0, last + min(MAX_DELAY_MS, 1_000 << min(count - FREE_ATTEMPTS, 10)) - now)

    def failed(self, source: str, now: int) -> None:
        """Count a wrong attempt."""
        count, last = self._wrong.pop(source, (0, 0))
        self._wrong[source] = (1 if now - last >= FORGET_AFTER_MS else count + 1, now)
        if len(self._wrong) > MAX_SOURCES:
            del self._wrong[next(iter(self._wrong))]
