"""Compute what a usage costs, exactly: integer nano-dollars, rounded once, from dated price tables.

There are three layers, and the first that knows a model wins: the operator's ``prices.yaml``, our own dated table, and
the table of genai-prices, which is installed as a dependency and never uses the network.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from sluicegate.model_names import matches, undated
from sluicegate.values import MAX_COST_NANO, Usage
from sluicegate.windows import parse_iso
from sluicegate.yaml_document import Problem, parse

BUILTIN_PRICES = Path(__file__).parent / "data" / "prices.yaml"

TOKEN_CLASSES = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
"""Classes of tokens, each with its own price."""

MAX_AMOUNT = 1_000_000_000
"""Largest number in a price file, whether dollars per million tokens or tokens."""

KeyPath = tuple[str | int, ...]
"""The location of a value in a price file: keys and list indexes."""

DEFAULT_CONTEXT_TOKENS, DEFAULT_OUTPUT_TOKENS = 1_000_000, 128_000
"""Assumed for models without figures: large, since they bound what a call can cost."""

UNITS_PER_NANO = 10**9
"""Sums are integers of this fraction of a nano-dollar: twelve decimals of a listed price, where real ones have four."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Dollars per million tokens by class, for a span of time and prompts above a size."""

    input: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal
    output: Decimal
    since: int = 0
    until: int | None = None
    above: int = 0
    units: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Units (see UNITS_PER_NANO) per token by class, in the order of TOKEN_CLASSES."""

    def __post_init__(self) -> None:
        # Dollars per million tokens are a thousand nano-dollars per token.
        units = tuple(_round_half_up(getattr(self, name) * 1000 * UNITS_PER_NANO) for name in TOKEN_CLASSES)
        object.__setattr__(self, "units", units)

    def is_in_force(self, at: int) -> bool:
        """Return whether these rates apply at a time, epoch milliseconds."""
        return self.since <= at and (self.until is None or at < self.until)

    def scaled(self, factor: Decimal, *, classes: Iterable[str] = TOKEN_CLASSES) -> Rates:
        """Return the same rates with some classes multiplied by ``factor``."""
        return replace(self, **{name: getattr(self, name) * factor for name in classes})


@dataclass(frozen=True, slots=True)
class Price:
    """A model's prices and token limits."""

    model: str
    rates: tuple[Rates, ...]
    fast: Rates | None
    us_multiplier: Decimal
    context_window: int
    max_output: int
    web_search: Decimal

    def rates_at(self, at: int, prompt_tokens: int) -> Rates:
        """Return the rates in force at a time for a prompt of this size: the highest tier passed, at its latest price.

        ``at`` is in epoch milliseconds.
        """
        if len(self.rates) == 1:
            return self.rates[0]
        # A tier begins above its size, but the tier of size 0 also holds an empty prompt.
        applicable = [r for r in self.rates if r.is_in_force(at) and prompt_tokens > r.above - (not r.above)]
        return max(applicable, key=lambda r: (r.above, r.since)) if applicable else self.rates[0]

    def cost(self, usage: Usage, at: int) -> int:
        """Return the cost in units, not yet rounded to nano-dollars, at the speed, region and tier that the answer names."""
        rates = self.fast if usage.speed == "fast" and self.fast is not None else self.rates_at(at, usage.prompt_tokens)
        if usage.inference_geo == "us":
            rates = rates.scaled(self.us_multiplier)
        if usage.service_tier == "batch":
            rates = rates.scaled(Decimal("0.5"))
        uncached, write_5m, write_1h, read, output = rates.units
        return (
            usage.input_tokens * uncached
            + usage.cache_write_5m_tokens * write_5m
            + usage.cache_write_1h_tokens * write_1h
            + usage.cache_read_tokens * read
            + usage.output_tokens * output
        )

    def web_search_cost(self, count: int) -> int:
        """Return the cost of web searches in units; they are priced per thousand."""
        return count * _round_half_up(self.web_search * 1_000_000 * UNITS_PER_NANO)


def _round_half_up(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_HALF_UP))


class PriceError(ValueError):
    """A price file that cannot be used; one ``FILE:LINE: key.path: what is wrong`` per line."""


