"""How a provider reports usage where it departs from its protocol, as data: reasoning beside the output, costs it names itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from sluicegate.values import MAX_COST_NANO, NANO


@dataclass(frozen=True, slots=True)
class ReportedCost:
    """Where a usage object says what the call cost, and in what unit."""

    path: tuple[str, ...]
    """The keys that lead to it from the usage object."""
    per_dollar: int = 1
    """How many of its units are a dollar."""
    more_path: tuple[str, ...] = ()
    """Where it says what somebody else bills for the same call, empty if nowhere."""
    more_if: str | None = None
    """The flag beside the counts that says that it does; None if it always does."""

    def nano(self, usage: Mapping[str, Any]) -> int | None:
        """Return the cost in nano-dollars, rounded half up; None where none is named, or what is named is not an amount."""
        found = self._amount(usage, self.path)
        if found is None or not self.more_path or not (self.more_if is None or usage.get(self.more_if) is True):
            return found
        more = self._amount(usage, self.more_path)
        # It says that there is more to pay and not how much: then the price list knows better.
        return None if more is None else min(found + more, MAX_COST_NANO)

    def _amount(self, usage: Mapping[str, Any], path: tuple[str, ...]) -> int | None:
        value: Any = usage
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        try:
            nano = int((Decimal(str(value)) * NANO / self.per_dollar + Decimal("0.5")) // 1)
        except (InvalidOperation, OverflowError, ValueError):
            return None
        return nano if 0 <= nano <= MAX_COST_NANO and value >= 0 else None


@dataclass(frozen=True, slots=True)
class UsageRules:
    """What a provider does differently from the protocol it speaks."""

    reasoning_separate: bool = False
    """Whether reasoning is not part of the output, but billed beside it."""
    cost: ReportedCost | None = None
    """Where its answers say what they cost; None if they don't."""


NO_RULES = UsageRules()
