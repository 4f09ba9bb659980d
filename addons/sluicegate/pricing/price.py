"""What one model costs: dated rates by class of token, service tier, speed and region, and fees for its tools.

Arithmetic is in integers, of units far below a nano-dollar, so that a cost is rounded once, when it becomes nano-dollars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec

from sluicegate.values import MAX_COST_NANO, Usage

TOKEN_CLASSES = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
"""Classes of tokens, each with its own price."""

SERVICE_TIERS = ("batch", "flex", "priority")
"""Service tiers that are priced apart from the standard one."""

TIER_NAMES: Mapping[str, str] = MappingProxyType({"batch": "batch", "flex": "flex", "priority": "priority", "fast": "priority"})
"""Service tiers by the words that answers use; OpenAI sells its priority tier as fast too. Any other word is the standard tier."""

DEFAULT_CONTEXT_TOKENS, DEFAULT_OUTPUT_TOKENS = 1_050_000, 128_000
"""Assumed for models without figures: large, since they bound what a call can cost."""

UNITS_PER_NANO = 10**9
"""Sums are integers of this fraction of a nano-dollar: twelve decimals of a listed price, where real ones have four."""

DAY_MS = 86_400_000

Origin = Literal["operator", "own", "genai-prices", "family", "policy"]
"""Where a price comes from: the operator's file, our own table, the bundled library, the dearest of the family, the policy."""


@dataclass(frozen=True, slots=True)
class Dated:
    """What holds for a span of time, epoch milliseconds: from ``since`` up to, not including, ``until``."""

    since: int = field(default=0, kw_only=True)
    until: int | None = field(default=None, kw_only=True)

    def is_in_force(self, at: int) -> bool:
        """Return whether this holds at a time, epoch milliseconds."""
        return self.since <= at and (self.until is None or at < self.until)


@dataclass(frozen=True, slots=True)
class Rates(Dated):
    """Dollars per million tokens by class, for a span of time, some hours of the day, and prompts above a size."""

    input: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal
    output: Decimal
    above: int = field(default=0, kw_only=True)
    hours: tuple[int, int] | None = field(default=None, kw_only=True)
    """From and to, milliseconds of the day in UTC; None for the whole day."""
    units: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Units (see UNITS_PER_NANO) per token by class, in the order of TOKEN_CLASSES."""

    def __post_init__(self) -> None:
        # Dollars per million tokens are a thousand nano-dollars per token.
        units = tuple(round_half_up(getattr(self, name) * 1000 * UNITS_PER_NANO) for name in TOKEN_CLASSES)
        object.__setattr__(self, "units", units)

    def is_in_force(self, at: int) -> bool:
        """Return whether these rates apply at a time, epoch milliseconds."""
        # Not super(): a dataclass with slots is made anew, and methods without arguments would still mean the old class.
        return Dated.is_in_force(self, at) and (self.hours is None or self.hours[0] <= at % DAY_MS < self.hours[1])

    def scaled(self, factor: Decimal, *, classes: Iterable[str] = TOKEN_CLASSES) -> Rates:
        """Return the same rates with some classes multiplied by ``factor``."""
        return replace(self, **{name: getattr(self, name) * factor for name in classes})


@dataclass(frozen=True, slots=True)
class TierFactor(Dated):
    """What a service tier costs, as a multiple of the standard tier, where no price of its own is listed."""

    tier: str
    factor: Decimal
    classes: tuple[str, ...] = TOKEN_CLASSES


@dataclass(frozen=True, slots=True)
class Fees(Dated):
    """What a model's tools cost: dollars per thousand searches, and per session of the code interpreter."""

    web_search: Decimal
    web_search_per: Literal["search", "prompt"] = "search"
    """Whether each search is billed, or a prompt that caused any number of them once."""
    file_search: Decimal = Decimal(0)
    code_interpreter: Decimal = Decimal(0)

    def cost(self, usage: Usage) -> int:
        """Return the fees of a usage in units."""
        searches = usage.web_search_requests
        if self.web_search_per == "prompt":
            searches = min(searches, 1)
        return (
            searches * round_half_up(self.web_search * 1_000_000 * UNITS_PER_NANO)
            + usage.file_search_requests * round_half_up(self.file_search * 1_000_000 * UNITS_PER_NANO)
            + usage.code_interpreter_sessions * round_half_up(self.code_interpreter * 1_000_000_000 * UNITS_PER_NANO)
        )