class Prices:
    """All known prices. Look-ups are cached; the first look-up of a model missing from our tables asks genai-prices."""

    def __init__(self, own: tuple[Price, ...]) -> None:
        self._own = own
        self._cache: dict[str, Price | None] = {}

    @classmethod
    def load(cls, override: Path | None = None) -> Prices:
        """Load our table under the operator's, if there is one. Raises PriceError, OSError."""
        own = read_prices(BUILTIN_PRICES.read_bytes(), str(BUILTIN_PRICES))
        if override is not None:
            own = read_prices(override.read_bytes(), str(override)) + own
        return cls(own)

    def preload(self, delay_s: float = 2.0) -> None:
        """Load the bundled table in a thread shortly after the start, so that no call waits the half second it takes."""
        timer = threading.Timer(delay_s, lambda: _bundled("claude-opus-4-5"))
        timer.daemon = True
        timer.start()

    def price(self, model: str) -> Price | None:
        """Return the model's price; None if no table has one."""
        if model not in self._cache:
            found = next((p for p in self._own if matches(p.model, model)), None) or _bundled(model)
            if len(self._cache) < 10_000:
                self._cache[model] = found
            return found
        return self._cache[model]

    def cost(self, usage: Usage, model: str, at: int) -> int | None:
        """Return exact nano-dollars, rounded once, at the served model's price, each part at its own; None if unpriced."""
        total = 0
        for part in usage.iterations or (usage,):
            price = self.price(part.model or usage.model or model)
            if price is None:
                return None
            total += price.cost(part, at)
        if usage.web_search_requests:
            price = self.price(usage.model or model)
            if price is None:
                return None
            total += price.web_search_cost(usage.web_search_requests)
        return _to_nano(total)

    def context_window(self, model: str) -> int:
        """Return how many tokens the model can read at most; a large number where unknown."""
        found = self.price(model)
        return found.context_window if found else DEFAULT_CONTEXT_TOKENS

    def max_output(self, model: str) -> int:
        """Return how many tokens the model can write at most; a large number where unknown."""
        found = self.price(model)
        return found.max_output if found else DEFAULT_OUTPUT_TOKENS

    def max_cost(self, usage: Usage, model: str, at: int) -> int | None:
        """Return the most this usage can cost at any tier, speed and region of the model.

        In nano-dollars; None if the model has no price.
        """
        price = self.price(model)
        if price is None:
            return None
        candidates = [r for r in price.rates if r.is_in_force(at)] or list(price.rates)
        highest = Rates(*(max(getattr(r, c) for r in (*candidates, *([price.fast] if price.fast else ()))) for c in TOKEN_CLASSES))
        worst = replace(price, rates=(highest.scaled(max(price.us_multiplier, Decimal(1))),), fast=None)
        plain = replace(usage, speed=None, inference_geo=None, service_tier=None, iterations=())
        return _to_nano(worst.cost(plain, at) + worst.web_search_cost(usage.web_search_requests))


