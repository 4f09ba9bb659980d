"""Prices: what a usage costs, exactly. Integer nano-dollars out, rounded once, from prices that are data with a date.

Three layers, the first that knows a model wins: the operator's ``prices.yaml``, our own dated table, and the table
of genai-prices, which is bundled and never asks the network.
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
from sluicegate.values import MOST_COST, Usage
from sluicegate.windows import parse_iso
from sluicegate.yaml_document import Problem, parse

DATA = Path(__file__).parent / "data" / "prices.yaml"

CLASSES = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
"""Classes of tokens, each with a price of its own."""

MOST_AMOUNT = 1_000_000_000
"""Dollars per million tokens, or tokens, that a price file may name."""

DEFAULT_CONTEXT, DEFAULT_OUTPUT = 1_000_000, 128_000
"""Assumed of models we have no figures for: large, since they bound what a call can cost."""

UNITS = 10**9
"""Units in a nano-dollar. Sums are integers of these: twelve decimals of a price, of which the dearest have four."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Dollars per million tokens by class, within a span of time and above a size of prompt."""

    input: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal
    output: Decimal
    since: int = 0
    until: int | None = None
    above: int = 0
    units: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Units per token by class, in the order of CLASSES."""

    def __post_init__(self) -> None:
        # Dollars per million tokens are a thousand nano-dollars per token.
        units = tuple(_round(getattr(self, name) * 1000 * UNITS) for name in CLASSES)
        object.__setattr__(self, "units", units)

    def times(self, factor: Decimal, *, classes: Iterable[str] = CLASSES) -> Rates:
        """The same rates with some classes multiplied."""
        return replace(self, **{name: getattr(self, name) * factor for name in classes})


@dataclass(frozen=True, slots=True)
class Price:
    """A model's prices and sizes."""

    model: str
    rates: tuple[Rates, ...]
    fast: Rates | None
    us_multiplier: Decimal
    context_window: int
    max_output: int
    web_search: Decimal

    def at(self, at: int, prompt_tokens: int) -> Rates:
        """The rates in force at a time for a prompt of this size: the highest tier passed, the latest date begun."""
        if len(self.rates) == 1:
            return self.rates[0]
        live = [
            r for r in self.rates if r.since <= at and (r.until is None or at < r.until) and prompt_tokens > r.above - (not r.above)
        ]
        return max(live, key=lambda r: (r.above, r.since)) if live else self.rates[0]

    def cost(self, usage: Usage, at: int) -> int:
        """Units, not yet rounded to nano-dollars. Speed, place and tier are those the answer names."""
        rates = self.fast if usage.speed == "fast" and self.fast is not None else self.at(at, usage.prompt_tokens)
        if usage.inference_geo == "us":
            rates = rates.times(self.us_multiplier)
        if usage.service_tier == "batch":
            rates = rates.times(Decimal("0.5"))
        fresh, write_5m, write_1h, read, output = rates.units
        return (
            usage.input_tokens * fresh
            + usage.cache_write_5m_tokens * write_5m
            + usage.cache_write_1h_tokens * write_1h
            + usage.cache_read_tokens * read
            + usage.output_tokens * output
        )

    def searches(self, count: int) -> int:
        """Units for web searches, priced per thousand."""
        return count * _round(self.web_search * 1_000_000 * UNITS)


def _round(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_HALF_UP))


class PriceError(ValueError):
    """A price file cannot be used; one ``FILE:LINE: place: what is wrong`` per line."""


class Prices:
    """All known prices. Look-ups are cached; a model's first look-up beyond our own table asks genai-prices."""

    def __init__(self, own: tuple[Price, ...]) -> None:
        self._own = own
        self._cache: dict[str, Price | None] = {}

    @classmethod
    def load(cls, override: Path | None = None) -> Prices:
        """Our table under the operator's, if there is one. Raises PriceError, OSError."""
        own = read_prices(DATA.read_bytes(), str(DATA))
        if override is not None:
            own = read_prices(override.read_bytes(), str(override)) + own
        return cls(own)

    def warm(self, delay: float = 2.0) -> None:
        """Load the bundled table in a thread, after the start: its half second must not fall on a call."""
        timer = threading.Timer(delay, lambda: _bundled("claude-opus-4-5"))
        timer.daemon = True
        timer.start()

    def price(self, model: str, at: int) -> Price | None:
        """The model's price, None if nobody has one."""
        if model not in self._cache:
            found = next((p for p in self._own if matches(p.model, model)), None) or _bundled(model)
            if len(self._cache) < 10_000:
                self._cache[model] = found
            return found
        return self._cache[model]

    def cost(self, usage: Usage, model: str, at: int) -> int | None:
        """Exact nano-dollars, rounded once; the served model is billed, each part by its own. None: unpriced."""
        total = 0
        for part in usage.iterations or (usage,):
            price = self.price(part.model or usage.model or model, at)
            if price is None:
                return None
            total += price.cost(part, at)
        if usage.web_search_requests:
            price = self.price(usage.model or model, at)
            if price is None:
                return None
            total += price.searches(usage.web_search_requests)
        return _nano(total)

    def context_window(self, model: str, at: int) -> int:
        """Tokens the model can read at most; large where unknown."""
        found = self.price(model, at)
        return found.context_window if found else DEFAULT_CONTEXT

    def max_output(self, model: str, at: int) -> int:
        """Tokens the model can write at most; large where unknown."""
        found = self.price(model, at)
        return found.max_output if found else DEFAULT_OUTPUT

    def dearest(self, usage: Usage, model: str, at: int) -> int | None:
        """The most this usage can cost at any tier, speed and place the model has: nano-dollars, None if unpriced."""
        price = self.price(model, at)
        if price is None:
            return None
        options = [r for r in price.rates if r.since <= at and (r.until is None or at < r.until)] or list(price.rates)
        top = Rates(*(max(getattr(r, c) for r in (*options, *([price.fast] if price.fast else ()))) for c in CLASSES))
        worst = replace(price, rates=(top.times(max(price.us_multiplier, Decimal(1))),), fast=None)
        plain = replace(usage, speed=None, inference_geo=None, service_tier=None, iterations=())
        return _nano(worst.cost(plain, at) + worst.searches(usage.web_search_requests))


