"""The receivers of alerts, ready to use: their URLs and secrets fetched from where the policy says they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from sluicegate.policy import server_schema
from sluicegate.policy.fields import check_webhook_url
from sluicegate.policy.secrets import is_reference, resolve, variable_of


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver of alerts, ready to use. Neither URL nor secret is in the repr."""

    name: str
    url: str = field(repr=False)
    format: Literal["json", "slack"]
    secret: str | None = field(repr=False)
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alerts:
    """The receivers of alerts, and at which percentages of a budget alerts are sent."""

    thresholds: tuple[int, ...]
    webhooks: tuple[Webhook, ...]
    variables: frozenset[str] = frozenset()
    """Environment variables that hold the receivers' URLs and secrets."""


def resolve_alerts(written: server_schema.Alerts, env: Mapping[str, str], warn: Callable[[str], None]) -> Alerts:
    """Return the alerts section with URLs and secrets fetched, without the webhooks that cannot be used; say why to ``warn``."""
    webhooks = tuple(w for w in (_webhook(x, env, warn) for x in written.webhooks) if w is not None)
    variables = (variable_of(source) for x in written.webhooks for source in (x.url, x.secret) if source)
    return Alerts(written.thresholds, webhooks, frozenset(v for v in variables if v is not None))


def _webhook(written: server_schema.Webhook, env: Mapping[str, str], warn: Callable[[str], None]) -> Webhook | None:
    def fetch(reference: str, field: str) -> str | None:
        value, problem = resolve(reference, env)
        if value is None:
            # "its file ..." becomes "its url's file ...": a webhook has two secrets.
            warn(f"{prefix} is not usable, {problem.replace('its file', f"its {field}'s file", 1)}")
        elif not is_reference(reference):
            warn(f"{prefix} its {field} is in plain text in the policy; use env.NAME or file:PATH")
        return value

    prefix = f"alerts: webhook {written.name}:"
    url = fetch(written.url, "url")
    secret = None if written.secret is None else fetch(written.secret, "secret")
    # Without its secret it would go out unsigned, and its receiver could not tell it from a forgery.
    if url is None or (written.secret is not None and secret is None):
        return None
    try:
        check_webhook_url(url)
    except ValueError:
        warn(f"{prefix} is not usable, what its url names is not a URL")
        return None
    return Webhook(written.name, url, written.format, secret, written.scopes)
