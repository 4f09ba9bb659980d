"""What is kept of sign-ins, and the interface of the store that has it: a file of this host, or the database of a fleet.

No token and no code is in it: they are known by their hashes, and what belongs to somebody else is sealed for their holder.
Every method blocks, and raises SignInsAwayError; any thread may call it. Times are epoch milliseconds, and ``now`` is the caller's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class SignIn:
    """One sign-in: a person on one machine."""

    id: str
    user_id: str
    virtual_key_id: str
    subject: str
    email: str | None
    name: str | None
    source: str
    """The address of the machine that asked."""
    client: str
    """What the client calls itself."""
    began_at: int
    renewed_at: int
    checked_at: int
    """When the identity provider last vouched for the person."""
    ends_at: int
    groups: str
    """A JSON list."""
    provider_token: bytes | None = None
    """The identity provider's refresh token, sealed for the holder of ours."""


class Token(NamedTuple):
    """What is known of one access token."""

    sign_in_id: str
    virtual_key_id: str
    ends_at: int
    groups: str
    """Those of the sign-in, a JSON list."""
    user_id: str


class NewTokens(NamedTuple):
    """The hashes of the tokens that a sign-in gets."""

    access: bytes
    access_ends_at: int
    refresh: bytes


class Head(NamedTuple):
    """Up to which change of the store something is known: each has a number, and a random mark that no other has."""

    number: int
    mark: str


class Ended(NamedTuple):
    """What has ended: sign-ins by their ids, sessions of the dashboard and people signed in there by their hashes."""

    sign_ins: Collection[str] = ()
    sessions: Collection[bytes] = ()
    people: Collection[bytes] = ()


class Changes(NamedTuple):
    """What has changed since another head."""

    head: Head
    tokens: Mapping[bytes, Token]
    """Access tokens that were issued, by their hashes. Those whose sign-in has ended since are in ``ended``."""
    ended: Ended
    is_whole: bool = False
    """Whether ``tokens`` are all that there are: whatever else was known has ended."""


class Claim(NamedTuple):
    """The right to renew with a refresh token: nobody else has it until it is used, given back or too old."""

    sign_in: SignIn
    id: str


class Used(NamedTuple):
    """A refresh token that was used before."""

    sign_in: SignIn
    source: str
    """The address from which it was used."""
    at: int
    answer: bytes | None
    """What it was exchanged for, sealed for its holder; None where that is forgotten."""


CLAIM_MS = 60_000
"""How long a claim lasts: longer than the identity provider is waited for. A gateway that was killed meanwhile issued nothing."""

UNDER_WAY: Literal["under way"] = "under way"


class Waiting(NamedTuple):
    """A client's request for tokens, as a person is shown it."""

    device: bytes
    """SHA-256 of the device code."""
    source: str
    """The address of the machine that asks."""
    client: str
    """What the client calls itself."""
    asked_at: int


class Polled(NamedTuple):
    """What became of a request that a client asks about."""

    state: Literal["waiting", "approved", "denied", "early", "gone"]
    waiting: Waiting | None = None
    identity: str = ""
    """Who has approved it, as JSON."""
    sealed: bytes | None = None
    """The identity provider's refresh token, sealed for the holder of the device code."""
    virtual_key_id: str = ""


class NewRequest(NamedTuple):
    """A request to keep. ``user_code`` is hashed; what is for the holder of the device code is sealed with ``public_key``."""

    waiting: Waiting
    user_code: bytes
    counted: str
    """By what the sender's requests are counted."""
    ends_at: int
    interval_s: int
    public_key: str


class KnownPerson(NamedTuple):
    """Who has signed in to the dashboard, as JSON, at which provider and when."""

    identity: str
    provider: str
    at: int


class KnownSession(NamedTuple):
    """A session of the dashboard."""

    holder: bytes
    opened_at: int
    used_at: int


