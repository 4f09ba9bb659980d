"""People who have signed in to the dashboard at the identity provider.

A dashboard session stands for a credential, known by its hash. A person has none here, so a random value stands for one.
"""

from __future__ import annotations

from collections.abc import Collection

from sluicegate.dashboard_sessions import MAX_AGE_MS
from sluicegate.sign_in.identity import Identity, identity_as_json, identity_from_json
from sluicegate.sign_in.kept import SignInStore

MAX_PEOPLE = 5_000


class DashboardPeople:
    """Who they are, by the hash that stands for a credential. Times are epoch milliseconds."""

    def __init__(self, store: SignInStore) -> None:
        self._store = store
        self._known: dict[bytes, tuple[Identity, str, int]] = {}
        """With the provider, and when each signed in; those that this process has asked for, the oldest first."""

    def enter(self, identity: Identity, provider: str, now: int) -> bytes:
        """Keep a person who has signed in just now, and return the hash. Blocking. Raises SignInsAwayError."""
        digest = self._store.enter(provider, identity.subject, identity.user_id, identity_as_json(identity), now)
        self._note(digest, identity, provider, now)
        return digest

    def find(self, digest: bytes, provider: str, now: int) -> Identity | None:
        """Return who has signed in at this provider within a working day, as far as this process knows."""
        found = self._known.get(digest)
        return found[0] if found is not None and found[1] == provider and now < found[2] + MAX_AGE_MS else None

    def look_up(self, digest: bytes) -> bool:
        """Ask the store for whom this hash stands; return whether it stands for anybody. Blocking. Raises SignInsAwayError."""
        found = self._store.person(digest) if self._store.is_begun else None
        if found is not None:
            self._note(digest, identity_from_json(found.identity), found.provider, found.at)
        return found is not None

    def forget(self, digests: Collection[bytes]) -> None:
        """Forget people: their sessions end."""
        for digest in digests:
            self._known.pop(digest, None)

    def forget_all(self) -> None:
        """Forget everybody, until they are asked for again."""
        self._known.clear()

    def _note(self, digest: bytes, identity: Identity, provider: str, at: int) -> None:
        self._known.pop(digest, None)
        self._known[digest] = identity, provider, at
        if len(self._known) > MAX_PEOPLE:
            self._known.pop(next(iter(self._known)), None)
