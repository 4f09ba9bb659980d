"""Sign-ins: tokens issued, renewed and taken back. A refresh token is valid once, and one that comes again ends its sign-in.

Access tokens are known by their hashes in memory, as the policy's keys are: a call with one is judged like any other. Where several
processes share a store, each follows what the others have issued and ended (``shared/``).
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sluicegate.policy.model import Policy
from sluicegate.policy.oidc import Oidc
from sluicegate.sign_in.browser_sign_ins import BrowserSignIns
from sluicegate.sign_in.device_requests import DeviceRequests
from sluicegate.sign_in.errors import (
    InvalidGrantError,
    InvalidTokenError,
    NotAllowedError,
    NotNowError,
    ProviderRefusedError,
    SignInsAwayError,
    TooManyError,
    UnknownTokenError,
)
from sluicegate.sign_in.identity import Identity
from sluicegate.sign_in.kept import Claim, NewTokens, SignIn, SignInStore, Used
from sluicegate.sign_in.oidc_client import OidcClient
from sluicegate.sign_in.renewal_check import asked_again
from sluicegate.sign_in.renewals import DISPUTED_MS, SAME_MOMENT_MS, Issued, answered_again, is_shared_by, sealed_answer
from sluicegate.sign_in.shared.following import Following
from sluicegate.sign_in.shared.known import Known
from sluicegate.sign_in.shared.outages import Outages
from sluicegate.sign_in.tokens import REFRESH, digest_of, new_access_token, new_token, seal

logger = logging.getLogger("sluicegate")

MAX_PER_USER = 20
"""Sign-ins that one user may have: beyond that the oldest ends."""

MAX_ACCESS_TOKENS = 50
"""Access tokens that one sign-in may have: who renews more often than they end waits until some have."""

UNDER_WAY_S, UNDER_WAY_PAUSE_S = 5.0, 0.05
"""How long a renewal waits for another one with the same refresh token, and how often it looks."""

CONFIRM_PAUSES_S = (0.3, 1.0)
"""Pauses before it is asked again whether new tokens were kept, where the store was lost while it was told of them."""


class SignIns(Known):
    """All sign-ins, as one process has them. Its methods block, except ``in_force`` and ``groups_of``."""

    def __init__(self, store: SignInStore, clock: Callable[[], int], provider: OidcClient | None = None) -> None:
        """Read what is valid from a file; what a fleet's store has is read with the first ``follow``. Raises SignInsAwayError."""
        super().__init__(store, clock)
        self._admission, self.provider = threading.Lock(), provider or OidcClient(clock)
        self.devices, self.browsers = DeviceRequests(store), BrowserSignIns(store)
        self.outages = Outages()
        self.following = Following(self)
        """How this process learns what others have issued and ended."""
        if not store.is_shared and store.is_begun:
            self.apply(store.changes(None, clock()))

    # -- beginning and renewing ----------------------------------------------------------------------------------------

    def admitted[T](self, identity: Identity, oidc: Oidc, admit: Callable[[], T]) -> T:
        """Return what ``admit`` returns, and bind the user to this account; another provider's counts anew.

        Raises NotAllowedError, before that, for another account than the first: an address may be given to somebody else.
        """
        account = oidc.provider, identity.subject
        with self._admission:
            bound = self.store.account_of(identity.user_id) if self.store.is_begun else None
            self._require(bound if bound is not None and bound[0] == oidc.provider else account, account, identity.user_id)
            found = admit()
            # Another gateway may have been first.
            self._require(self.store.bind(identity.user_id, *account), account, identity.user_id)
            return found

    def _require(self, bound: tuple[str, str], account: tuple[str, str], user_id: str) -> None:
        if bound != account:
            raise NotAllowedError(
                f"'{user_id}' has signed in here with another account of the identity provider: whoever administers "
                f"the gateway lets a new one in by sluicegate sign-ins end --user {user_id}"
            )

    def begin(
        self, identity: Identity, key_id: str, oidc: Oidc, *, source: str, client: str, device: bytes | None = None
    ) -> Issued | None:
        """Issue the tokens of a new sign-in, in place of a device request; None where that is gone. Raises SignInsAwayError."""
        now = self._clock()
        sign_in = SignIn(
            id=secrets.token_hex(8),
            user_id=identity.user_id,
            virtual_key_id=key_id,
            subject=identity.subject,
            email=identity.email,
            name=identity.name,
            source=source,
            client=client,
            began_at=now,
            renewed_at=now,
            checked_at=now,
            ends_at=now + oidc.sign_in_ms,
            groups=json.dumps(identity.groups),
        )
        issued, tokens, sign_in = _issue(sign_in, oidc, identity.provider_token, now)
        with self._lock:
            ended = self.store.begin(sign_in, tokens, device=device, most=MAX_PER_USER, disputed_since=now - DISPUTED_MS)
            if ended is None:
                return None
            self._forget(set(ended))
            self._note(tokens, sign_in)
        return issued

    def renew(self, refresh_token: str, policy: Policy, admit: Callable[[Identity], object], *, source: str, client: str) -> Issued:
        """Exchange a refresh token for new tokens, if the person may still sign in; ``admit`` follows changed groups.

        ``source`` and ``client`` are the sender's address and user agent. Raises InvalidGrantError, ProviderDownError where
        nobody can say, NotNowError, TooManyError or SignInsAwayError.
        """
        oidc = policy.oidc
        if oidc is None or not self.store.is_begun or not refresh_token.startswith(REFRESH):
            raise UnknownTokenError("the refresh token is not known")
        found = self._claimed(digest_of(refresh_token), source)
        if isinstance(found, Used):
            return self._repeated(found, refresh_token, source, client)
        key = policy.virtual_keys.get(found.sign_in.virtual_key_id)
        if key is None or key.refusal(self._clock()) is not None:
            # It may just have been made, or its user let in again, at another gateway.
            self.following.find_key()
            policy = self.following.policy() or policy
        return self._renewed(found, refresh_token, policy, policy.oidc or oidc, admit)

    def _claimed(self, digest: bytes, source: str) -> Claim | Used:
        """Claim a refresh token; where somebody renews with it, wait for what comes of that."""
        end = time.monotonic() + UNDER_WAY_S
        while (found := self.store.claim(digest, source, self._clock())) == "under way":
            if time.monotonic() >= end:
                raise NotNowError("the refresh token is being exchanged")
            time.sleep(UNDER_WAY_PAUSE_S)
        if found is None:
            raise UnknownTokenError("the refresh token is not known")
        return found

    def _repeated(self, used: Used, refresh_token: str, source: str, client: str) -> Issued:
        """Judge a refresh token that was used before: somebody has copied it, unless sessions of one client share it."""
        now, sign_in = self._clock(), used.sign_in
        if (again := answered_again(used, refresh_token, source, client, self.outages.before(now) - SAME_MOMENT_MS)) is not None:
            return again
        if is_shared_by(used, source, client):
            self.store.dispute(sign_in.id, source, now)
            raise InvalidGrantError("the refresh token was used before, by another session of this client")
        self.end([sign_in.id])
        logger.warning("A refresh token of %s came a second time: the sign-in %s has ended", sign_in.user_id, sign_in.id)
        raise InvalidGrantError("the refresh token was used before, so the sign-in has ended")

    def _renewed(self, claim: Claim, refresh_token: str, policy: Policy, oidc: Oidc, admit: Callable[[Identity], object]) -> Issued:
        provider_token, sign_in, now = None, claim.sign_in, self._clock()
        try:
            self._require_valid(sign_in, policy, oidc, now)
            provider_token, changed = asked_again(self.provider, sign_in, refresh_token, oidc, now)
            if changed is not None:
                admit(changed)
        except (InvalidGrantError, NotAllowedError, ProviderRefusedError, InvalidTokenError) as e:
            self.end([sign_in.id])
            logger.warning("The sign-in %s of %s has ended at its renewal: %s", sign_in.id, sign_in.user_id, e)
            raise InvalidGrantError(str(e)) from e
        except BaseException:
            # Nothing came of it, and that is not the person's doing. The identity provider may have taken its last token back.
            sealed = seal(provider_token[0], refresh_token) if provider_token is not None else sign_in.provider_token
            self.following.release(claim, digest_of(refresh_token), sealed)
            raise
        groups = sign_in.groups if changed is None else json.dumps(changed.groups)
        checked_at = now if provider_token is not None and provider_token[1] else sign_in.checked_at
        renewed = replace(sign_in, renewed_at=self._clock(), checked_at=checked_at, groups=groups)
        return self._exchanged(claim, refresh_token, renewed, oidc, provider_token[0] if provider_token is not None else None)

    def _exchanged(self, claim: Claim, refresh_token: str, sign_in: SignIn, oidc: Oidc, provider_token: str | None) -> Issued:
        digest = digest_of(refresh_token)
        issued, tokens, sign_in = _issue(sign_in, oidc, provider_token, sign_in.renewed_at)
        answer = sealed_answer(issued, refresh_token)
        for pause_s in (*CONFIRM_PAUSES_S, None):
            try:
                with self._lock:
                    is_kept = self.store.renew(claim, digest, sign_in, tokens, answer)
                    if is_kept:
                        self._note(tokens, sign_in)
            except SignInsAwayError:
                # It may have been kept, with only the answer lost; then the same once more changes nothing.
                if pause_s is None:
                    sealed = seal(provider_token, refresh_token) if provider_token is not None else None
                    self.following.release(claim, digest, sealed)
                    raise
                time.sleep(pause_s)
            else:
                break
        if is_kept:
            return issued
        if self.store.sign_in_of(digest) is None:
            raise InvalidGrantError("the sign-in has ended")
        # It took so long that another request has begun to renew it.
        raise NotNowError("the refresh token is being exchanged")

    def _require_valid(self, sign_in: SignIn, policy: Policy, oidc: Oidc, now: int) -> None:
        account = self.store.account_of(sign_in.user_id)
        if account != (oidc.provider, sign_in.subject):
            raise InvalidGrantError("the user signs in with another account, or at another identity provider, now")
        if self.store.count_access_tokens(sign_in.id, now) >= MAX_ACCESS_TOKENS:
            raise TooManyError
        key = policy.virtual_keys.get(sign_in.virtual_key_id)
        if now >= sign_in.ends_at:
            raise InvalidGrantError("the sign-in has lasted as long as policy lets it")
        if key is None or key.kind != "session" or key.user_id != sign_in.user_id:
            raise InvalidGrantError("the user's key has been deleted")
        if (why := key.refusal(now)) is not None:
            raise InvalidGrantError(why)

    # -- ending --------------------------------------------------------------------------------------------------------

    def revoke(self, token: str) -> bool:
        """End the sign-in that a token is of (RFC 7009), and return whether it is of any: signing out takes everything back."""
        sign_in_id = self.store.sign_in_of(digest_of(token)) if self.store.is_begun else None
        if sign_in_id is None:
            return False
        self.end([sign_in_id])
        return True

    def current(self) -> list[SignIn]:
        """Return the sign-ins that have not ended, the newest first."""
        return self.store.sign_ins(self._clock()) if self.store.is_begun else []

    def end(self, ids: list[str]) -> None:
        """End sign-ins: their access tokens are refused from now on, and nothing renews them."""
        if ids and self.store.is_begun:
            with self._lock:
                # Before the store: were that refused, the tokens would at least end here.
                self._forget(set(ids))
                self.store.end(ids, self._clock())

    def end_all_of(self, user_id: str) -> int:
        """End every sign-in of a user, and return how many there were; another account may sign in as the user then."""
        if not self.store.is_begun:
            return 0
        with self._lock:
            self._forget({token.sign_in_id for token in self._tokens.values() if token.user_id == user_id})
            ended = self.store.end_all_of(user_id, self._clock())
            self._forget(set(ended.sign_ins))
            self.people.forget(ended.people)
        self.store.settle()
        return len(ended.sign_ins)

    def forget_ended(self) -> None:
        """Delete what has ended by itself."""
        if not self.store.is_begun or not self.following.is_used():
            return
        now = self._clock()
        with self._lock:
            for digest in [d for d, token in self._tokens.items() if token.ends_at <= now]:
                del self._tokens[digest]
        try:
            self.store.purge(now)
        except SignInsAwayError:
            # Who follows a store of several has said so already.
            if not self.store.is_shared:
                raise

    def close(self) -> None:
        """Close the store."""
        self.following.stop()
        self.store.close()


def _issue(sign_in: SignIn, oidc: Oidc, provider_token: str | None, now: int) -> tuple[Issued, NewTokens, SignIn]:
    """Make the tokens of a sign-in; return them, their hashes, and the sign-in as it is kept."""
    ends_at = min(now + oidc.access_ms, sign_in.ends_at)
    access, refresh = new_access_token(_claims(sign_in, oidc, ends_at)), new_token(REFRESH)
    sealed = seal(provider_token, refresh) if provider_token is not None else None
    issued = Issued(access, refresh, (ends_at - now) // 1000, sign_in.email)
    return issued, NewTokens(digest_of(access), ends_at, digest_of(refresh)), replace(sign_in, provider_token=sealed)


def _claims(sign_in: SignIn, oidc: Oidc, ends_at: int) -> dict[str, Any]:
    """Return what a client may know of its person: of the groups only those that policy names."""
    groups = [group for group in json.loads(sign_in.groups) if group in oidc.groups]
    found = {"sub": sign_in.user_id, "email": sign_in.email, "groups": groups, "exp": ends_at // 1000}
    return {name: value for name, value in found.items() if value}
