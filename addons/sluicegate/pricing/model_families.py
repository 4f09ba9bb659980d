"""Price a model that no table has by its family: as the dearest of its members in force at that time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import replace

from sluicegate.model_names import undated
from sluicegate.pricing.price import DEFAULT_CONTEXT_TOKENS, DEFAULT_OUTPUT_TOKENS, Price, Window
from sluicegate.pricing.price_file import Family

CACHED_MODELS = 10_000
"""Names that are remembered: more come only from a client that makes them up."""

Spans = tuple[list[int], list[Price]]
"""Since when, epoch milliseconds in order, which member's price is the family's."""

MEMBER_PROMPT_TOKENS = 1
"""Members are compared by their smallest prompts: what they add for large ones goes with the member that is chosen."""


class Families:
    """Families in the order in which they are tried, and what each has cost over time."""

    def __init__(
        self, families: Iterable[Family], listed: Callable[[], Iterable[Price]], complete: Callable[[Price, str], Price]
    ) -> None:
        """Take the families and how to list all prices that members are sought in, which is asked for once, when needed.

        ``complete`` adds the fees and service tiers that hold for all models of a name.
        """
        self._families = tuple(families)
        self._listed = listed
        self._complete = complete
        self._all: tuple[Price, ...] | None = None
        self._spans: dict[str, Spans] = {}
        self._cache: dict[str, Spans | None] = {}

    def load(self) -> None:
        """Compute what every family costs, which takes a tenth of a second."""
        for family in self._families:
            self._spans_of(family)
        # Every family is known now; the list of all prices takes two megabytes.
        self._all = None

    def price(self, model: str, at: int | None = None) -> Price | None:
        """Return the price by family at a time, epoch milliseconds; absent: the latest. None if no family is known."""
        if model in self._cache:
            spans = self._cache[model]
        else:
            spans = self._find(undated(model))
            if len(self._cache) < CACHED_MODELS:
                self._cache[model] = spans
        if spans is None:
            return None
        dates, prices = spans
        return prices[-1 if at is None else max(0, bisect_right(dates, at) - 1)]

    def _find(self, name: str) -> Spans | None:
        for family in self._families:
            if family.models.include(name) and (spans := self._spans_of(family))[1]:
                return spans
        return None

    def _spans_of(self, family: Family) -> Spans:
        if family.name in self._spans:
            return self._spans[family.name]
        if self._all is None:
            self._all = tuple(self._listed())
        members = [p for p in self._all if family.members.include(p.model)]
        if not members and family.listed is not None:
            members = [self._complete(family.listed, family.models.models[0])]
        # A member is chosen anew whenever any member's price may have changed.
        dates = sorted({0} | {d for p in members for r in p.rates for d in (r.since, r.until) if d is not None})
        spans: Spans = (dates, [_dearest(members, at, family.name) for at in dates] if members else [])
        self._spans[family.name] = spans
        return spans


def _dearest(members: list[Price], at: int, family: str) -> Price:
    """Return the member with the highest price of a token in and a token out, as an estimated price."""

    def weight(price: Price) -> tuple[int, int]:
        units = price.rates_at(at, MEMBER_PROMPT_TOKENS).units
        # A price that has not begun yet counts with all its rows, as rates_at takes one of them.
        begun = [r for r in price.rates if r.is_in_force(at)] or price.rates
        return units[0] + units[-1], max(sum(r.units) for r in begun)

    dearest = max(members, key=weight)
    return replace(
        dearest,
        origin="family",
        family=family,
        # What the unknown model can read and write is not known from its relatives: assume no less than for any unknown one.
        windows=(Window(0, max(DEFAULT_CONTEXT_TOKENS, *(w.tokens for w in dearest.windows))),),
        max_output=max(DEFAULT_OUTPUT_TOKENS, dearest.max_output),
    )