def _nano(units: int) -> int:
    """Nano-dollars, half a one rounded up and never more than a call can be charged: the one place where a cost is rounded."""
    return min(MOST_COST, (units + UNITS // 2) // UNITS)


def read_prices(data: bytes, file: str) -> tuple[Price, ...]:
    """A price file's entries. Raises PriceError."""
    doc = parse(data, file)
    problems = list(doc.problems)
    found: list[Price] = []

    def amount(value: Any, place: tuple[str | int, ...], default: Decimal | None = None) -> Decimal:
        if value is None and default is not None:
            return default
        number = value if isinstance(value, int | Decimal) and not isinstance(value, bool) else Decimal("NaN")
        if not Decimal(number).is_finite() or not 0 <= number <= MOST_AMOUNT:
            problems.append(Problem(file, doc.line(place), ".".join(map(str, place)), f"'{value}' is no price in dollars"))
            return Decimal(0)
        return Decimal(number)

    def rates(raw: Any, place: tuple[str | int, ...]) -> Rates:
        raw = raw if isinstance(raw, dict) else {}
        for name in raw:
            if name not in (*CLASSES, "from", "until", "above"):
                problems.append(Problem(file, doc.line((*place, name)), name, f"'{name}' is not known here"))
        since, until = (_date(raw.get(n), file, doc.line(place), problems) for n in ("from", "until"))
        values = {c: amount(raw.get(c), (*place, c)) for c in CLASSES}
        return Rates(**values, since=since or 0, until=until, above=int(amount(raw.get("above"), (*place, "above"), Decimal(0))))

    top = doc.value if isinstance(doc.value, dict) else {}
    if not isinstance(top.get("models"), list):
        problems.append(Problem(file, 1, "models", "a price file has a list of models"))
    search = amount(top.get("web_search"), ("web_search",), Decimal(10))
    for i, raw in enumerate(top["models"] if isinstance(top.get("models"), list) else ()):
        place = ("models", i)
        if (
            not isinstance(raw, dict)
            or not isinstance(raw.get("model"), str)
            or not isinstance(raw.get("prices"), list)
            or not raw["prices"]
        ):
            problems.append(Problem(file, doc.line(place), f"models[{i}]", "an entry has a model and a list of prices"))
            continue
        found.append(
            Price(
                model=raw["model"],
                rates=tuple(rates(r, (*place, "prices", j)) for j, r in enumerate(raw["prices"])),
                fast=rates(raw["fast"], (*place, "fast")) if "fast" in raw else None,
                us_multiplier=amount(raw.get("us_multiplier"), (*place, "us_multiplier"), Decimal(1)),
                context_window=int(amount(raw.get("context_window"), (*place, "context_window"), Decimal(DEFAULT_CONTEXT))),
                max_output=int(amount(raw.get("max_output"), (*place, "max_output"), Decimal(DEFAULT_OUTPUT))),
                web_search=search,
            )
        )
    if problems:
        raise PriceError("\n".join(map(str, problems)))
    return tuple(found)


def _date(value: Any, file: str, line: int, problems: list[Problem]) -> int | None:
    if value is None:
        return None
    try:
        return parse_iso(str(value))
    except ValueError:
        problems.append(Problem(file, line, "from", f"'{value}' is no date such as 2026-10-07"))
        return None


def _bundled(model: str) -> Price | None:
    """The model's price in genai-prices, as one span of time. None if it is unknown there or not installed."""
    try:
        from genai_prices import Usage as Counts
        from genai_prices import calc_price
    except ImportError:
        return None
    million = 1_000_000

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
            context_window=DEFAULT_CONTEXT,
            max_output=DEFAULT_OUTPUT,
            web_search=Decimal(10),
        )
    return None
