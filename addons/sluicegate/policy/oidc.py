"""The identity provider that people sign in at, ready to use: its secret fetched, its periods in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from sluicegate.policy import sign_in_schema
from sluicegate.policy.secrets import is_reference, resolve
from sluicegate.windows import parse_period, period_ms


@dataclass(frozen=True, slots=True)
class Oidc:
    """Where people sign in, and what they become here. The secret is not in the repr."""

    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    """None where it cannot be read: then nobody can sign in, and sign-ins go on without being checked again."""
    public_url: str | None
    scopes: tuple[str, ...]
    user_claim: str
    email_domains: tuple[str, ...]
    groups_claim: str
    groups: Mapping[str, str]
    roles: Mapping[str, Literal["admin", "viewer"]]
    creates_users: bool
    access_ms: int
    check_ms: int
    sign_in_ms: int

    @property
    def provider(self) -> str:
        """By what accounts of this provider are told from another's."""
        return f"{self.issuer} {self.client_id}"


def resolve_oidc(written: sign_in_schema.Oidc | None, env: Mapping[str, str], warn: Callable[[str], None]) -> Oidc | None:
    """Return the section with its secret fetched; say to ``warn`` what is wrong with that."""
    if written is None:
        return None
    secret, problem = resolve(written.client_secret, env)
    if secret is None:
        warn(f"oidc: nobody can sign in, {problem.replace('its file', "client_secret's file", 1)}")
    elif not is_reference(written.client_secret):
        warn("oidc: client_secret is in plain text in the policy; use env.NAME or file:PATH")
    return Oidc(
        issuer=written.issuer,
        client_id=written.client_id,
        client_secret=secret,
        public_url=written.public_url,
        scopes=written.scopes,
        user_claim=written.user_claim,
        email_domains=written.email_domains,
        groups_claim=written.groups_claim,
        groups=written.groups,
        roles=written.roles,
        creates_users=written.users == "create",
        access_ms=_ms(written.access_lifetime),
        check_ms=_ms(written.check_lifetime),
        sign_in_ms=_ms(written.sign_in_lifetime),
    )


def _ms(duration: str) -> int:
    return period_ms(parse_period(duration)) or 0
