"""A browser on its way to the identity provider and back: what it was sent with, and who has come back with it.

Each attempt belongs to one browser, known by a cookie: a link that somebody else has prepared leads nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sluicegate.addresses import limited_as
from sluicegate.sign_in.device_requests import DeviceRequest
from sluicegate.sign_in.errors import TooManyError
from sluicegate.sign_in.identity import Identity
from sluicegate.sign_in.tokens import digest_of, new_token

LIFETIME_MS = 600_000
"""How long an attempt may take, from leaving for the identity provider to the last click."""

MAX_ATTEMPTS, MAX_PER_SOURCE = 5_000, 50


@dataclass(slots=True)
class BrowserSignIn:
    """One attempt. ``request`` is the client's that it is to approve; None for the dashboard."""

    request: DeviceRequest | None
    redirect_uri: str
    source: str
    began_at: int
    nonce: str = field(default_factory=new_token, repr=False)
    verifier: str = field(default_factory=new_token, repr=False)
    identity: Identity | None = None
    """Who has come back; None until then."""
    limited_as: str = field(init=False)

    def __post_init__(self) -> None:
        self.limited_as = limited_as(self.source)


class BrowserSignIns:
    """The attempts under way, by the hash of their secret with that of their browser: each is looked up with both, and once."""

    def __init__(self) -> None:
        self._open: dict[bytes, BrowserSignIn] = {}
        """The oldest first."""

    def begin(self, attempt: BrowserSignIn, browser: str, now: int) -> str:
        """Return the secret under which a browser comes back. Raises TooManyError."""
        while self._open and now >= (first := next(iter(self._open.items())))[1].began_at + LIFETIME_MS:
            del self._open[first[0]]
        of_source = sum(1 for a in self._open.values() if a.limited_as == attempt.limited_as)
        if len(self._open) >= MAX_ATTEMPTS or of_source >= MAX_PER_SOURCE:
            raise TooManyError
        secret = new_token()
        self._open[_key(secret, browser)] = attempt
        return secret

    def take(self, secret: str, browser: str, now: int) -> BrowserSignIn | None:
        """Return the attempt that this browser began under a secret, which ends with that."""
        found = self._open.pop(_key(secret, browser), None)
        return found if found is not None and now < found.began_at + LIFETIME_MS else None

    def end_all_of(self, user_id: str) -> None:
        """End the attempts with which a user has come back. From any thread."""
        for attempt in list(self._open.values()):
            if attempt.identity is not None and attempt.identity.user_id == user_id:
                attempt.identity, attempt.began_at = None, -LIFETIME_MS


def _key(secret: str, browser: str) -> bytes:
    return digest_of(f"{browser} {secret}")