class Window(NamedTuple):
    """How many tokens a model reads at most, since a time in epoch milliseconds."""

    since: int
    tokens: int


class Charge(msgspec.Struct, frozen=True, gc=False):
    """What a usage is charged: nano-dollars, and whether the price of some part of it is not a listed one."""

    nano: int
    is_estimated: bool


@dataclass(frozen=True, slots=True)
class Price:
    """A model's prices and token limits, and where they come from."""

    model: str
    rates: tuple[Rates, ...]
    origin: Origin = "own"
    fast: tuple[Rates, ...] = ()
    """Rates at the speed ``fast``; empty where the model is not served at it."""
    tiers: Mapping[str, tuple[Rates, ...]] = field(default_factory=dict)
    """Listed rates by service tier; a tier or a time that is not listed costs its factor."""
    factors: tuple[TierFactor, ...] = ()
    us_multiplier: Decimal = Decimal(1)
    fees: tuple[Fees, ...] = ()
    windows: tuple[Window, ...] = (Window(0, DEFAULT_CONTEXT_TOKENS),)
    max_output: int = DEFAULT_OUTPUT_TOKENS
    family: str | None = None
    """The family by whose dearest member a model without a price is priced; None for a listed price."""

    @property
    def is_estimated(self) -> bool:
        """Return whether this is a price by family, not a listed one."""
        return self.family is not None

    def times(self, factor: Decimal) -> Price:
        """Return the price with all tokens dearer by a factor, in which a region's own is included. Fees of tools stay."""
        if factor == 1:
            return self
        tiers = {tier: tuple(r.scaled(factor) for r in rates) for tier, rates in self.tiers.items()}
        rates, fast = (tuple(r.scaled(factor) for r in rates) for rates in (self.rates, self.fast))
        return replace(self, rates=rates, fast=fast, tiers=tiers, us_multiplier=Decimal(1))

    def rates_at(self, at: int, prompt_tokens: int) -> Rates:
        """Return the standard rates at a time, epoch milliseconds, for a prompt of this size."""
        if len(self.rates) == 1:
            return self.rates[0]
        return _applicable(self.rates, at, prompt_tokens) or self.rates[0]

    def tier_rates_at(self, tier: str | None, at: int, prompt_tokens: int) -> Rates:
        """Return the rates of a service tier, by its listed price or its factor; None means the standard tier."""
        if tier is None:
            return self.rates_at(at, prompt_tokens)
        listed = _applicable(self.tiers.get(tier, ()), at, prompt_tokens)
        return listed or self._times_factor(self.rates_at(at, prompt_tokens), tier, at)

    def fees_at(self, at: int) -> Fees | None:
        """Return the fees of tools in force at a time, epoch milliseconds; the latest to have begun."""
        return max((f for f in self.fees if f.is_in_force(at)), key=lambda f: f.since, default=None)

    def context_window(self, at: int | None = None) -> int:
        """Return how many tokens the model reads at most at a time, epoch milliseconds; absent: by the latest figure."""
        begun = [w for w in self.windows if at is None or w.since <= at]
        return max(begun or self.windows[:1], key=lambda w: w.since).tokens

    def cost(self, usage: Usage, at: int) -> int:
        """Return the cost in units, not yet rounded to nano-dollars, at the speed, region and tier that the answer names."""
        tier = TIER_NAMES.get(usage.service_tier.lower()) if usage.service_tier else None
        if tier is None and usage.speed != "fast" and len(self.rates) == 1:
            # Nearly every call: what is sold at one price.
            rates = self.rates[0]
        else:
            fast = _applicable(self.fast, at, usage.prompt_tokens) if usage.speed == "fast" else None
            rates = self._times_factor(fast, tier, at) if fast else self.tier_rates_at(tier, at, usage.prompt_tokens)
        uncached, write_5m, write_1h, read, output = rates.units
        total = (
            usage.input_tokens * uncached
            + usage.cache_write_5m_tokens * write_5m
            + usage.cache_write_1h_tokens * write_1h
            + usage.cache_read_tokens * read
            + usage.output_tokens * output
        )
        if usage.inference_geo == "us" and self.us_multiplier != 1:
            total = round_half_up(total * self.us_multiplier)
        if usage.web_search_requests or usage.file_search_requests or usage.code_interpreter_sessions:
            total += self.fee_cost(usage, at)
        return total

    def fee_cost(self, usage: Usage, at: int) -> int:
        """Return the fees of the tools that a usage counts, in units."""
        if not (usage.web_search_requests or usage.file_search_requests or usage.code_interpreter_sessions):
            return 0
        fees = self.fees_at(at)
        return fees.cost(usage) if fees is not None else 0

    def max_cost(self, usage: Usage, at: int, *, in_any_class: bool = False) -> int:
        """Return the most that a usage can cost, in units: at the dearest size, speed, region and tier that it leaves open.

        A speed, tier or region that the usage names is taken at its word where it is the cheap one, for a provider serves
        no dearer one than was asked for. ``in_any_class`` prices all input in the dearest class, whichever it is counted in.
        """
        open_rates = list(self._in_force(self.rates, at))
        tier = (usage.service_tier or "").lower()
        if tier in ("", "auto") or TIER_NAMES.get(tier) == "priority":
            open_rates += self._in_force(self.tiers.get("priority", ()), at)
            open_rates += [self._times_factor(r, "priority", at) for r in self._in_force(self.rates, at)]
        if usage.speed != "standard":
            open_rates += self._in_force(self.fast, at)
        units = [max(r.units[i] for r in open_rates) for i in range(len(TOKEN_CLASSES))]
        if in_any_class:
            *inputs, output = units
            units = [max(inputs)] * len(inputs) + [output]
        total = sum(n * u for n, u in zip(_token_counts(usage), units, strict=True))
        if usage.inference_geo in (None, "us"):
            total = round_half_up(total * max(self.us_multiplier, Decimal(1)))
        return total + self.fee_cost(usage, at)

    def _times_factor(self, rates: Rates, tier: str | None, at: int) -> Rates:
        if tier is None:
            return rates
        found = [f for f in self.factors if f.tier == tier and f.is_in_force(at)]
        if not found:
            return rates
        factor = max(found, key=lambda f: f.since)
        return _scaled(rates, factor.factor, factor.classes)

    def _in_force(self, rates: tuple[Rates, ...], at: int) -> list[Rates]:
        return [r for r in rates if r.is_in_force(at)] or list(rates[:1])


