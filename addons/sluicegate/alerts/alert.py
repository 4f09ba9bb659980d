"""Alerts about budgets: when one is due, what it says, and how it is signed. Pure; ``notifier.py`` sends it."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sluicegate.policy.model import Limit, Webhook
from sluicegate.values import NANO, usd
from sluicegate.windows import iso

FIRST_REST, LONGEST_REST = 1_000, 300_000
"""Milliseconds between the first two attempts to reach a webhook, and the most it grows to by doubling."""

GIVE_UP_AFTER = 30 * 86_400_000
"""Milliseconds after which an alert that nobody takes is dropped."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A budget has passed a threshold. Money is nano-dollars, times epoch milliseconds."""

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


def passed(thresholds: tuple[int, ...], used: int, maximum: int) -> int:
    """The highest threshold that is reached, 0 if none is. A budget of nothing reaches none: it was meant to be shut."""
    return max((t for t in thresholds if used * 100 >= t * maximum), default=0) if maximum else 0


def wants(webhook: Webhook, limit: Limit) -> bool:
    """Whether a webhook is to be told about this scope."""
    return any(fnmatchcase(f"{limit.scope_kind}/{limit.scope_id}", pattern) for pattern in webhook.scopes)


def rest(failures: int) -> int:
    """Milliseconds to leave a webhook alone after this many failures in a row."""
    return min(LONGEST_REST, FIRST_REST << min(failures - 1, 20))


def text_of(alert: Alert) -> str:
    """The alert in one line for people: who, how much of what, and when it resets."""
    who = f"{alert.kind.replace('_', ' ').capitalize()} {alert.id}"
    per = "" if alert.window == "never" else f" per {alert.window}"
    numbers = f"{_dollars(alert.used)} of {_dollars(alert.limit)}{per}"
    reset = None if alert.resets_at is None else f"{iso(alert.resets_at)[:16].replace('T', ' ')} UTC"
    if alert.threshold >= 100:
        until = f"until it resets at {reset}" if reset else "until somebody raises it: it does not reset by itself"
        return f"{who} has used up its budget: {numbers}. Its calls are refused {until}."
    return f"{who} has used {alert.used * 100 // alert.limit}% of its budget: {numbers}. {_resets(reset)}"


def _dollars(nano: int) -> str:
    """Cut to cents, so that a budget that is not used up never looks as if it were."""
    return f"${nano * 100 // NANO / 100:,.2f}"


def _resets(reset: str | None) -> str:
    return f"It resets at {reset}." if reset else "It does not reset by itself."


def fields_of(alert: Alert) -> dict[str, Any]:
    """The alert as JSON has it: the words of ``/api/usage``, money as exact decimal text."""
    return {
        "type": "budget_threshold",
        "alert_id": alert.alert_id,
        "at": iso(alert.at),
        "text": text_of(alert),
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
    """What a test message says."""
    text = f"This is a test: webhook {webhook} takes the alerts of a sluicegate gateway."
    return {"type": "test", "alert_id": f"alert_test_{now}", "at": iso(now), "text": text}


def body_of(fields: dict[str, Any], form: str) -> bytes:
    """What is posted. In Slack's form ``& < >`` are escaped, so that no name can ping a channel or hide a link."""
    if form == "slack":
        text = fields["text"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return json.dumps({"text": text}).encode()
    return json.dumps(fields).encode()


def headers_of(webhook: Webhook, alert_id: str, body: bytes, now: int) -> dict[str, str]:
    """The headers that go with a body; the signature is over ``SECONDS.BODY``, so an old message cannot be played again."""
    headers = {"content-type": "application/json", "x-sluicegate-alert-id": alert_id}
    if webhook.secret is not None:
        seconds = str(now // 1000)
        headers["x-sluicegate-signature"] = f"t={seconds},v1={signature(webhook.secret, seconds, body)}"
    return headers


def signature(secret: str, seconds: str, body: bytes) -> str:
    """HMAC-SHA256 in hexadecimal."""
    return hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
