"""What is left, for other programs that draw the status line of Claude Code: added to what the client gives them.

The client passes a JSON object about its session to such a program. Signed in, it puts the spend limit into it by itself; with a
key or a token it does not, and so the gateway's command does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluicegate.calls.claude_code.headers import period_word
from sluicegate.cli.statusline_text import narrowest_first
from sluicegate.windows import SECOND_MS, parse_iso

RATE_LIMITS, SPEND_LIMIT = "rate_limits", "spend_limit"


def with_spend_limit(session: Mapping[str, Any], quota: Mapping[str, Any]) -> dict[str, Any]:
    """Return the client's object with ``rate_limits.spend_limit``, as the quota has it; as it is where no budget applies."""
    limit = spend_limit(quota)
    if limit is None:
        return dict(session)
    known = session.get(RATE_LIMITS)
    return {**session, RATE_LIMITS: {**(known if isinstance(known, dict) else {}), SPEND_LIMIT: limit}}


def spend_limit(quota: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the fullest budget in the client's form, of two as full the narrower; None without any.

    ``resets_at`` is in Unix seconds. It and ``period`` are absent where the budget never resets, or not by day, week or month.
    """
    budgets = narrowest_first(quota["budgets"])
    if not budgets:
        return None
    fullest = max(budgets, key=_share)
    found: dict[str, Any] = {
        "used_percentage": round(100 * _share(fullest), 1),
        "used_usd": fullest["current_usage"],
        "limit_usd": _maximum(fullest),
    }
    if fullest["resets_at"] is not None:
        found["resets_at"] = -(-parse_iso(fullest["resets_at"]) // SECOND_MS)
    if (word := period_word(fullest["reset_duration"])) is not None:
        found["period"] = word
    return found


def _maximum(budget: Mapping[str, Any]) -> float:
    return float(budget.get("limit_in_force", budget["max_limit"]))


def _share(budget: Mapping[str, Any]) -> float:
    maximum = _maximum(budget)
    return budget["current_usage"] / maximum if maximum else 1.0