@lru_cache(maxsize=1024)
def _scaled(rates: Rates, factor: Decimal, classes: tuple[str, ...]) -> Rates:
    return rates.scaled(factor, classes=classes)


def _applicable(rates: tuple[Rates, ...], at: int, prompt_tokens: int) -> Rates | None:
    """Return the rates of the highest tier of prompt size that is passed, at its latest price; None if none is in force."""
    best: Rates | None = None
    for row in rates:
        # A tier begins above its size, but the tier of size 0 also holds an empty prompt.
        is_passed = prompt_tokens > row.above or not row.above
        if is_passed and row.is_in_force(at) and (best is None or (row.above, row.since) > (best.above, best.since)):
            best = row
    return best


def _token_counts(usage: Usage) -> tuple[int, ...]:
    return (
        usage.input_tokens,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
        usage.cache_read_tokens,
        usage.output_tokens,
    )


def to_nano(units: int) -> int:
    """Return nano-dollars, rounded half up and capped at what a call can be charged: the only path that rounds a cost."""
    return min(MAX_COST_NANO, (units + UNITS_PER_NANO // 2) // UNITS_PER_NANO)


def round_half_up(value: Decimal) -> int:
    """Return the nearest integer; a half goes up."""
    return int(value.to_integral_value(ROUND_HALF_UP))


def dollars(value: Decimal) -> str:
    """Return an amount as exact decimal text, without trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
