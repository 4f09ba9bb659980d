"""Who has signed in, by the claims of the identity provider, and what the policy makes of them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sluicegate.policy.oidc import Oidc
from sluicegate.sign_in.errors import NotAllowedError

MAX_GROUPS = 2_000

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+-]{0,119}")
"""An id of the policy, short enough that a key's id can be made from it."""

_UNPRINTABLE = re.compile(r"[^\w .,'@()+-]")


@dataclass(frozen=True, slots=True)
class Identity:
    """A person whom the identity provider vouches for."""

    subject: str
    """The provider's own id of the person, which never changes."""
    user_id: str
    """The id of the user here."""
    email: str | None
    name: str | None
    groups: tuple[str, ...]
    team_id: str | None
    """The team of the first group that policy names; None without one."""
    role: Literal["admin", "viewer"] | None
    """What the person may do in the administration; None: see what is their own."""
    provider_token: str | None = field(default=None, repr=False)
    """The refresh token of the identity provider, with which it is asked whether the person still may."""


def identity_as_json(identity: Identity) -> str:
    """Return who somebody is, without what is secret."""
    return json.dumps({n: getattr(identity, n) for n in ("subject", "user_id", "email", "name", "groups", "team_id", "role")})


def identity_from_json(text: str, provider_token: str | None = None) -> Identity:
    """Return who somebody is."""
    found = json.loads(text)
    return Identity(**found | {"groups": tuple(found["groups"])}, provider_token=provider_token)


def identity_of(claims: Mapping[str, Any], oidc: Oidc, provider_token: str | None = None) -> Identity:
    """Return who these verified claims speak of. Raises NotAllowedError where policy does not let them sign in."""
    subject, email, name = claims.get("sub"), claims.get("email"), claims.get("name")
    # Of other characters some become plain letters in small letters: the Kelvin sign is then a k.
    email = email.strip().lower() if isinstance(email, str) and email.isascii() and len(email) <= 254 else None
    if not _may_be_verified(claims.get("email_verified")):
        # Anybody may write any address into their own profile.
        email = None
    claimed = email if oidc.user_claim == "email" else claims.get(oidc.user_claim)
    user_id = claimed.strip() if isinstance(claimed, str) else ""
    if not user_id.isascii():
        raise NotAllowedError(f"'{_shown(user_id)}' cannot be the id of a user here (oidc.user_claim)")
    user_id = user_id.lower() if "@" in user_id else user_id
    if not user_id or not isinstance(subject, str):
        what = "no verified e-mail address" if oidc.user_claim == "email" else f"no claim '{oidc.user_claim}'"
        raise NotAllowedError(f"the identity provider names {what} of yours (oidc.user_claim)")
    if not _ID.fullmatch(user_id):
        raise NotAllowedError(f"'{_shown(user_id)}' cannot be the id of a user here (oidc.user_claim)")
    if oidc.email_domains and (email is None or email.rpartition("@")[2] not in oidc.email_domains):
        raise NotAllowedError("your e-mail address is of no domain that may sign in here (oidc.email_domains)")
    groups = _groups_of(claims.get(oidc.groups_claim))
    team = next((team for group, team in oidc.groups.items() if group in groups), None)
    role = role_of(groups, oidc)
    if oidc.groups and team is None and role is None:
        raise NotAllowedError("you are in no group that may sign in here (oidc.groups)")
    name = _UNPRINTABLE.sub("", name)[:200].strip() if isinstance(name, str) else ""
    return Identity(subject, user_id, email, name or None, groups, team, role, provider_token)


def role_of(groups: Collection[str], oidc: Oidc) -> Literal["admin", "viewer"] | None:
    """Return what members of these groups may do in the administration."""
    found = {role for group, role in oidc.roles.items() if group in groups}
    return "admin" if "admin" in found else "viewer" if found else None


def _may_be_verified(claimed: Any) -> bool:
    """Return whether an address may count: the provider says that it is verified, some as a text, or says nothing about that."""
    return claimed is None or claimed is True or (isinstance(claimed, str) and claimed.lower() == "true")


def _shown(text: str) -> str:
    return _UNPRINTABLE.sub("?", text[:60])


def _groups_of(claim: Any) -> tuple[str, ...]:
    if isinstance(claim, str):
        claim = [claim]
    return tuple(g for g in claim[:MAX_GROUPS] if isinstance(g, str)) if isinstance(claim, list) else ()
