"""One line that says what is left and when it resets, for the person whose agent is running.

Pure: what ``GET /api/governance/virtual-keys/quota`` answers goes in, a line comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any
from urllib.parse import unquote, urlsplit

from sluicegate.windows import DAY_MS, parse_iso

NEAR = 0.8
"""Share of a limit from which on it is shown even if another is tighter, and no longer in green."""

PROVIDER = "api.anthropic.com"
"""A base URL that is no gateway's."""

HALF = 0.5
"""Share from which on a rate limit is worth a word: it resets by itself, and soon."""

LEVELS = ("virtual_key", "user", "project", "team", "customer")

GREEN, YELLOW, RED, DIM, PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Left:
    """One limit: how much of it is gone, from 0 up, and the words for it."""

    share: float
    words: str


def line(quota: Mapping[str, Any], now: int, zone: tzinfo, *, colour: bool = True) -> str:
    """The tightest budget first, then whatever else is nearly used up. ``now`` is epoch milliseconds."""
    budgets = sorted((_budget(b, now, zone) for b in _narrowest_first(quota["budgets"])), key=_tightest)
    rates = sorted((r for x in _narrowest_first(quota["rate_limits"]) for r in _rates(x, now, zone)), key=_tightest)
    shown = budgets[:1] + [b for b in budgets[1:2] if b.share >= NEAR]
    shown += [r for r in rates if r.share >= HALF][: 3 - len(shown)] or ([] if shown else rates[:1])
    if not shown:
        return "no limit applies"
    first = max(shown, key=lambda x: x.share)
    return " ".join([_bar(first.share, colour), " · ".join(_tinted(x, colour) for x in shown)])


def _narrowest_first(limits: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One's own before those one shares."""
    return sorted(limits, key=lambda x: LEVELS.index(x["source"]))


def _tightest(left: Left) -> float:
    """For sorting, in whole percents: what differs by less is as tight."""
    return -round(left.share, 2)


def _budget(budget: Mapping[str, Any], now: int, zone: tzinfo) -> Left:
    most, used = budget["max_limit"], budget["current_usage"] + budget["reserved"]
    whose = "" if budget["source"] == "virtual_key" else f" ({budget['scope_id']})"
    words = f"${max(0.0, most - used):,.2f} of ${most:,.2f} left{whose}, {_resets(budget['resets_at'], now, zone)}"
    return Left(used / most if most else 1.0, words)


def _rates(rate: Mapping[str, Any], now: int, zone: tzinfo) -> list[Left]:
    whose = "" if rate["source"] == "virtual_key" else f" ({rate['scope_id']})"
    found = []
    for what, shown in (("request", "calls"), ("token", "tokens")):
        most = rate[f"{what}_max_limit"]
        if most is None:
            continue
        left = rate[f"{what}_remaining"]
        words = f"{left:,} of {most:,} {shown} left{whose}, {_resets(rate[f'{what}_resets_at'], now, zone)}"
        found.append(Left(1 - left / most if most else 1.0, words))
    return found


def _resets(at: str | None, now: int, zone: tzinfo) -> str:
    if at is None:
        return "never resets"
    ms = parse_iso(at)
    moment = datetime.fromtimestamp(ms / 1000, zone)
    return f"resets {moment:%H:%M}" if ms - now < DAY_MS else f"resets {moment.day} {moment:%b}"


def _bar(share: float, colour: bool) -> str:
    full = min(8, round(share * 8))
    return _painted("█" * full, share, colour) + (f"{DIM}{'░' * (8 - full)}{PLAIN}" if colour else "░" * (8 - full))


def _tinted(left: Left, colour: bool) -> str:
    return _painted(left.words, left.share, colour) if left.share >= NEAR else left.words


def _painted(text: str, share: float, colour: bool) -> str:
    if not colour or not text:
        return text
    return f"{RED if share >= 1 else YELLOW if share >= NEAR else GREEN}{text}{PLAIN}"


def whom_to_ask(env: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The gateway's URL and the virtual key, from the variables with which an agent runs."""
    proxy = urlsplit(env.get("HTTPS_PROXY") or env.get("https_proxy") or "")
    base = urlsplit(env.get("ANTHROPIC_BASE_URL") or "")
    key = env.get("ANTHROPIC_API_KEY") or env.get("ANTHROPIC_AUTH_TOKEN") or (unquote(proxy.username) if proxy.username else None)
    if base.hostname and base.hostname != PROVIDER:
        # Said on purpose; the proxy may be somebody else's, who has no business with the key.
        return f"{base.scheme}://{base.netloc.rpartition('@')[2]}", key
    return (f"{proxy.scheme}://{proxy.netloc.rpartition('@')[2]}" if proxy.hostname else None), key