class SignInStore(Protocol):
    """The store."""

    is_shared: bool
    """Whether other processes change it too."""
    look_s: float
    """How often to look whether they have, where nothing tells."""

    @property
    def is_begun(self) -> bool:
        """Whether there may be anything in it; finding that out costs nothing."""

    # -- tokens --------------------------------------------------------------------------------------------------------

    def changes(self, since: Head | None, now: int, *, whole: bool = False) -> Changes:
        """Return what has changed since a head, or with ``whole`` everything.

        A store that has lost changes which somebody saw, as one that was restored, ends every sign-in: which of them had
        ended since nobody can tell.
        """

    def token(self, access: bytes, now: int) -> Token | None:
        """Return an access token that is valid, by its hash."""

    def begin(
        self, sign_in: SignIn, tokens: NewTokens, *, device: bytes | None, most: int, disputed_since: int
    ) -> Collection[str] | None:
        """Keep a new sign-in in place of a device request; return which sign-ins of its user have ended with that.

        These are the oldest where there would be more than ``most``, and one whose tokens were refused at the same address
        since a time. Returns None where the request is gone.
        """

    def claim(self, refresh: bytes, source: str, now: int) -> Claim | Used | Literal["under way"] | None:
        """Claim the right to renew with a refresh token, or return why not; None for one that is not known."""

    def renew(self, claim: Claim, refresh: bytes, sign_in: SignIn, tokens: NewTokens, answer: bytes) -> bool:
        """Exchange a claimed refresh token for new tokens; return whether the claim and the sign-in were still there."""

    def release(self, claim: Claim, refresh: bytes, provider_token: bytes | None) -> None:
        """Give a claim back, with what the refresh token has sealed by now: nothing came of it."""

    def dispute(self, sign_in_id: str, source: str, now: int) -> None:
        """Note that a refresh token was refused at an address at which it had been used."""

    def count_access_tokens(self, sign_in_id: str, now: int) -> int:
        """Return how many access tokens of a sign-in are valid."""

    def sign_in_of(self, digest: bytes) -> str | None:
        """Return the id of the sign-in that a token is of."""

    def sign_ins(self, now: int) -> list[SignIn]:
        """Return the sign-ins that have not ended, the newest first."""

    def end(self, ids: Collection[str], now: int) -> None:
        """End sign-ins with all of their tokens."""

    def end_all_of(self, user_id: str, now: int) -> Ended:
        """End all that a user has, and what they have approved or begun; another account may sign in as the user then."""

    def account_of(self, user_id: str) -> tuple[str, str] | None:
        """Return the provider and subject of the account that a user is bound to."""

    def bind(self, user_id: str, provider: str, subject: str) -> tuple[str, str]:
        """Bind a user to an account, unless they are bound to another of this provider; return which it is then."""

    def purge(self, now: int) -> None:
        """Delete what has ended by itself."""

    def settle(self) -> None:
        """Leave no trace in any file of what was deleted before."""

    def close(self) -> None:
        """Close it."""

    # -- requests of clients, and browsers under way -------------------------------------------------------------------

    def ask(self, request: NewRequest, most: int, most_of_one: int) -> bool:
        """Keep a request; return False where its code is taken. Raises TooManyError where there are too many."""

    def guess(self, source: str, user_code: bytes | None, now: int) -> int | Waiting | None:
        """Return the request with a user code that waits; None where there is none, which counts as a wrong guess of the source.

        Returns the milliseconds that a source has to wait first whose guesses were wrong too often.
        """

    def waiting(self, device: bytes, now: int) -> Waiting | None:
        """Return a request that waits for a person."""

    def poll(self, device: bytes, now: int, early_ms: int, slower_s: int) -> Polled:
        """Return what became of a request; one that asks early waits ``slower_s`` longer from then on, ``denied`` is said once."""

    def public_key(self, device: bytes) -> str | None:
        """Return the key with which to seal what is for the holder of a device code."""

    def approve(self, device: bytes, user_id: str, identity: str, sealed: bytes | None, virtual_key_id: str, now: int) -> bool:
        """Approve a request as this person; return whether it still waited."""

    def deny(self, device: bytes) -> None:
        """Deny a request, unless it has been approved."""

    def forget(self, device: bytes) -> None:
        """Delete a request."""

    def leave(
        self, key: bytes, counted: str, ends_at: int, sealed: bytes, user_id: str | None, now: int, most: Sequence[int]
    ) -> None:
        """Keep what a browser has left with; ``most`` of all and of one sender. Raises TooManyError."""

    def come_back(self, key: bytes, now: int) -> bytes | None:
        """Return what a browser left with, once."""

    # -- the dashboard -------------------------------------------------------------------------------------------------

    def enter(self, provider: str, subject: str, user_id: str, identity: str, now: int) -> bytes:
        """Keep who has signed in to the dashboard; return the hash that stands for a credential of theirs."""

    def person(self, holder: bytes) -> KnownPerson | None:
        """Return who has signed in to the dashboard."""

    def open_session(self, key: bytes, session: KnownSession, *, most: int, most_of_one: int, since: tuple[int, int]) -> None:
        """Keep a session; those end that are too many, or were opened or last used before ``since``."""

    def session(self, key: bytes) -> KnownSession | None:
        """Return a session."""

    def note_uses(self, uses: Mapping[bytes, int]) -> None:
        """Note when sessions were last used."""

    def close_session(self, key: bytes, now: int) -> None:
        """End a session."""
