"""Whether a person may still sign in, asked at each renewal: the identity provider says who they are, policy what follows."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from sluicegate.policy.oidc import Oidc
from sluicegate.sign_in.errors import InvalidGrantError, ProviderDownError
from sluicegate.sign_in.identity import Identity, identity_of
from sluicegate.sign_in.kept import SignIn
from sluicegate.sign_in.oidc_client import OidcClient
from sluicegate.sign_in.tokens import unseal

logger = logging.getLogger("sluicegate")


def asked_again(
    provider: OidcClient, sign_in: SignIn, refresh_token: str, oidc: Oidc, now: int
) -> tuple[tuple[str, bool] | None, Identity | None]:
    """Ask the identity provider; return its token and whether it has answered, and who the person is where policy has a rule.

    Raises InvalidGrantError, NotAllowedError, or what ``OidcClient.renew`` does.
    """
    is_old = now >= sign_in.checked_at + oidc.check_ms
    token = unseal(sign_in.provider_token, refresh_token) if sign_in.provider_token is not None else None
    # Who they were the last time, by what policy says today.
    known = {"sub": sign_in.subject, oidc.groups_claim: json.loads(sign_in.groups)}
    if token is None:
        if is_old:
            raise InvalidGrantError("the identity provider has to be asked again, which takes a new sign-in")
        return None, _judged(sign_in, oidc, known)
    try:
        answer = provider.renew(oidc, token, sign_in.subject)
    except ProviderDownError as e:
        if is_old:
            raise
        logger.warning("The sign-in %s of %s is renewed unchecked: %s", sign_in.id, sign_in.user_id, e)
        return (token, False), _judged(sign_in, oidc, known)
    claims = answer.claims if answer.claims is not None else known
    return (answer.refresh_token or token, True), _judged(sign_in, oidc, claims)


def _judged(sign_in: SignIn, oidc: Oidc, claims: Mapping[str, Any]) -> Identity | None:
    if not (oidc.groups or oidc.roles or oidc.email_domains):
        return None
    identity = identity_of({"email": sign_in.email, oidc.user_claim: sign_in.user_id, **claims}, oidc)
    if identity.user_id != sign_in.user_id:
        raise InvalidGrantError("the identity provider names another user")
    return identity
