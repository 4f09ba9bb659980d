"""Webhooks of a policy made usable: their URLs and secrets fetched from where the policy says they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sluicegate.policy import schema
from sluicegate.policy.model import Alerts, Webhook


def resolve_alerts(raw: schema.Alerts, env: Mapping[str, str], warn: Callable[[str], None]) -> Alerts:
    """The alerts section, without the webhooks that cannot be used; ``warn`` is told why, never a value."""
    webhooks = tuple(w for w in (_webhook(x, env, warn) for x in raw.webhooks) if w is not None)
    sources = [source for x in raw.webhooks for source in (x.url, x.secret) if source and source.startswith("env.")]
    return Alerts(raw.thresholds, webhooks, frozenset(s.removeprefix("env.") for s in sources))


def _webhook(raw: schema.Webhook, env: Mapping[str, str], warn: Callable[[str], None]) -> Webhook | None:
    def say(what: str) -> None:
        warn(f"alerts: webhook {raw.name}: {what}")

    url = _value(raw.url, "url", env, say)
    secret = None if raw.secret is None else _value(raw.secret, "secret", env, say)
    # Without its secret it would go out unsigned, and its receiver could not tell it from a forgery.
    if url is None or (raw.secret is not None and secret is None):
        return None
    try:
        schema.check_webhook_url(url)
    except ValueError:
        say("is not usable, what its url names is not a URL")
        return None
    return Webhook(raw.name, url, raw.format, secret, raw.scopes)


def _value(source: str, what: str, env: Mapping[str, str], say: Callable[[str], None]) -> str | None:
    if source.startswith("env."):
        found = env.get(source[4:], "").strip() or None
        if found is None:
            say(f"is not usable, the variable {source[4:]} is not set")
        return found
    if source.startswith("file:"):
        try:
            found = Path(source[5:]).expanduser().read_text().strip() or None
        except (OSError, UnicodeDecodeError) as e:
            say(f"is not usable, its {what}'s file cannot be read ({type(e).__name__})")
            return None
        if found is None:
            say(f"is not usable, its {what}'s file is empty")
        return found
    say(f"its {what} stands in clear in the policy; use env.NAME or file:PATH")
    return source
