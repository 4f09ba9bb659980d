"""Device requests (RFC 8628): a client without a browser has asked for tokens, and waits until a person approves it in one.

The client knows its request by the device code, the person by the user code. The store knows the hashes of both, so the time of
a look-up tells nothing about valid ones, and what is for the client is sealed for whoever has the device code. A user code is so
short that its hash alone could be reversed within its lifetime, so a secret of the gateways is hashed with it. Methods block.
"""

from __future__ import annotations

import hmac
from typing import Literal, NamedTuple

from sluicegate.addresses import limited_as
from sluicegate.sign_in.identity import Identity, identity_as_json, identity_from_json
from sluicegate.sign_in.kept import NewRequest, SignInStore, Waiting
from sluicegate.sign_in.tokens import digest_of, new_token, new_user_code, public_key_of, seal_for, unseal_own

LIFETIME_MS = 600_000
"""How long a request waits for a person."""

INTERVAL_S = 5
"""Seconds that the client waits between two questions."""

EARLY_MS = 1_000
"""How much earlier than that a question may come: clocks and networks are not exact."""

MAX_REQUESTS, MAX_PER_SOURCE = 5_000, 50
"""Requests that may wait, in all and from one address: anybody can make them."""


class Codes(NamedTuple):
    """The codes of a new request."""

    device_code: str
    user_code: str


class Approved(NamedTuple):
    """A request that a person has approved."""

    request: Waiting
    identity: Identity
    """Who has approved it."""
    virtual_key_id: str
    """That person's key."""


Answer = Approved | Literal["authorization_pending", "slow_down", "access_denied", "expired_token"]
"""What a client learns: who has approved its request, or the error by which it knows what to do."""


class DeviceRequests:
    """The requests that wait."""

    def __init__(self, store: SignInStore) -> None:
        self._store = store

    def begin(self, source: str, client: str, now: int, secret: str | None = None) -> Codes:
        """Return the codes of a new request; ``secret`` is one that all gateways have. Raises TooManyError or SignInsAwayError."""
        device_code = new_token()
        waiting = Waiting(digest_of(device_code), source, client, now)
        while True:
            user_code = new_user_code()
            about = (_digest(user_code, secret), limited_as(source), now + LIFETIME_MS, INTERVAL_S, public_key_of(device_code))
            if self._store.ask(NewRequest(waiting, *about), MAX_REQUESTS, MAX_PER_SOURCE):
                return Codes(device_code, user_code)

    def guess(self, user_code: str | None, source: str, now: int, secret: str | None = None) -> int | Waiting | None:
        """Return the request with this user code that waits for a person; None where there is none.

        Returns the milliseconds that this address has to wait first, where too many wrong codes came from it.
        Raises SignInsAwayError.
        """
        return self._store.guess(limited_as(source), _digest(user_code, secret) if user_code is not None else None, now)

    def poll(self, device_code: str, now: int) -> Answer:
        """Answer a client that asks how its request does. Raises SignInsAwayError.

        An approved one ends with the sign-in that begins in its place; that it was denied is said once.
        """
        found = self._store.poll(digest_of(device_code), now, EARLY_MS, INTERVAL_S) if self._store.is_begun else None
        if found is None or found.state == "gone":
            return "expired_token"
        if found.state == "early":
            return "slow_down"
        if found.state == "waiting":
            return "authorization_pending"
        if found.state == "denied" or found.waiting is None:
            return "access_denied"
        provider_token = unseal_own(found.sealed, device_code) if found.sealed is not None else None
        return Approved(found.waiting, identity_from_json(found.identity, provider_token), found.virtual_key_id)

    def approve(self, request: Waiting, identity: Identity, virtual_key_id: str, now: int) -> bool:
        """Approve a request as this person; return whether it still waited. Raises SignInsAwayError."""
        public_key = self._store.public_key(request.device)
        if public_key is None:
            return False
        sealed = seal_for(identity.provider_token, public_key) if identity.provider_token is not None else None
        return self._store.approve(request.device, identity.user_id, identity_as_json(identity), sealed, virtual_key_id, now)

    def deny(self, request: Waiting) -> None:
        """Deny a request, unless it has been approved. Raises SignInsAwayError."""
        self._store.deny(request.device)

    def forget(self, request: Waiting) -> None:
        """Delete a request, whatever was decided. Raises SignInsAwayError."""
        self._store.forget(request.device)


def _digest(user_code: str, secret: str | None) -> bytes:
    return hmac.digest((secret or "").encode(), user_code.encode(), "sha256")
