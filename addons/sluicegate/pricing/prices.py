"""Compute what a usage costs, exactly: integer nano-dollars, rounded once, from dated price tables.

The first that knows a model wins: the operator's ``prices.yaml``, our own dated table, the table of genai-prices. A model
that none knows is priced by its family, which makes its cost an estimate.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from sluicegate.background import low_priority
from sluicegate.model_names import is_glob, means
from sluicegate.pricing import bundled
from sluicegate.pricing.model_families import CACHED_MODELS, Families
from sluicegate.pricing.price import DEFAULT_CONTEXT_TOKENS, DEFAULT_OUTPUT_TOKENS, TOKEN_CLASSES, Charge, Price, Rates, to_nano
from sluicegate.pricing.price_file import PriceError, PriceTable, read_prices
from sluicegate.pricing.seller import Premium, Seller
from sluicegate.values import MAX_COST_NANO, Usage

__all__ = ["TOKEN_CLASSES", "Charge", "Price", "PriceError", "PriceTable", "Prices", "Rates", "read_prices"]

DATA = Path(__file__).parent / "data"
BUILTIN_TABLES = (DATA / "prices.yaml", DATA / "rules.yaml")
"""Our own prices, and our rules for fees, service tiers and families."""


SAME_NAME = "the same name elsewhere"
"""In place of a family: what prices a model that its seller's list leaves out, but others sell."""


