"""Renewals that come twice, from a client whose sessions on one machine share a sign-in and each remember its refresh token.

Claude Code is such a client: every terminal keeps the credential that it has read at its start. Two that renew in the same
moment are given the same new tokens, because the client takes a refusal then for the end of the sign-in. One that comes later
is refused, and takes what the other has stored.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

CLIENTS = ("claude-code/", "claude-cli/")
"""How the user agents of such clients begin."""

SAME_MOMENT_MS = 30_000

DISPUTED_MS = 600_000
"""Within how long after such a refusal its person signs in again, where no other session of the client has taken the new tokens."""


class Issued(NamedTuple):
    """The tokens of a sign-in, in clear."""

    access_token: str
    refresh_token: str
    expires_in_s: int
    email: str | None


class RepeatedRenewals:
    """The renewals of a moment ago, by the hash of the refresh token that they were made with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[bytes, tuple[threading.Lock, int]] = {}
        """By hash: held by the one that renews, and how many want it."""
        self._issued: dict[bytes, tuple[Issued, int]] = {}
        """By hash, with the time; the oldest first."""
        self._disputed: dict[str, tuple[str, int]] = {}
        """By sign-in: from which address one came late, and when; the oldest first."""

    @contextmanager
    def turn(self, digest: bytes) -> Iterator[None]:
        """Wait until nobody else renews with this token."""
        with self._lock:
            turn, wanted = self._turns.get(digest, (threading.Lock(), 0))
            self._turns[digest] = turn, wanted + 1
        try:
            with turn:
                yield
        finally:
            with self._lock:
                turn, wanted = self._turns[digest]
                if wanted == 1:
                    del self._turns[digest]
                else:
                    self._turns[digest] = turn, wanted - 1

    def note(self, digest: bytes, issued: Issued, now: int) -> None:
        """Remember for a moment what was issued for a token."""
        with self._lock:
            self._forget_old(now)
            self._issued[digest] = issued, now

    def issued(self, digest: bytes, now: int) -> Issued | None:
        """Return what was issued for a token a moment ago."""
        with self._lock:
            self._forget_old(now)
            found = self._issued.get(digest)
            return found[0] if found is not None else None

    def dispute(self, sign_in_id: str, source: str, now: int) -> None:
        """Remember for a while that a token came late from the address at which it was used: perhaps from whom it was taken."""
        with self._lock:
            self._disputed.pop(sign_in_id, None)
            self._disputed[sign_in_id] = source, now

    def is_disputed(self, sign_in_id: str, source: str, now: int) -> bool:
        """Return whether whoever signs in anew at an address has just been refused the tokens of this sign-in there."""
        with self._lock:
            address, at = self._disputed.get(sign_in_id, ("", -DISPUTED_MS))
            return address == source and now < at + DISPUTED_MS

    def forget_old(self, now: int) -> None:
        """Forget what was issued earlier."""
        with self._lock:
            self._forget_old(now)

    def _forget_old(self, now: int) -> None:
        while self._issued and now >= next(iter(self._issued.values()))[1] + SAME_MOMENT_MS:
            del self._issued[next(iter(self._issued))]
        while self._disputed and now >= next(iter(self._disputed.values()))[1] + DISPUTED_MS:
            del self._disputed[next(iter(self._disputed))]
