"""Budget alerts: when one is due, its text, its JSON and its signature. Pure; ``notifier.py`` delivers them."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sluicegate.policy.alert_receivers import Webhook
from sluicegate.policy.limit import Limit
from sluicegate.values import dollar_texts, usd
from sluicegate.windows import iso

RETRY_FIRST_DELAY_MS, RETRY_MAX_DELAY_MS = 1_000, 300_000
"""Delay between the first two attempts to reach a webhook, and the maximum it grows to by doubling."""

MAX_ALERT_AGE_MS = 30 * 86_400_000
"""Age at which an alert that no attempt could deliver is dropped: 30 days."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A budget that reached a threshold. Money is in nano-dollars, times are epoch milliseconds."""

    alert_id: str
    at: int
    kind: str
    id: str
    window: str
    enforcement: str
    threshold: int
    used: int
    limit: int
    starts_at: int
    resets_at: int | None
    policy_revision: str


def highest_reached(thresholds: tuple[int, ...], used: int, maximum: int) -> int:
    """Return the highest threshold reached, 0 if none is.

    A budget of 0 never reaches one: it blocks its scope on purpose, and an alert would only repeat that.
    """
    return max((t for t in thresholds if used * 100 >= t * maximum), default=0) if maximum else 0


def is_in_scope(webhook: Webhook, limit: Limit) -> bool:
    """Return whether the webhook asks for alerts of the limit's scope."""
    return any(fnmatchcase(f"{limit.scope_kind}/{limit.scope_id}", pattern) for pattern in webhook.scopes)


def retry_delay_ms(failures: int) -> int:
    """Return the delay before the next attempt after this many failures in a row."""
    return min(RETRY_MAX_DELAY_MS, RETRY_FIRST_DELAY_MS << min(failures - 1, 20))


def alert_text(alert: Alert) -> str:
    """Return the alert as one line for people: whose budget, how much of it is used, and when it resets."""
    who = f"{alert.kind.replace('_', ' ').capitalize()} {alert.id}"
    per = "" if alert.window == "never" else f" per {alert.window}"
    used, limit = dollar_texts(alert.used, alert.limit, grouped=True)
    numbers = f"{used} of {limit}{per}"
    reset = None if alert.resets_at is None else f"{iso(alert.resets_at)[:16].replace('T', ' ')} UTC"
    if alert.threshold >= 100:
        until = f"until it resets at {reset}" if reset else "until it is raised: it does not reset by itself"
        return f"{who} has used up its budget: {numbers}. Its calls are refused {until}."
    return f"{who} has used {alert.used * 100 // alert.limit}% of its budget: {numbers}. {_resets(reset)}"


def _resets(reset: str | None) -> str:
    return f"It resets at {reset}." if reset else "It does not reset by itself."


def alert_fields(alert: Alert) -> dict[str, Any]:
    """Return the alert's JSON fields, named as in ``/api/usage``; money is exact decimal text."""
    return {
        "type": "budget_threshold",
        "alert_id": alert.alert_id,
        "at": iso(alert.at),
        "text": alert_text(alert),
        "kind": alert.kind,
        "id": alert.id,
        "window": alert.window,
        "enforcement": alert.enforcement,
        "threshold": alert.threshold,
        "used_usd": usd(alert.used),
        "limit_usd": usd(alert.limit),
        "starts_at": iso(alert.starts_at),
        "resets_at": None if alert.resets_at is None else iso(alert.resets_at),
        "policy_revision": alert.policy_revision,
    }


def trial_fields(webhook: str, now: int) -> dict[str, Any]:
    """Return the JSON fields of a test message."""
    text = f"This is a test: webhook {webhook} takes the alerts of a sluicegate gateway."
    return {"type": "test", "alert_id": f"alert_test_{now}", "at": iso(now), "text": text}


def encode_body(fields: dict[str, Any], form: str) -> bytes:
    """Return the body to post. Slack's form escapes ``& < >``, so that no name can ping a channel or hide a link."""
    if form == "slack":
        text = fields["text"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return json.dumps({"text": text}).encode()
    return json.dumps(fields).encode()


def build_headers(webhook: Webhook, alert_id: str, body: bytes, now: int) -> dict[str, str]:
    """Return the headers of a body; the signature covers ``SECONDS.BODY``, so an old message cannot be replayed."""
    headers = {"content-type": "application/json", "x-sluicegate-alert-id": alert_id}
    if webhook.secret is not None:
        seconds = str(now // 1000)
        headers["x-sluicegate-signature"] = f"t={seconds},v1={signature(webhook.secret, seconds, body)}"
    return headers


def signature(secret: str, seconds: str, body: bytes) -> str:
    """Return the HMAC-SHA256 of ``SECONDS.BODY`` in hexadecimal."""
    return hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
