"""Raises of a budget: an amount on top of its maximum, until a time or until it is taken back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import takewhile
from typing import Any, Literal

from pydantic import Field

from sluicegate.policy.fields import Instant, Model, Money
from sluicegate.windows import Period, iso, parse_iso, window

NEVER = "never"
"""The end of a raise that counts until it is taken back."""

MAX_RAISES = 20
"""Raises of one budget, those that have ended included."""

MAX_CYCLES = 1_000
"""Windows of a budget that one raise may last, and to which those are counted that one lasts."""


class Raise(Model):
    """An amount on top of a budget until a time, or until it is taken back."""

    amount: Money = Field(description="Dollars on top of max_limit.")
    until: Instant | Literal["never"] = Field(description="From then on it no longer counts; never: until it is taken back.")

    @property
    def end(self) -> int | None:
        """When it ends, in epoch milliseconds; None where it does not."""
        return end_of(self.until)


def end_of(until: str) -> int | None:
    """Return when a raise ends, in epoch milliseconds; None for never. Raises ValueError."""
    return None if until == NEVER else parse_iso(until)


def with_raise(budget: dict[str, Any], amount: Decimal, until: str, now: int) -> dict[str, Any]:
    """Return a budget with one more raise and without those that have ended."""
    running = [r for r in budget.get("raises") or () if (end := end_of(str(r["until"]))) is None or end > now]
    return budget | {"raises": [*running, {"amount": amount, "until": until}]}


def amount_at(raises: Iterable[tuple[int | None, int]], now: int) -> int:
    """Return what raises add at a time, given as pairs of their end in epoch milliseconds, or None, and their nano-dollars."""
    return sum(amount for until, amount in raises if until is None or now < until)


def end_of_cycles(period: Period, start: int, cycles: int) -> str | None:
    """Return when the last of some windows ends, of which the first begins at ``start``; None where a budget never resets.

    Raises ValueError where that is later than a date can be.
    """
    try:
        ends = list(_ends(period, start, cycles))
        return iso(ends[-1]) if ends else None
    except (ValueError, OverflowError, OSError) as e:
        raise ValueError("it would end later than the year 9999") from e


def cycles_until(period: Period, start: int, until: int) -> int:
    """Return in how many windows a time lies, counted from the one that begins at ``start``: at most ``MAX_CYCLES``."""
    return sum(1 for _ in takewhile(lambda end: end < until, _ends(period, start, MAX_CYCLES - 1))) + 1


def _ends(period: Period, start: int, count: int) -> Iterator[int]:
    at = start
    for _ in range(count):
        end = window(period, start, at)[1]
        if end is None:
            return
        yield end
        at = end
