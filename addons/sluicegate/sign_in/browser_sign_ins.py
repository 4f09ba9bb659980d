"""A browser on its way to the identity provider and back: what it was sent with, and who has come back with it.

Each attempt belongs to one browser, known by a cookie: a link that somebody else has prepared leads nowhere. What is kept of it is
sealed for whoever has both the cookie and the secret under which the browser comes back. Methods block.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from sluicegate.addresses import limited_as
from sluicegate.sign_in.identity import Identity, identity_as_json, identity_from_json
from sluicegate.sign_in.kept import SignInStore, Waiting
from sluicegate.sign_in.tokens import digest_of, new_token, seal, unseal

LIFETIME_MS = 600_000
"""How long an attempt may take, from leaving for the identity provider to the last click."""

MAX_ATTEMPTS, MAX_PER_SOURCE = 5_000, 50


@dataclass(frozen=True, slots=True)
class BrowserSignIn:
    """One attempt. ``request`` is the client's that it is to approve; None for the dashboard."""

    request: Waiting | None
    redirect_uri: str
    source: str
    began_at: int
    user_code: str = ""
    """As its person has typed it."""
    nonce: str = field(default_factory=new_token, repr=False)
    verifier: str = field(default_factory=new_token, repr=False)
    identity: Identity | None = None
    """Who has come back; None until then."""

    @property
    def limited_as(self) -> str:
        """By what the attempts of this browser are counted."""
        return limited_as(self.source)

    def by(self, identity: Identity) -> BrowserSignIn:
        """Return the attempt of whoever has come back."""
        return replace(self, identity=identity)


class BrowserSignIns:
    """The attempts under way, by the hash of their secret with that of their browser: each is looked up with both, and once."""

    def __init__(self, store: SignInStore) -> None:
        self._store = store

    def begin(self, attempt: BrowserSignIn, browser: str, now: int) -> str:
        """Return the secret under which a browser comes back. Raises TooManyError or SignInsAwayError."""
        secret = new_token()
        sealed = seal(_text_of(attempt), _both(secret, browser))
        user_id = attempt.identity.user_id if attempt.identity is not None else None
        most = (MAX_ATTEMPTS, MAX_PER_SOURCE)
        ends_at = attempt.began_at + LIFETIME_MS
        self._store.leave(digest_of(_both(secret, browser)), attempt.limited_as, ends_at, sealed, user_id, now, most)
        return secret

    def take(self, secret: str, browser: str, now: int) -> BrowserSignIn | None:
        """Return the attempt that this browser began under a secret, which ends with that. Raises SignInsAwayError."""
        if not (secret and browser and self._store.is_begun):
            return None
        sealed = self._store.come_back(digest_of(_both(secret, browser)), now)
        text = unseal(sealed, _both(secret, browser)) if sealed is not None else None
        return _attempt_of(text) if text is not None else None


def _both(secret: str, browser: str) -> str:
    return f"{browser} {secret}"


def _text_of(attempt: BrowserSignIn) -> str:
    a, request, identity = attempt, attempt.request, attempt.identity
    shown = None if request is None else [request.device.hex(), *request[1:]]
    who = None if identity is None else [identity_as_json(identity), identity.provider_token]
    return json.dumps([shown, a.redirect_uri, a.source, a.began_at, a.user_code, a.nonce, a.verifier, who])


def _attempt_of(text: str) -> BrowserSignIn:
    shown, *about, who = json.loads(text)
    request = None if shown is None else Waiting(bytes.fromhex(shown[0]), *shown[1:])
    return BrowserSignIn(*[request, *about, None if who is None else identity_from_json(*who)])
