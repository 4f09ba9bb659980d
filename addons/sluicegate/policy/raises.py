"""Raises of a budget that end by themselves: an amount on top of its maximum until a time."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from pydantic import Field

from sluicegate.policy.fields import Instant, Model, Money
from sluicegate.windows import parse_iso

MAX_RAISES = 20
"""Raises of one budget, those that have ended included."""


class Raise(Model):
    """An amount on top of a budget until a time."""

    amount: Money = Field(description="Dollars on top of max_limit.")
    until: Instant = Field(description="From then on it no longer counts.")


def with_raise(budget: dict[str, Any], amount: Decimal, until: str, now: int) -> dict[str, Any]:
    """Return a budget with one more raise and without those that have ended."""
    running = [r for r in budget.get("raises") or () if parse_iso(str(r["until"])) > now]
    return budget | {"raises": [*running, {"amount": amount, "until": until}]}


def amount_at(raises: Iterable[tuple[int, int]], now: int) -> int:
    """Return what raises add at a time, given as pairs of their end in epoch milliseconds and their nano-dollars."""
    return sum(amount for until, amount in raises if now < until)
