"""People who have signed in to the dashboard at the identity provider: in memory, as dashboard sessions are.

A dashboard session stands for a credential, known by its hash. A person has none here, so a random value stands for one.
"""

from __future__ import annotations

import hashlib
import secrets

from sluicegate.dashboard_sessions import MAX_AGE_MS
from sluicegate.sign_in.identity import Identity

MAX_PEOPLE = 5_000


class DashboardPeople:
    """Who they are, by the hash that stands for a credential. Times are epoch milliseconds."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._known: dict[bytes, tuple[Identity, str, int]] = {}
        """With the provider, and when each signed in; the oldest first."""

    def enter(self, identity: Identity, provider: str, now: int) -> bytes:
        """Remember a person who has signed in just now, and return the hash."""
        digest = hashlib.sha256(self._secret + f"{provider} {identity.subject}".encode("utf-8", "surrogatepass")).digest()
        self._known.pop(digest, None)
        self._known[digest] = identity, provider, now
        if len(self._known) > MAX_PEOPLE:
            del self._known[next(iter(self._known))]
        return digest

    def find(self, digest: bytes, provider: str, now: int) -> Identity | None:
        """Return who has signed in at this provider within a working day."""
        found = self._known.get(digest)
        return found[0] if found is not None and found[1] == provider and now < found[2] + MAX_AGE_MS else None

    def forget(self, user_id: str) -> None:
        """Forget a user: the sessions end."""
        for digest in [d for d, (identity, _, _) in self._known.items() if identity.user_id == user_id]:
            del self._known[digest]
