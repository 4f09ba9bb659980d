"""Device requests (RFC 8628): a client without a browser has asked for tokens, and waits until a person approves it in one.

Kept in memory: after a restart the client asks anew. The client knows its request by the device code, the person by the user code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sluicegate.addresses import limited_as
from sluicegate.sign_in.errors import TooManyError
from sluicegate.sign_in.identity import Identity
from sluicegate.sign_in.tokens import digest_of, new_token, new_user_code

LIFETIME_MS = 600_000
"""How long a request waits for a person."""

INTERVAL_S = 5
"""Seconds that the client waits between two questions."""

EARLY_MS = 1_000
"""How much earlier than that a question may come: clocks and networks are not exact."""

MAX_REQUESTS, MAX_PER_SOURCE = 5_000, 50
"""Requests that may wait, in all and from one address: anybody can make them."""


@dataclass(slots=True)
class DeviceRequest:
    """One request. Times are epoch milliseconds."""

    device: bytes
    """SHA-256 of the device code."""
    user_code: str
    source: str
    """The address of the machine that asks."""
    client: str
    """What the client calls itself."""
    asked_at: int
    interval_s: int = INTERVAL_S
    asked_again_at: int | None = None
    state: Literal["waiting", "approved", "denied"] = "waiting"
    identity: Identity | None = None
    """Who has approved it."""
    virtual_key_id: str = ""
    """That person's key, once it is approved."""
    limited_as: str = field(init=False)

    def __post_init__(self) -> None:
        self.limited_as = limited_as(self.source)

    @property
    def expires_at(self) -> int:
        """When the client has to begin anew."""
        return self.asked_at + LIFETIME_MS


Answer = DeviceRequest | Literal["authorization_pending", "slow_down", "access_denied", "expired_token"]
"""An approved request, which has ended with that, or the error by which its client learns what to do."""


class DeviceRequests:
    """The requests that wait, by the hashes of their codes: the time of a look-up tells nothing about valid ones."""

    def __init__(self) -> None:
        self._by_device: dict[bytes, DeviceRequest] = {}
        """The oldest first."""
        self._by_user: dict[bytes, DeviceRequest] = {}

    def __len__(self) -> int:
        return len(self._by_device)

    def begin(self, source: str, client: str, now: int) -> tuple[str, DeviceRequest]:
        """Return the device code of a new request, and the request. Raises TooManyError."""
        self._forget_old(now)
        counted = limited_as(source)
        of_source = sum(1 for r in self._by_device.values() if r.limited_as == counted)
        if len(self._by_device) >= MAX_REQUESTS or of_source >= MAX_PER_SOURCE:
            raise TooManyError
        user_code = new_user_code()
        while digest_of(user_code) in self._by_user:
            user_code = new_user_code()
        device_code = new_token()
        request = DeviceRequest(digest_of(device_code), user_code, source, client, now)
        self._by_device[request.device] = self._by_user[digest_of(user_code)] = request
        return device_code, request

    def waiting(self, user_code: str, now: int) -> DeviceRequest | None:
        """Return the request with this user code that waits for a person."""
        request = self._by_user.get(digest_of(user_code))
        return request if request is not None and request.state == "waiting" and now < request.expires_at else None

    def poll(self, device_code: str, now: int) -> Answer:
        """Answer a client that asks how its request does; what has been decided is said once, and the request ends with it."""
        request = self._by_device.get(digest_of(device_code))
        if request is None or now >= request.expires_at:
            return "expired_token"
        early = request.asked_again_at is not None and now < request.asked_again_at + request.interval_s * 1000 - EARLY_MS
        request.asked_again_at = now
        if early:
            request.interval_s += INTERVAL_S
            return "slow_down"
        if request.state == "waiting":
            return "authorization_pending"
        self._forget(request)
        return request if request.state == "approved" else "access_denied"

    def approve(self, request: DeviceRequest, identity: Identity, virtual_key_id: str, now: int) -> bool:
        """Approve a request as this person; return whether it still waited."""
        if self.waiting(request.user_code, now) is not request:
            return False
        request.state, request.identity, request.virtual_key_id = "approved", identity, virtual_key_id
        return True

    def deny(self, request: DeviceRequest) -> None:
        """Deny a request, unless it has been approved."""
        if request.state == "waiting":
            request.state = "denied"

    def deny_all_of(self, user_id: str) -> None:
        """Deny what a user has approved and no client has fetched yet. From any thread."""
        for request in list(self._by_device.values()):
            if request.identity is not None and request.identity.user_id == user_id:
                request.state, request.identity = "denied", None

    def _forget_old(self, now: int) -> None:
        while self._by_device and now >= (first := next(iter(self._by_device.values()))).expires_at:
            self._forget(first)

    def _forget(self, request: DeviceRequest) -> None:
        self._by_device.pop(request.device, None)
        self._by_user.pop(digest_of(request.user_code), None)
