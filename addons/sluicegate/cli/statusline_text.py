"""The status line's text: what is left of the tightest limits and when they reset.

Pure: the answer of ``GET /api/governance/virtual-keys/quota`` goes in, a line comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any
from urllib.parse import unquote, urlsplit

from sluicegate.values import dollar_texts, nano_of
from sluicegate.windows import DAY_MS, parse_iso

WARNING_SHARE = 0.8
"""Used share from which a limit is shown even if another is tighter, and in yellow or red."""

PROVIDER_HOST = "api.anthropic.com"
"""The host of a base URL that leads to the provider itself, not to a gateway."""

RATE_LIMIT_SHARE = 0.5
"""Used share from which a rate limit is shown next to a budget; below that it is not worth the space."""

LEVELS_NARROWEST_FIRST = ("virtual_key", "user", "project", "team", "customer")

BAR_CHARS = 8

GREEN, YELLOW, RED, DIM, PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class LimitText:
    """One limit: the share of it that is used, from 0 up, and its text."""

    share: float
    text: str


def format_line(quota: Mapping[str, Any], now: int, zone: tzinfo, *, colour: bool = True) -> str:
    """Return the line: the tightest budget first, then other limits nearly used up. ``now`` is in epoch milliseconds."""
    budgets = sorted((_budget(b, now, zone) for b in narrowest_first(quota["budgets"])), key=_by_tightness)
    rates = sorted((r for x in narrowest_first(quota["rate_limits"]) for r in _rates(x, now, zone)), key=_by_tightness)
    shown = budgets[:1] + [b for b in budgets[1:2] if b.share >= WARNING_SHARE]
    shown += [r for r in rates if r.share >= RATE_LIMIT_SHARE][: 3 - len(shown)] or ([] if shown else rates[:1])
    if not shown:
        return "no limit applies"
    first = max(shown, key=lambda x: x.share)
    return " ".join([_bar(first.share, colour), " · ".join(_paint_if_near(x, colour) for x in shown)])


def narrowest_first(limits: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sort limits from the key's own to those it shares with most others."""
    return sorted(limits, key=lambda x: LEVELS_NARROWEST_FIRST.index(x["source"]))


def _by_tightness(limit: LimitText) -> float:
    """Return the sort key, in whole percent: limits that differ by less count as equally tight."""
    return -round(limit.share, 2)


def _budget(budget: Mapping[str, Any], now: int, zone: tzinfo) -> LimitText:
    maximum, used = budget.get("limit_in_force", budget["max_limit"]), budget["current_usage"] + budget["reserved"]
    scope = "" if budget["source"] == "virtual_key" else f" ({budget['scope_id']})"
    left, whole = dollar_texts(max(0, nano_of(maximum) - nano_of(used)), nano_of(maximum), grouped=True)
    text = f"{left} of {whole} left{scope}, {_resets(budget['resets_at'], now, zone)}"
    return LimitText(used / maximum if maximum else 1.0, text)


def _rates(rate: Mapping[str, Any], now: int, zone: tzinfo) -> list[LimitText]:
    scope = "" if rate["source"] == "virtual_key" else f" ({rate['scope_id']})"
    texts = []
    for unit, noun in (("request", "calls"), ("token", "tokens")):
        maximum = rate[f"{unit}_max_limit"]
        if maximum is None:
            continue
        left = rate[f"{unit}_remaining"]
        text = f"{left:,} of {maximum:,} {noun} left{scope}, {_resets(rate[f'{unit}_resets_at'], now, zone)}"
        texts.append(LimitText(1 - left / maximum if maximum else 1.0, text))
    return texts


def _resets(at: str | None, now: int, zone: tzinfo) -> str:
    if at is None:
        return "never resets"
    ms = parse_iso(at)
    moment = datetime.fromtimestamp(ms / 1000, zone)
    return f"resets {moment:%H:%M}" if ms - now < DAY_MS else f"resets {moment.day} {moment:%b}"


def _bar(share: float, colour: bool) -> str:
    filled = min(BAR_CHARS, round(share * BAR_CHARS))
    rest = "░" * (BAR_CHARS - filled)
    return _paint("█" * filled, share, colour) + (f"{DIM}{rest}{PLAIN}" if colour else rest)


def _paint_if_near(limit: LimitText, colour: bool) -> str:
    return _paint(limit.text, limit.share, colour) if limit.share >= WARNING_SHARE else limit.text


def _paint(text: str, share: float, colour: bool) -> str:
    if not colour or not text:
        return text
    return f"{RED if share >= 1 else YELLOW if share >= WARNING_SHARE else GREEN}{text}{PLAIN}"


def gateway_and_key(env: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the gateway's URL and the virtual key, from the variables an agent runs with."""
    proxy = urlsplit(env.get("HTTPS_PROXY") or env.get("https_proxy") or "")
    base = urlsplit(env.get("ANTHROPIC_BASE_URL") or "")
    key = env.get("ANTHROPIC_API_KEY") or env.get("ANTHROPIC_AUTH_TOKEN") or (unquote(proxy.username) if proxy.username else None)
    if base.hostname and base.hostname != PROVIDER_HOST:
        # A base URL names the gateway on purpose. The proxy may belong to another company, which must not see the key.
        return f"{base.scheme}://{base.netloc.rpartition('@')[2]}", key
    return (f"{proxy.scheme}://{proxy.netloc.rpartition('@')[2]}" if proxy.hostname else None), key
