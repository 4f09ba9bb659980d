"""Read a price file: the operator's ``prices.yaml`` and our own dated tables, which have the same form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, Literal

from sluicegate.model_names import means, undated
from sluicegate.pricing.price import (
    DEFAULT_CONTEXT_TOKENS,
    DEFAULT_OUTPUT_TOKENS,
    SERVICE_TIERS,
    TOKEN_CLASSES,
    Fees,
    Origin,
    Price,
    Rates,
    TierFactor,
    Window,
)
from sluicegate.windows import parse_iso
from sluicegate.yaml_document import Problem, parse

MAX_AMOUNT = 1_000_000_000
"""Largest number in a price file, whether dollars per million tokens or tokens."""

KeyPath = tuple[str | int, ...]
"""The location of a value in a price file: keys and list indexes."""

DATES = ("from", "until")
FEE_KEYS = ("web_search", "web_search_per", "file_search", "code_interpreter")
TOP_KEYS = ("version", "models", "web_search", "fees", "service_tiers", "families")
ENTRY_KEYS = ("model", "prices", "fast", "service_tiers", "us_multiplier", "context_window", "max_output", *FEE_KEYS)


class PriceError(ValueError):
    """A price file that cannot be used; one ``FILE:LINE: key.path: what is wrong`` per line."""


@dataclass(frozen=True, slots=True)
class Globs:
    """The models that a rule is for: those that some pattern means, but none of the exceptions."""

    models: tuple[str, ...]
    without: tuple[str, ...] = ()

    def include(self, model: str) -> bool:
        """Return whether the rule is for this model."""
        return any(_means(p, model) for p in self.models) and not any(_means(p, model) for p in self.without)


def _means(pattern: str, model: str) -> bool:
    return means(pattern, model) or fnmatchcase(undated(model), pattern)


@dataclass(frozen=True, slots=True)
class Family:
    """Models that are priced alike as long as they have no price of their own, and whose prices they are given."""

    name: str
    models: Globs
    members: Globs
    """The models of which the dearest lends its price."""
    listed: Price | None = None
    """A price for families of which no table has a member."""


@dataclass(frozen=True, slots=True)
class PriceTable:
    """What one price file says: prices by model, and rules for fees, service tiers and families, in order."""

    prices: tuple[Price, ...] = ()
    fees: tuple[tuple[Globs, Fees], ...] = ()
    factors: tuple[tuple[Globs, TierFactor], ...] = ()
    families: tuple[Family, ...] = ()


def read_prices(data: bytes, file: str, origin: Origin = "operator") -> PriceTable:
    """Read a price file. Raises PriceError."""
    reader = _PriceReader(data, file, origin)
    table = reader.read()
    if reader.problems:
        raise PriceError("\n".join(map(str, reader.problems)))
    return table


class _PriceReader:
    """Reads one price file and collects its problems, so that all of them are reported at once."""

    def __init__(self, data: bytes, file: str, origin: Origin) -> None:
        self.file = file
        self.origin = origin
        self.document = parse(data, file)
        self.problems = list(self.document.problems)

    def read(self) -> PriceTable:
        """Return the entries that can be used."""
        top = self.document.value if isinstance(self.document.value, dict) else {}
        self.known(top, (), TOP_KEYS)
        models = top.get("models")
        if not isinstance(models, list):
            self.problems.append(Problem(self.file, 1, "models", "a price file needs a list of models"))
            models = []
        shared = (Fees(self.amount(top["web_search"], ("web_search",))),) if "web_search" in top else ()
        entries = (self.entry(raw, ("models", i), shared) for i, raw in enumerate(models))
        return PriceTable(
            prices=tuple(entry for entry in entries if entry is not None),
            fees=tuple((self.globs(r, p), self.fees(r, p)) for r, p in self.rows(top, "fees", ("models", *FEE_KEYS, *DATES))),
            factors=tuple(
                (self.globs(r, p), self.factor(r, p))
                for r, p in self.rows(top, "service_tiers", ("models", "tier", "factor", "classes", *DATES))
            ),
            families=tuple(
                self.family(r, p)
                for r, p in self.rows(top, "families", ("name", "models", "without", "members", "prices", "context_window"))
            ),
        )

    def entry(self, raw: Any, path: KeyPath, shared: tuple[Fees, ...]) -> Price | None:
        """Return one model's price; None if the entry has no model or no prices."""
        raw = raw if isinstance(raw, dict) else {}
        model, prices = raw.get("model"), raw.get("prices")
        if not isinstance(model, str) or not isinstance(prices, list) or not prices:
            self.problem(path, f"models[{path[1]}]", "an entry needs a model and a list of prices")
            return None
        self.known(raw, path, ENTRY_KEYS)
        listed = raw.get("service_tiers") or {}
        for tier in listed if isinstance(listed, dict) else ("service_tiers",):
            if tier not in SERVICE_TIERS:
                self.problem((*path, "service_tiers"), "service_tiers", f"'{tier}' is not one of {', '.join(SERVICE_TIERS)}")
                listed = {}
        return Price(
            model=model,
            rates=self.rows_of_rates(prices, (*path, "prices")),
            origin=self.origin,
            fast=self.fast(raw["fast"], (*path, "fast")) if "fast" in raw else (),
            tiers={tier: self.rows_of_rates(rows, (*path, "service_tiers", tier)) for tier, rows in listed.items()},
            us_multiplier=self.amount(raw.get("us_multiplier"), (*path, "us_multiplier"), Decimal(1)),
            fees=(self.fees(raw, path, shared),) if raw.keys() & {*FEE_KEYS} else shared,
            windows=self.windows(raw.get("context_window"), (*path, "context_window")),
            max_output=self.tokens(raw.get("max_output"), (*path, "max_output"), DEFAULT_OUTPUT_TOKENS),
        )

    def rows(self, top: dict[Any, Any], key: str, known: tuple[str, ...]) -> Iterable[tuple[dict[Any, Any], KeyPath]]:
        """Yield the mappings of a list at the top of the file, each with its path."""
        rows = top.get(key, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            self.problem((key,), key, "must be a list of mappings")
            return
        for i, row in enumerate(rows):
            self.known(row, (key, i), known)
            yield row, (key, i)

    def rows_of_rates(self, raw: Any, path: KeyPath) -> tuple[Rates, ...]:
        """Return the rates of a list of spans."""
        if not isinstance(raw, list) or not raw:
            self.problem(path, str(path[-1]), "must be a list of prices")
            raw = [{}] if isinstance(raw, list) else []
        return tuple(self.rates(r, (*path, i)) for i, r in enumerate(raw))

    def fast(self, raw: Any, path: KeyPath) -> tuple[Rates, ...]:
        """Return the rates of the speed ``fast``: one mapping, or a list of spans."""
        return self.rows_of_rates(raw, path) if isinstance(raw, list) else (self.rates(raw, path),)

    def rates(self, raw: Any, path: KeyPath) -> Rates:
        """Return the rates of one span of time."""
        raw = raw if isinstance(raw, dict) else {}
        self.known(raw, path, (*TOKEN_CLASSES, *DATES, "above"))
        values: dict[str, Any] = {c: self.amount(raw.get(c), (*path, c)) for c in TOKEN_CLASSES}
        return Rates(**values, **self.span(raw, path), above=self.tokens(raw.get("above"), (*path, "above"), 0))

    def fees(self, raw: dict[Any, Any], path: KeyPath, shared: tuple[Fees, ...] = ()) -> Fees:
        """Return the fees of tools; what is not said is taken from the file's own, else free."""
        base = shared[0] if shared else Fees(Decimal(0))
        per = raw.get("web_search_per", base.web_search_per)
        if per not in ("search", "prompt"):
            self.problem((*path, "web_search_per"), "web_search_per", f"'{per}' is neither search nor prompt")
        unit: Literal["search", "prompt"] = "prompt" if per == "prompt" else "search"
        amounts: dict[str, Any] = {
            k: self.amount(raw.get(k), (*path, k), getattr(base, k)) for k in FEE_KEYS if k != "web_search_per"
        }
        return replace(Fees(**amounts, web_search_per=unit), **self.span(raw, path))

    def factor(self, raw: dict[Any, Any], path: KeyPath) -> TierFactor:
        """Return what a service tier costs as a multiple of the standard one."""
        tier, classes = raw.get("tier"), raw.get("classes", list(TOKEN_CLASSES))
        if tier not in SERVICE_TIERS:
            self.problem((*path, "tier"), "tier", f"'{tier}' is not one of {', '.join(SERVICE_TIERS)}")
        if not isinstance(classes, list) or any(c not in TOKEN_CLASSES for c in classes):
            self.problem((*path, "classes"), "classes", f"must be a list of {', '.join(TOKEN_CLASSES)}")
            classes = []
        return TierFactor(str(tier), self.amount(raw.get("factor"), (*path, "factor")), tuple(classes), **self.span(raw, path))

    def family(self, raw: dict[Any, Any], path: KeyPath) -> Family:
        """Return a family."""
        models = self.globs(raw, path)
        members = self.strings(raw.get("members", raw.get("models")), (*path, "members"))
        without = self.strings(raw.get("without", []), (*path, "without"))
        name = str(raw.get("name") or (models.models[0] if models.models else ""))
        listed = None
        if "prices" in raw:
            rates = self.rows_of_rates(raw["prices"], (*path, "prices"))
            windows = self.windows(raw.get("context_window"), (*path, "context_window"))
            listed = Price(name, rates, self.origin, windows=windows) if rates else None
        return Family(name, models, Globs(members, without), listed)

    def globs(self, raw: dict[Any, Any], path: KeyPath) -> Globs:
        """Return the models that a rule is for."""
        return Globs(self.strings(raw.get("models"), (*path, "models")))

    def strings(self, value: Any, path: KeyPath) -> tuple[str, ...]:
        """Return a list of names or globs."""
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            self.problem(path, str(path[-1]), "must be a list of model names or globs")
            return ()
        return tuple(value)

    def windows(self, value: Any, path: KeyPath) -> tuple[Window, ...]:
        """Return a context window, or several with the dates from which they hold."""
        if not isinstance(value, list):
            return (Window(0, self.tokens(value, path, DEFAULT_CONTEXT_TOKENS)),)
        found = []
        for i, row in enumerate(value):
            row = row if isinstance(row, dict) else {}
            self.known(row, (*path, i), ("from", "tokens"))
            since = self.date(row.get("from"), (*path, i), "from") or 0
            found.append(Window(since, int(self.amount(row.get("tokens"), (*path, i, "tokens")))))
        if not found:
            self.problem(path, "context_window", "an empty list says nothing; leave the key out")
        return tuple(found) or (Window(0, DEFAULT_CONTEXT_TOKENS),)

    def tokens(self, value: Any, path: KeyPath, default: int) -> int:
        """Return a number of tokens."""
        return int(self.amount(value, path, Decimal(default)))

    def amount(self, value: Any, path: KeyPath, default: Decimal | None = None) -> Decimal:
        """Return a number of dollars or tokens; without a default it must be there."""
        if value is None and default is not None:
            return default
        number = value if isinstance(value, int | Decimal) and not isinstance(value, bool) else Decimal("NaN")
        if not Decimal(number).is_finite() or not 0 <= number <= MAX_AMOUNT:
            self.problem(path, ".".join(map(str, path)), f"'{value}' is not a price in dollars")
            return Decimal(0)
        return Decimal(number)

    def span(self, raw: dict[Any, Any], path: KeyPath) -> dict[str, Any]:
        """Return the span of time that an entry is for."""
        return {"since": self.date(raw.get("from"), path, "from") or 0, "until": self.date(raw.get("until"), path, "until")}

    def date(self, value: Any, path: KeyPath, key: str) -> int | None:
        """Return a date as epoch milliseconds; None if there is none."""
        if value is None:
            return None
        try:
            return parse_iso(str(value))
        except ValueError:
            self.problem(path, key, f"'{value}' is not a date such as 2026-10-07")
            return None

    def known(self, raw: dict[Any, Any], path: KeyPath, names: tuple[str, ...]) -> None:
        """Report keys that mean nothing: a misspelt price must not be taken for an absent one."""
        for name in raw:
            if name not in names:
                self.problem((*path, name), str(name), f"unknown key '{name}'")

    def problem(self, path: KeyPath, name: str, text: str) -> None:
        """Note what is wrong with a value."""
        self.problems.append(Problem(self.file, self.document.line(path), name, text))
