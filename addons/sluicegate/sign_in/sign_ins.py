"""Sign-ins: tokens issued, renewed and taken back. A refresh token is valid once, and one that comes again ends its sign-in.

Access tokens are known by their hashes in memory, as the policy's keys are: a call with one is judged like any other.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sluicegate.dashboard_sessions import Attempts
from sluicegate.policy.model import Policy
from sluicegate.policy.oidc import Oidc
from sluicegate.sign_in.browser_sign_ins import BrowserSignIns
from sluicegate.sign_in.dashboard_people import DashboardPeople
from sluicegate.sign_in.device_requests import DeviceRequests
from sluicegate.sign_in.errors import (
    InvalidGrantError,
    InvalidTokenError,
    NotAllowedError,
    ProviderRefusedError,
    TooManyError,
)
from sluicegate.sign_in.identity import Identity
from sluicegate.sign_in.live_keys import LiveKeys
from sluicegate.sign_in.oidc_client import OidcClient
from sluicegate.sign_in.renewal_check import asked_again
from sluicegate.sign_in.repeated_renewals import CLIENTS, Issued, RepeatedRenewals
from sluicegate.sign_in.token_file import SignIn, Token, TokenFile
from sluicegate.sign_in.tokens import REFRESH, digest_of, new_access_token, new_token, seal

logger = logging.getLogger("sluicegate")

MAX_PER_USER = 20
"""Sign-ins that one user may have: beyond that the oldest ends."""

MAX_ACCESS_TOKENS = 50
"""Access tokens that one sign-in may have: who renews more often than they end waits until some have."""


class SignIns:
    """All sign-ins of one gateway. Its methods block, except ``in_force``."""

    def __init__(self, path: Path, clock: Callable[[], int], provider: OidcClient | None = None) -> None:
        """Read what is valid. Raises TokenFileError."""
        self._clock, self._lock, self._admission = clock, threading.RLock(), threading.Lock()
        self._file, self.provider = TokenFile(path), provider or OidcClient(clock)
        self._tokens: dict[bytes, Token] = self._file.access_tokens(clock()) if self._file.exists else {}
        self.devices, self.browsers, self.guesses = DeviceRequests(), BrowserSignIns(), Attempts()
        self._renewals, self.people = RepeatedRenewals(), DashboardPeople()
        self._version = 0
        self._in_force: tuple[Policy, int, Policy] | None = None

    def in_force(self, policy: Policy) -> Policy:
        """Return a policy with the access tokens as values of its keys: another one each time a token is issued or taken back.

        So whatever was remembered for the policy of a moment ago is judged anew.
        """
        last = self._in_force
        if last is not None and last[0] is policy and last[1] == self._version:
            return last[2]
        version, made = self._version, policy
        if policy.oidc is not None:
            made = replace(policy, keys_by_digest=LiveKeys(policy.keys_by_digest, policy.virtual_keys, self._tokens))
        self._in_force = policy, version, made
        return made

    def admitted[T](self, identity: Identity, oidc: Oidc, admit: Callable[[], T]) -> T:
        """Return what ``admit`` returns, and bind the user to this account; another provider's counts anew.

        Raises NotAllowedError, before that, for another account than the first: an address may be given to somebody else.
        """
        provider = oidc.provider
        with self._admission:
            with self._lock:
                bound = self._file.account_of(identity.user_id)
            if bound is not None and bound[0] == provider and bound[1] != identity.subject:
                raise NotAllowedError(
                    f"'{identity.user_id}' has signed in here with another account of the identity provider: whoever administers "
                    f"the gateway lets a new one in by sluicegate sign-ins end --user {identity.user_id}"
                )
            found = admit()
            with self._lock:
                self._file.bind(identity.user_id, provider, identity.subject)
            return found

    def begin(self, identity: Identity, key_id: str, oidc: Oidc, *, source: str, client: str) -> Issued:
        """Issue the tokens of a new sign-in. Raises TokenFileError."""
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
        with self._lock:
            own = [s.id for s in self._file.sign_ins(now) if s.user_id == identity.user_id]
            self._delete([i for i in own if self._renewals.is_disputed(i, source, now)] + own[MAX_PER_USER - 1 :])
            return self._issue(sign_in, oidc, identity.provider_token, now)

    def renew(self, refresh_token: str, policy: Policy, admit: Callable[[Identity], object], *, source: str, client: str) -> Issued:
        """Exchange a refresh token for new tokens, if the person may still sign in; ``admit`` follows changed groups.

        ``source`` and ``client`` are the sender's address and user agent. Raises InvalidGrantError, ProviderDownError where
        nobody can say, TooManyError or TokenFileError.
        """
        digest = digest_of(refresh_token)
        with self._renewals.turn(digest):
            now = self._clock()
            with self._lock:
                sign_in, used_from = self._file.use(digest, source) if self._file.exists else (None, None)
            if sign_in is None or policy.oidc is None:
                raise InvalidGrantError("the refresh token is not known")
            if used_from is not None:
                return self._repeated(sign_in, digest, now, source, is_sharing=used_from == source and client.startswith(CLIENTS))
            issued = self._renewed(sign_in, digest, refresh_token, policy, policy.oidc, admit, now)
            self._renewals.note(digest, issued, now)
            return issued

    def _repeated(self, sign_in: SignIn, digest: bytes, now: int, source: str, *, is_sharing: bool) -> Issued:
        """Judge a refresh token that was used before: somebody has copied it, unless sessions of one client share it."""
        if is_sharing:
            if (issued := self._renewals.issued(digest, now)) is not None:
                return issued
            self._renewals.dispute(sign_in.id, source, now)
            raise InvalidGrantError("the refresh token was used before, by another session of this client")
        self.end([sign_in.id])
        logger.warning("A refresh token of %s came a second time: the sign-in %s has ended", sign_in.user_id, sign_in.id)
        raise InvalidGrantError("the refresh token was used before, so the sign-in has ended")

    def _renewed(
        self,
        sign_in: SignIn,
        digest: bytes,
        refresh_token: str,
        policy: Policy,
        oidc: Oidc,
        admit: Callable[[Identity], object],
        now: int,
    ) -> Issued:
        provider_token = None
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
            # Nothing came of it, and that is not the person's doing.
            with self._lock:
                # The identity provider may have taken its last token back.
                sealed = seal(provider_token[0], refresh_token) if provider_token is not None else sign_in.provider_token
                self._file.give_back(digest, sign_in.id, sealed)
            raise
        groups = sign_in.groups if changed is None else json.dumps(changed.groups)
        checked_at = now if provider_token is not None and provider_token[1] else sign_in.checked_at
        renewed = replace(sign_in, renewed_at=now, checked_at=checked_at, groups=groups)
        with self._lock:
            if self._file.sign_in_of(digest) is None:
                raise InvalidGrantError("the sign-in has ended")
            return self._issue(renewed, oidc, provider_token[0] if provider_token is not None else None, now)

    def _require_valid(self, sign_in: SignIn, policy: Policy, oidc: Oidc, now: int) -> None:
        with self._lock:
            account = self._file.account_of(sign_in.user_id)
            count = self._file.count_access_tokens(sign_in.id, now)
        if account != (oidc.provider, sign_in.subject):
            raise InvalidGrantError("the user signs in with another account, or at another identity provider, now")
        if count >= MAX_ACCESS_TOKENS:
            raise TooManyError
        key = policy.virtual_keys.get(sign_in.virtual_key_id)
        if now >= sign_in.ends_at:
            raise InvalidGrantError("the sign-in has lasted as long as policy lets it")
        if key is None or key.kind != "session" or key.user_id != sign_in.user_id:
            raise InvalidGrantError("the user's key has been deleted")
        if (why := key.refusal(now)) is not None:
            raise InvalidGrantError(why)

    def _issue(self, sign_in: SignIn, oidc: Oidc, provider_token: str | None, now: int) -> Issued:
        ends_at = min(now + oidc.access_ms, sign_in.ends_at)
        access, refresh = new_access_token(_claims(sign_in, oidc, ends_at)), new_token(REFRESH)
        sealed = seal(provider_token, refresh) if provider_token is not None else None
        digest = digest_of(access)
        self._file.add(replace(sign_in, provider_token=sealed), (digest, ends_at), digest_of(refresh))
        self._tokens[digest] = Token(sign_in.id, sign_in.virtual_key_id, ends_at, sign_in.groups, sign_in.user_id)
        self._version += 1
        return Issued(access, refresh, (ends_at - now) // 1000, sign_in.email)

    def revoke(self, token: str) -> None:
        """End the sign-in that a token is of (RFC 7009): a client that signs out takes everything back."""
        with self._lock:
            sign_in_id = self._file.sign_in_of(digest_of(token)) if self._file.exists else None
            if sign_in_id is not None:
                self._delete([sign_in_id])

    def groups_of(self, access: bytes) -> tuple[str, ...] | None:
        """Return the groups of whoever has the access token with this hash; None where there is none."""
        token = self._tokens.get(access)
        return tuple(json.loads(token.groups)) if token is not None else None

    def current(self) -> list[SignIn]:
        """Return the sign-ins that have not ended, the newest first."""
        with self._lock:
            return self._file.sign_ins(self._clock()) if self._file.exists else []

    def end(self, ids: list[str]) -> None:
        """End sign-ins: their access tokens are refused from now on, and nothing renews them."""
        with self._lock:
            if self._file.exists:
                self._delete(ids)

    def end_all_of(self, user_id: str) -> int:
        """End every sign-in of a user, and return how many there were; another account may sign in as the user then."""
        with self._lock:
            own = [s.id for s in self.current() if s.user_id == user_id]
            self.end(own)
            self.people.forget(user_id)
            self.devices.deny_all_of(user_id)
            self.browsers.end_all_of(user_id)
            if self._file.exists:
                self._file.unbind(user_id)
                self._file.settle()
            return len(own)

    def _delete(self, ids: list[str]) -> None:
        if not ids:
            return
        gone = [digest for digest, token in self._tokens.items() if token.sign_in_id in ids]
        for digest in gone:
            # Before the file: were that refused, the tokens would at least end here.
            del self._tokens[digest]
        self._version += 1
        self._file.delete(ids)

    def forget_ended(self) -> None:
        """Delete what has ended by itself."""
        with self._lock:
            if not self._file.exists:
                return
            now = self._clock()
            self._renewals.forget_old(now)
            for digest in [d for d, token in self._tokens.items() if token.ends_at <= now]:
                del self._tokens[digest]
            self._file.delete_ended(now)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()


def _claims(sign_in: SignIn, oidc: Oidc, ends_at: int) -> dict[str, Any]:
    """Return what a client may know of its person: of the groups only those that policy names."""
    groups = [group for group in json.loads(sign_in.groups) if group in oidc.groups]
    found = {"sub": sign_in.user_id, "email": sign_in.email, "groups": groups, "exp": ends_at // 1000}
    return {name: value for name, value in found.items() if value}