def _to_nano(units: int) -> int:
    """Return nano-dollars, rounded half up and capped at what a call can be charged: the only path that rounds a cost."""
    return min(MAX_COST_NANO, (units + UNITS_PER_NANO // 2) // UNITS_PER_NANO)


def read_prices(data: bytes, file: str) -> tuple[Price, ...]:
    """Read a price file's entries. Raises PriceError."""
    reader = _PriceReader(data, file)
    prices = reader.read()
    if reader.problems:
        raise PriceError("\n".join(map(str, reader.problems)))
    return prices


class _PriceReader:
    """Reads one price file and collects its problems, so that all of them are reported at once."""

    def __init__(self, data: bytes, file: str) -> None:
        self.file = file
        self.document = parse(data, file)
        self.problems = list(self.document.problems)

    def read(self) -> tuple[Price, ...]:
        """Return the entries that can be used."""
        top = self.document.value if isinstance(self.document.value, dict) else {}
        models = top.get("models")
        if not isinstance(models, list):
            self.problems.append(Problem(self.file, 1, "models", "a price file needs a list of models"))
            models = []
        web_search = self.amount(top.get("web_search"), ("web_search",), Decimal(10))
        entries = (self.entry(raw, ("models", i), web_search) for i, raw in enumerate(models))
        return tuple(entry for entry in entries if entry is not None)

    def entry(self, raw: Any, path: KeyPath, web_search: Decimal) -> Price | None:
        """Return one model's price; None if the entry has no model or no prices."""
        raw = raw if isinstance(raw, dict) else {}
        model, prices = raw.get("model"), raw.get("prices")
        if not isinstance(model, str) or not isinstance(prices, list) or not prices:
            line = self.document.line(path)
            self.problems.append(Problem(self.file, line, f"models[{path[1]}]", "an entry needs a model and a list of prices"))
            return None
        return Price(
            model=model,
            rates=tuple(self.rates(r, (*path, "prices", i)) for i, r in enumerate(prices)),
            fast=self.rates(raw["fast"], (*path, "fast")) if "fast" in raw else None,
            us_multiplier=self.amount(raw.get("us_multiplier"), (*path, "us_multiplier"), Decimal(1)),
            context_window=int(self.amount(raw.get("context_window"), (*path, "context_window"), Decimal(DEFAULT_CONTEXT_TOKENS))),
            max_output=int(self.amount(raw.get("max_output"), (*path, "max_output"), Decimal(DEFAULT_OUTPUT_TOKENS))),
            web_search=web_search,
        )

    def rates(self, raw: Any, path: KeyPath) -> Rates:
        """Return the rates of one span of time."""
        raw = raw if isinstance(raw, dict) else {}
        for name in raw:
            if name not in (*TOKEN_CLASSES, "from", "until", "above"):
                self.problems.append(Problem(self.file, self.document.line((*path, name)), name, f"unknown key '{name}'"))
        values = {c: self.amount(raw.get(c), (*path, c)) for c in TOKEN_CLASSES}
        return Rates(
            **values,
            since=self.date(raw.get("from"), path) or 0,
            until=self.date(raw.get("until"), path),
            above=int(self.amount(raw.get("above"), (*path, "above"), Decimal(0))),
        )

    def amount(self, value: Any, path: KeyPath, default: Decimal | None = None) -> Decimal:
        """Return a number of dollars or tokens; without a default it must be there."""
        if value is None and default is not None:
            return default
        number = value if isinstance(value, int | Decimal) and not isinstance(value, bool) else Decimal("NaN")
        if not Decimal(number).is_finite() or not 0 <= number <= MAX_AMOUNT:
            problem = f"'{value}' is not a price in dollars"
            self.problems.append(Problem(self.file, self.document.line(path), ".".join(map(str, path)), problem))
            return Decimal(0)
        return Decimal(number)

    def date(self, value: Any, path: KeyPath) -> int | None:
        """Return a date as epoch milliseconds; None if there is none."""
        if value is None:
            return None
        try:
            return parse_iso(str(value))
        except ValueError:
            problem = f"'{value}' is not a date such as 2026-10-07"
            self.problems.append(Problem(self.file, self.document.line(path), "from", problem))
            return None


def _bundled(model: str) -> Price | None:
    """Return the model's price in genai-prices, as one span of time; None if it is unknown there or not installed."""
    try:
        from genai_prices import Usage as Counts
        from genai_prices import calc_price
    except ImportError:
        return None
    million = 1_000_000

    # The library prices whole usages only, so each rate is the price of a million tokens of its class.
    def cost(name: str, **counts: int) -> Decimal:
        return Decimal(calc_price(Counts(**counts), model_ref=name, genai_request_timestamp=datetime.now(UTC)).total_price)

    for name in dict.fromkeys((model, undated(model))):
        try:
            plain = cost(name, input_tokens=million)
            read = cost(name, input_tokens=million, cache_read_tokens=million)
            write = cost(name, input_tokens=million, cache_write_tokens=million)
            output = cost(name, output_tokens=million)
        except (LookupError, ValueError, AttributeError):
            continue
        return Price(
            model=name,
            rates=(Rates(plain, max(write, plain), max(write, 2 * plain), read, output),),
            fast=None,
            us_multiplier=Decimal(1),
            context_window=DEFAULT_CONTEXT_TOKENS,
            max_output=DEFAULT_OUTPUT_TOKENS,
            web_search=Decimal(10),
        )
    return None