class Prices:
    """All known prices. Look-ups are cached; the first look-up of a model missing from our tables asks genai-prices."""

    def __init__(self, *tables: PriceTable, seller: Seller | None = None, makers: Prices | None = None) -> None:
        """Take the tables, the operator's before our own. A seller's prices are made from those of the ``makers``."""
        self._tables, self._seller, self._makers = tables, seller, makers or self
        self._by_seller: dict[Seller, Prices] = {}
        # A name comes before a glob of the same file: an entry for one model is meant, wherever it stands.
        self._own = tuple(p for table in tables for p in sorted(table.prices, key=lambda p: is_glob(p.model)))
        self._fees = tuple(rule for table in tables for rule in table.fees)
        self._factors = tuple(rule for table in tables for rule in table.factors)
        self._families: Families = (
            makers._families if makers else Families((f for table in tables for f in table.families), self.listed, self._with_rules)
        )
        self._cache: dict[str, Price | None] = {}
        self._loading, self._is_loaded = threading.Lock(), False

    @classmethod
    def load(cls, override: Path | None = None) -> Prices:
        """Load our tables under the operator's, if there is one. Raises PriceError, OSError."""
        tables = [builtin_table(path) for path in BUILTIN_TABLES]
        if override is not None:
            tables.insert(0, read_prices(override.read_bytes(), str(override), "operator"))
        return cls(*tables)

    def sold_by(self, seller: Seller | None) -> Prices:
        """Return the prices of a seller; those of the makers where it has none of its own."""
        if seller is None:
            return self
        if (found := self._by_seller.get(seller)) is None:
            found = self._by_seller[seller] = Prices(*self._tables, seller=seller, makers=self)
        return found

    @property
    def is_loaded(self) -> bool:
        """Whether the bundled table, and what families cost by it, have been loaded."""
        return self._makers._is_loaded

    def is_at_hand(self, model: str) -> bool:
        """Return whether a model's price can be looked up at once, without loading the bundled table."""
        if self._seller is not None and self._seller.premium is not None and self._makers.is_at_hand(model):
            return True
        return self.is_loaded or self._cache.get(model) is not None or self._find_at_hand(model) is not None

    def load_bundled(self) -> None:
        """Load the bundled table and what families cost by it, once, letting other threads go first.

        That takes half a second and ten megabytes, which a gateway whose models are all in our own tables never needs.
        """
        makers = self._makers
        with makers._loading, low_priority():
            if not makers._is_loaded:
                makers._families.load()
                makers._is_loaded = True

    def own(self) -> tuple[Price, ...]:
        """Return the prices of our tables and the operator's, the operator's first."""
        return self._own

    def listed(self) -> Iterator[Price]:
        """Yield every listed price, the operator's first; a model that several tables have comes from the first of them."""
        yield from (self._with_rules(price, price.model) for price in self._own)
        for price in bundled.all_prices():
            if not any(means(own.model, price.model) for own in self._own):
                yield self._with_rules(price, price.model)

    def price(self, model: str, at: int | None = None, *, by_family: bool = True) -> Price | None:
        """Return the model's price: the listed one, else that of its family at a time, epoch milliseconds (absent: latest).

        Returns None if no table has the model and it is of no known family.
        """
        if self._seller is not None and self._seller.premium is not None:
            return self._dearer(model, self._seller.premium, at, by_family=by_family)
        if model in self._cache:
            found = self._cache[model]
        else:
            found = self._find(model)
            if len(self._cache) < CACHED_MODELS:
                self._cache[model] = found
        return found if found is not None or not by_family else self._families.price(model, at)

    def _dearer(self, model: str, premium: Premium, at: int | None, *, by_family: bool) -> Price | None:
        """Return the price at a seller who asks the makers' prices and a premium; what the operator has written stands."""
        found = self._cache.get(model)
        if found is None:
            found = self._find_at_hand(model) or self._makers.price(model, at, by_family=by_family)
            if found is not None and found.origin != "operator":
                found = found.times(premium.of(model))
            if found is not None and found.family is None and len(self._cache) < CACHED_MODELS:
                self._cache[model] = found
        return found

    def _find(self, model: str) -> Price | None:
        """Return the listed price: a seller's own, and where it has none the model's elsewhere, as an estimate."""
        at_hand = self._find_at_hand(model)
        if at_hand is not None:
            return at_hand
        if self._seller is None:
            found = bundled.find(model)
            return self._with_rules(found, model) if found is not None else None
        if self._seller.listed_as is not None and (found := bundled.find_sold(self._seller.listed_as, model)) is not None:
            return found
        elsewhere = next((p for p in self._own if means(p.model, model)), None) or bundled.find(model)
        return replace(self._with_rules(elsewhere, model), family=SAME_NAME) if elsewhere is not None else None

    def _find_at_hand(self, model: str) -> Price | None:
        """Return a price that needs no look-up in the bundled table."""
        if self._seller is None:
            found = next((p for p in self._own if means(p.model, model)), None)
            return self._with_rules(found, model) if found is not None else None
        sold = f"{self._seller.name}/{model}"
        # What the operator has written of this seller's model, else of the model wherever it is sold.
        found = next((p for p in self._own if p.origin == "operator" and means(p.model, sold)), None)
        found = found or next((p for p in self._own if p.origin == "operator" and means(p.model, model)), None)
        return self._with_rules(found, model) if found is not None else _flat_price(self._seller, model)

    def cost(self, usage: Usage, model: str, at: int) -> int | None:
        """Return exact nano-dollars, rounded once, at the served model's price, each part at its own; None if unpriced."""
        charge = self.charge(usage, model, at)
        return charge.nano if charge is not None else None

    def charge(
        self, usage: Usage, model: str, at: int, *, by_family: bool = True, unlisted: Callable[[Usage], int | None] | None = None
    ) -> Charge | None:
        """Return what a usage costs at a time, epoch milliseconds, each part at its own model's price; None if unpriced.

        A part without a listed price costs that of its family, where ``by_family``, else the nano-dollars that ``unlisted``
        returns, else the price of the model that was asked for; all of these are estimates. An answer that says itself what
        it cost is believed: its provider is one that is known to bill that amount.
        """
        if usage.reported_cost_nano is not None:
            return Charge(min(MAX_COST_NANO, usage.reported_cost_nano), usage.estimated)
        if not usage.iterations:
            price = self.price(usage.model or model, at, by_family=by_family)
            if price is not None:
                return Charge(to_nano(price.cost(usage, at)), price.family is not None)
        units = nano = 0
        estimated = False
        for part in usage.iterations or (usage,):
            price = self.price(part.model or usage.model or model, at, by_family=by_family)
            if price is None:
                amount = unlisted(part) if unlisted is not None else None
                estimated = True
                if amount is not None:
                    nano += amount
                    continue
                price = self.price(model, at, by_family=by_family)
                if price is None:
                    return None
            estimated = estimated or price.is_estimated
            units += price.cost(part, at)
        if usage.iterations:
            # Tools are counted for the call as a whole, at the price of the model that answered.
            whole = self.price(usage.model or model, at, by_family=by_family) or self.price(model, at, by_family=by_family)
            units += whole.fee_cost(_uncounted_fees(usage), at) if whole is not None else 0
        return Charge(min(MAX_COST_NANO, to_nano(units) + nano), estimated)

    def context_window(self, model: str, at: int | None = None) -> int:
        """Return how many tokens the model can read at most; a large number where unknown."""
        found = self.price(model, at)
        return found.context_window(at) if found else DEFAULT_CONTEXT_TOKENS

    def max_output(self, model: str) -> int:
        """Return how many tokens the model can write at most; a large number where unknown."""
        found = self.price(model)
        return found.max_output if found else DEFAULT_OUTPUT_TOKENS

    def max_cost(self, usage: Usage, model: str, at: int, *, by_family: bool = True, in_any_class: bool = False) -> int | None:
        """Return the most this usage can cost at any size of prompt, tier, speed and region that it leaves open.

        ``in_any_class`` prices all input in the dearest class, whichever it is counted in. In nano-dollars; None if the
        model has no price.
        """
        price = self.price(model, at, by_family=by_family)
        return to_nano(price.max_cost(usage, at, in_any_class=in_any_class)) if price is not None else None

    def _with_rules(self, price: Price, model: str) -> Price:
        """Return a price with the fees and service tiers that its own entry does not list."""
        general = [fees for globs, fees in self._fees if globs.include(model)]
        fees = price.fees
        if not fees:
            fees = tuple(general)
        elif price.origin == "genai-prices" and general:
            # The library prices searches by the thousand, but neither says what a search is nor knows every fee.
            base = general[0]
            fees = tuple(
                replace(
                    base,
                    web_search=f.web_search or base.web_search,
                    file_search=f.file_search or base.file_search,
                    since=f.since,
                    until=f.until,
                )
                for f in fees
            ) + tuple(general)
        factors = price.factors or tuple(f for globs, f in self._factors if globs.include(model))
        return replace(price, fees=fees, factors=factors)


@cache
def builtin_table(path: Path) -> PriceTable:
    """Read one of our own tables, once: they do not change while a process runs. Raises PriceError, OSError."""
    return read_prices(path.read_bytes(), str(path), "own")


def _flat_price(seller: Seller, model: str) -> Price | None:
    if seller.flat is None:
        return None
    given, written = seller.flat
    return Price(model=model, rates=(Rates(given, given, given, given, written),), origin="policy")


def _uncounted_fees(usage: Usage) -> Usage:
    """Return the tool calls of a usage that none of its parts has counted."""
    parts = usage.iterations
    return Usage(
        web_search_requests=max(0, usage.web_search_requests - sum(p.web_search_requests for p in parts)),
        file_search_requests=max(0, usage.file_search_requests - sum(p.file_search_requests for p in parts)),
        code_interpreter_sessions=max(0, usage.code_interpreter_sessions - sum(p.code_interpreter_sessions for p in parts)),
    )
