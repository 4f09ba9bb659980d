"""What one process knows of sign-ins in memory, where calls are judged: access tokens, and who is at the dashboard."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection
from dataclasses import replace

from sluicegate.policy.model import Policy
from sluicegate.sign_in.dashboard_people import DashboardPeople
from sluicegate.sign_in.identity import Identity
from sluicegate.sign_in.kept import Changes, NewTokens, SignIn, SignInStore, Token
from sluicegate.sign_in.live_keys import LiveKeys


class Known:
    """What is known. ``in_force``, ``knows`` and ``groups_of`` do not block; nothing else is for the proxy's loop."""

    def __init__(self, store: SignInStore, clock: Callable[[], int]) -> None:
        self.store, self._clock, self._lock = store, clock, threading.RLock()
        self._tokens: dict[bytes, Token] = {}
        self.people = DashboardPeople(store)
        self.on_sessions: Callable[[Collection[bytes] | None], None] = lambda _: None
        """Told which sessions of the dashboard have ended; None where any may have."""
        self._version = 0
        self._in_force: tuple[Policy, int, Policy] | None = None

    def in_force(self, policy: Policy) -> Policy:
        """Return a policy with the access tokens as values of its keys: another one each time a token is issued or taken back.

        So whatever was remembered for the policy of a moment ago is judged anew.
        """
        if policy.oidc is None:
            # Asked several times a call.
            return policy
        last = self._in_force
        if last is not None and last[0] is policy and last[1] == self._version:
            return last[2]
        version = self._version
        made = replace(policy, keys_by_digest=LiveKeys(policy.keys_by_digest, policy.virtual_keys, self._tokens))
        self._in_force = policy, version, made
        return made

    def knows(self, access: bytes) -> bool:
        """Return whether this process knows an access token by its hash."""
        return access in self._tokens

    def apply(self, changes: Changes) -> None:
        """Take over what has changed in the store."""
        with self._lock:
            known = self._tokens
            if changes.is_whole:
                for digest in [d for d in known if d not in changes.tokens]:
                    del known[digest]
                self.people.forget_all()
            known.update(changes.tokens)
            ended = set(changes.ended.sign_ins)
            for digest in [d for d, token in known.items() if token.sign_in_id in ended] if ended else ():
                del known[digest]
            self.people.forget(changes.ended.people)
            if changes.is_whole or changes.ended.sessions:
                self.on_sessions(None if changes.is_whole else changes.ended.sessions)
            if changes.is_whole or changes.tokens or ended:
                self._version += 1

    def read[T](self, work: Callable[[], T], then: Callable[[T], None]) -> T:
        """Read from the store and take over what was read, with nothing changed here in between."""
        with self._lock:
            found = work()
            then(found)
            return found

    def note_token(self, access: bytes, token: Token | None) -> None:
        """Take over an access token that was looked up."""
        if token is not None:
            self._tokens[access] = token
            self._version += 1

    def enter(self, identity: Identity, provider: str) -> bytes:
        """Keep who has signed in to the dashboard, and return the hash that stands for a credential. Raises SignInsAwayError."""
        with self._lock:
            return self.people.enter(identity, provider, self._clock())

    def look_up_person(self, digest: bytes) -> bool:
        """Ask the store for whom a hash stands; return whether it stands for anybody. Raises SignInsAwayError."""
        with self._lock:
            return self.people.look_up(digest)

    def groups_of(self, access: bytes) -> tuple[str, ...] | None:
        """Return the groups of whoever has the access token with this hash; None where there is none."""
        token = self._tokens.get(access)
        return tuple(json.loads(token.groups)) if token is not None else None

    def _note(self, tokens: NewTokens, sign_in: SignIn) -> None:
        about = (sign_in.id, sign_in.virtual_key_id, tokens.access_ends_at, sign_in.groups, sign_in.user_id)
        self._tokens[tokens.access] = Token(*about)
        self._version += 1

    def _forget(self, ids: set[str]) -> None:
        for digest in [digest for digest, token in self._tokens.items() if token.sign_in_id in ids]:
            del self._tokens[digest]
        self._version += 1
