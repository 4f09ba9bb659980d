"""The shape of ``oidc`` and ``managed_settings``: where people sign in, who may, what they belong to and run with."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from sluicegate.addresses import is_loopback
from sluicegate.policy.fields import Duration, Id, Model, SecretText, Text, Url
from sluicegate.windows import parse_period, period_ms

MIN_LIFETIME_MS, MAX_ACCESS_MS = 60_000, 24 * 3_600_000
"""How long a token is valid at least, and an access token at most: nobody asks the identity provider while one is."""


def _secure_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" and not (is_loopback(parts.hostname or "") or parts.hostname == "localhost"):
        raise ValueError("write an https:// URL; plain http is accepted on this machine only")
    return value


def _origin(value: str) -> str:
    if urlsplit(value).path.strip("/"):
        raise ValueError("write scheme, host and port only, as https://gateway.example.com")
    return value.rstrip("/")


def _claim(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.:/#-]{1,200}", value):
        raise ValueError("write the name of a claim, such as email or groups")
    return value


def _scope(value: str) -> str:
    if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}", value):
        raise ValueError("write one scope, such as openid or profile")
    return value


def _domain(value: str) -> str:
    if not re.fullmatch(r"([A-Za-z0-9-]{1,63}\.)+[A-Za-z0-9-]{2,63}", value):
        raise ValueError("write a domain, such as example.com")
    return value.lower()


def _lifetime(value: str) -> str:
    lasts = period_ms(parse_period(value))
    if lasts is None or lasts < MIN_LIFETIME_MS:
        raise ValueError("write a duration of at least a minute, such as 1h")
    return value


def _access_lifetime(value: str) -> str:
    if (period_ms(parse_period(value)) or MAX_ACCESS_MS + 1) > MAX_ACCESS_MS:
        raise ValueError("an access token lasts a day at most: who leaves the company keeps it that long")
    return value


def _settings(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("write settings as a mapping, such as {permissions: {deny: [WebFetch]}}")
    return _plain(value)


def _plain(value: Any) -> Any:
    """Return settings as JSON has them, whole numbers without a fraction. Raises ValueError for what JSON has not."""
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise ValueError("a setting's name is a text: put it in quotes")
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Decimal | float):
        if not Decimal(value).is_finite():
            raise ValueError("a number in settings must be finite")
        return int(value) if value == int(value) else float(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    raise ValueError("a value in settings is a text, a number, true, false, null, a list or a mapping")


SecureUrl = Annotated[Url, AfterValidator(_secure_url)]
Origin = Annotated[SecureUrl, AfterValidator(_origin)]
Claim = Annotated[str, AfterValidator(_claim), WithJsonSchema({"type": "string", "examples": ["email", "groups"]})]
Scope = Annotated[str, AfterValidator(_scope)]
Domain = Annotated[str, AfterValidator(_domain), WithJsonSchema({"type": "string", "examples": ["example.com"]})]
Settings = Annotated[dict[str, Any], BeforeValidator(_settings), WithJsonSchema({"type": "object", "additionalProperties": True})]
Lifetime = Annotated[Duration, AfterValidator(_lifetime)]
AccessLifetime = Annotated[Lifetime, AfterValidator(_access_lifetime)]


class Oidc(Model):
    """The identity provider at which people sign in (OpenID Connect), for clients that know sign-in and for the dashboard."""

    issuer: SecureUrl = Field(description="Its issuer, exactly as its ID tokens name it; what else is needed is found below it.")
    client_id: Text = Field(description="The gateway's id there.")
    client_secret: SecretText = Field(description="env.NAME or file:PATH of the gateway's secret there.", repr=False)
    public_url: Origin | None = Field(
        None,
        description="The gateway's own address as browsers and clients write it, without a path; absent: as each request names it, "
        "by one of server.hosts. The identity provider knows it with /device/callback after it.",
    )
    scopes: tuple[Scope, ...] = Field(
        ("openid", "email", "profile", "offline_access"),
        description="What is asked for there. offline_access gets the token with which a sign-in is checked again.",
    )
    user_claim: Claim = Field("email", description="The claim that is the user's id here.")
    email_domains: tuple[Domain, ...] = Field((), description="Whose addresses may sign in; empty: every address's.")
    groups_claim: Claim = Field("groups", description="The claim that lists the person's groups.")
    groups: dict[Text, Id] = Field(
        default_factory=dict,
        description="The team that each group's members belong to; of several the first. Unless empty, nobody else may sign in.",
    )
    roles: dict[Text, Literal["admin", "viewer"]] = Field(
        default_factory=dict, description="Groups whose members may sign in to the dashboard as admin or viewer."
    )
    users: Literal["create", "known"] = Field(
        "known",
        description="known: only users of this policy sign in, and stay in their team. create: others become users, and "
        "follow their group.",
    )
    access_lifetime: AccessLifetime = Field("1h", description="How long an access token is valid before the client renews it.")
    check_lifetime: Lifetime = Field(
        "1d", description="How long a sign-in may be renewed without the identity provider, which is asked at each renewal."
    )
    sign_in_lifetime: Lifetime = Field("30d", description="When the person has to sign in again, whatever happens in between.")

    @model_validator(mode="after")
    def _refuse_everybody(self) -> Oidc:
        if "openid" not in self.scopes:
            raise ValueError("scopes: openid is needed, without it there is no ID token")
        if self.users == "create" and not self.groups and not self.email_domains:
            raise ValueError("users: create lets everybody in whom the identity provider knows: write groups or email_domains too")
        return self


class ManagedSettings(Model):
    """What Claude Code is told to run with (its ``managed-settings.json``) once somebody has signed in here with it."""

    default: Settings | None = Field(None, description="For everybody; absent: nothing for those in none of the groups.")
    groups: dict[Text, Settings] = Field(
        default_factory=dict,
        description="For the members of a group of the identity provider: each key at the top in the place of the default's. "
        "Of several groups the first.",
    )
