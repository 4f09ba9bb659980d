"""Limits: one cap on one scope, as the policy in force has it, and those that apply to a call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from sluicegate.policy import schema
from sluicegate.policy.raises import amount_at
from sluicegate.values import NANO, UNITS, Unit
from sluicegate.windows import Period, parse_period

ALIGNED = "/aligned/"
"""Stands in the name of a counter that follows the calendar, before its time zone."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One cap on one scope. ``maximum`` is in nano-dollars or a count; ``period`` is None for calls in flight."""

    scope_kind: str
    scope_id: str
    label: str
    unit: Unit
    maximum: int
    period: Period | None
    hard: bool
    counter: str
    thresholds: tuple[int, ...] | None = None
    """Percentages at which an alert is sent; None for the policy's."""
    raises: tuple[tuple[int | None, int], ...] = ()
    """What ``at`` adds to the maximum: pairs of an end, epoch milliseconds or None, and nano-dollars."""
    name: str = field(default="", compare=False)
    """The scope's name for people; empty where it has no other than its id."""
    check_prefix: tuple[str, str, Unit, str | None, str, int] = field(init=False, repr=False, compare=False)
    """The constant fields of this limit's checks, built once instead of at each call."""
    only_what_fits: bool = field(init=False, repr=False, compare=False)
    """Whether a call is admitted only if it fits whole: of the others, the call that crosses the line passes."""

    def __post_init__(self) -> None:
        window = self.period.text if self.period is not None else None
        check_prefix = self.scope_kind, self.scope_id, self.unit, window, "hard" if self.hard else "soft", self.maximum
        object.__setattr__(self, "check_prefix", check_prefix)
        # Of requests and calls in flight each call takes exactly one: there is no last one that may overshoot.
        object.__setattr__(self, "only_what_fits", self.hard or self.unit in ("requests", "concurrent"))

    def at(self, now: int) -> Limit:
        """Return the limit with the maximum that it has at a time: itself, unless a raise is running."""
        if not self.raises:
            return self
        return replace(self, maximum=self.maximum + amount_at(self.raises, now), raises=())


class Limits(tuple[Limit, ...]):
    """The limits that apply to a call, in the order they are checked. What they count is looked at once, not at each call."""

    rates: tuple[Limit, ...]
    """Those of requests, tokens and calls in flight."""
    budgets: tuple[Limit, ...]
    has_hard_budget: bool

    def __new__(cls, limits: Iterable[Limit] = ()) -> Limits:
        """Take the limits in their order."""
        self = super().__new__(cls, limits)
        self.rates, self.budgets = tuple(x for x in self if x.unit != "usd"), tuple(x for x in self if x.unit == "usd")
        self.has_hard_budget = any(x.hard for x in self.budgets)
        return self


def counter_name(kind: str, scope_id: str, unit: Unit, window: str | None) -> str:
    """Return the name of a limit's counter; one that follows the calendar adds ``ALIGNED`` and its time zone."""
    return f"{kind}/{scope_id}/{unit}/{window or '-'}"


def unit_of_counter(name: str) -> Unit:
    """Return what a counter of this name counts. A scope's id may have slashes, so the name is read from its end."""
    unit = name.partition(ALIGNED)[0].rsplit("/", 2)[1]
    return next(known for known in UNITS if known == unit)


def limits_of(entity: schema.Limited, kind: str, scope_id: str, label: str) -> tuple[Limit, ...]:
    """Return the limits of an entity, rate limits first. Their counters' names are what usage is kept under."""
    found: list[Limit] = []
    called = getattr(entity, "name", None) or ""

    def add(unit: Unit, maximum: int, period: Period | None, **more: Any) -> None:
        name = counter_name(kind, scope_id, unit, period.text if period else None)
        if period is not None and period.aligned:
            name += ALIGNED + period.timezone
        hard = more.pop("hard", False)
        found.append(Limit(kind, scope_id, label, unit, maximum, period, hard, name, name=called, **more))

    rate = entity.rate_limit
    if rate is not None:
        limits: tuple[tuple[Unit, int | None, str | None], ...] = (
            ("requests", rate.request_max_limit, rate.request_reset_duration),
            ("tokens", rate.token_max_limit, rate.token_reset_duration),
        )
        for unit, cap, text in limits:
            if cap is not None and text is not None:
                add(unit, cap, parse_period(text, aligned=rate.calendar_aligned, timezone=rate.timezone))
        if rate.max_concurrent is not None:
            add("concurrent", rate.max_concurrent, None)
    for budget in (*([entity.budget] if entity.budget else ()), *entity.budgets):
        period = parse_period(budget.reset_duration, aligned=budget.calendar_aligned, timezone=budget.timezone)
        raises = tuple((r.end, int(r.amount * NANO)) for r in budget.raises)
        hard = budget.enforcement == "hard"
        add("usd", int(budget.max_limit * NANO), period, hard=hard, thresholds=budget.thresholds, raises=raises)
    return tuple(found)
