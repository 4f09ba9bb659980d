"""The headers by which Claude Code learns what is left: those in which Anthropic's API tells of a subscription's extra usage.

Their names and values are those of Anthropic's contract for gateways, tried with Claude Code 2.1.332. It reads them where it is
signed in; with a key or a token on a base URL it shows the message of a refusal alone.
"""

from __future__ import annotations

Headers = tuple[tuple[str, str], ...]

UNIFIED = "anthropic-ratelimit-unified-"
"""How the names of all of them begin."""

OVERAGE = f"{UNIFIED}overage-"

OWN_SCOPES = frozenset({"virtual_key", "provider_config", "user"})
"""Scopes whose budget is one caller's own; others share theirs."""

PERIODS = {"1d": "daily", "1w": "weekly", "1M": "monthly"}
"""Windows of budgets, and the client's words for them."""


def period_word(window: str | None) -> str | None:
    """Return the client's word for a budget's window such as ``1M``; None where it has none."""
    return PERIODS.get(window or "")


def reset_headers(resets_at: int | None) -> Headers:
    """Return when a budget resets, whole seconds, from epoch milliseconds; nothing where it never does."""
    if resets_at is None:
        return ()
    second = str(-(-resets_at // 1000))
    return ((f"{UNIFIED}reset", second), (f"{OVERAGE}reset", second))


def refusal_headers(kind: str, window: str | None, resets_at: int | None) -> Headers:
    """Return what goes with the refusal of a budget of this kind of scope.

    Without a representative claim and a status of the overage: with them the client shows words of its own.
    """
    headers: list[tuple[str, str]] = [
        (f"{UNIFIED}status", "rejected"),
        (f"{OVERAGE}utilization", "1"),
        (f"{OVERAGE}surpassed-threshold", "1"),
        (f"{OVERAGE}disabled-reason", "org_spend_cap_reached"),
        *reset_headers(resets_at),
    ]
    if (word := period_word(window)) is not None:
        headers.append((f"{OVERAGE}period", word))
    if kind not in OWN_SCOPES:
        headers.append((f"{OVERAGE}scope", "group_pool"))
    return tuple(headers)
