"""A used-up budget in one sentence, as Claude Code prints it: who has used how much of what, when it resets, whom to ask."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from sluicegate.calls.claude_code.headers import refusal_headers
from sluicegate.values import Deny, SpentBudget, dollar_texts

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""Not by ``strftime``, which would write them in the language of the gateway's machine."""


def in_one_sentence(deny: Deny, spent: SpentBudget, contact: str | None) -> Deny:
    """Return the refusal of a spent budget in the client's form; ``contact`` is whom its users may ask."""
    text = f"Budget exceeded: {_who(spent)} has used {_amounts(spent)}, {_resets(deny)}"
    if contact is not None:
        text += f". Ask {contact}"
    return replace(deny, message=text, headers=refusal_headers(spent.kind, spent.window, deny.resets_at))


def _who(spent: SpentBudget) -> str:
    if spent.kind == "provider_config":
        key, _, provider = spent.name.rpartition(":")
        return f"virtual key {key} with {provider}"
    return f"{spent.kind.replace('_', ' ')} {spent.name}"


def _amounts(spent: SpentBudget) -> str:
    asked = 0 if spent.asked is None else spent.asked
    used, maximum, call = dollar_texts(spent.used, spent.maximum, asked, grouped=True)
    text = f"{used} of {maximum}"
    return text if spent.asked is None else f"{text}, and this call could cost {call}"


def _resets(deny: Deny) -> str:
    """Return when it resets, to the minute that it is over; with the year where that is not this one."""
    at = deny.resets_at
    if at is None:
        return "never resets"
    moment = datetime.fromtimestamp(-(-at // 60_000) * 60, UTC)
    year = datetime.fromtimestamp(at / 1000 - (deny.retry_after or 0), UTC).year
    text = f"{moment.day} {_MONTHS[moment.month - 1]}"
    if moment.year != year:
        text += f" {moment.year}"
    if moment.hour or moment.minute:
        text += f" {moment:%H:%M}"
    return f"resets {text} (UTC)"
