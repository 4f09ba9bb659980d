"""The prices of genai-prices, read from the library's own table with its tiers, dates, hours and variants as they are.

The library is installed as a dependency and never uses the network here. Importing it takes half a second, so it happens
at the first model that our own tables do not have; before a call of one, in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

from sluicegate.model_names import canonical, undated
from sluicegate.pricing.price import DAY_MS, DEFAULT_CONTEXT_TOKENS, DEFAULT_OUTPUT_TOKENS, Fees, Price, Rates, Window

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

MAKERS = ("anthropic", "openai", "google", "deepseek", "x-ai", "moonshotai", "mistral")
"""Providers whose models are found by name alone, in this order, and lend their prices to new models of the same family."""

FREE_VARIANT = ":free"
"""How the names end of models that a seller of many offers for nothing."""

MODES: dict[str, tuple[dict[str, str], ...]] = {
    "batch": ({"processing": "batch"}, {"service_tier": "batch"}),
    "flex": ({"service_tier": "flex"},),
    "priority": ({"service_tier": "priority"}, {"service_tier": "fast"}),
    "fast": ({"speed": "fast"},),
}
"""The library's words for what we call service tiers, and for the speed ``fast``; the first that a model has counts."""


def find(model: str) -> Price | None:
    """Return the model's price in genai-prices; None if it is unknown there, has no price by token, or is not installed."""
    for name in dict.fromkeys((canonical(model), undated(model))):
        found = _find(name)
        if found is not None:
            return found
    return None


def find_sold(provider_id: str, model: str) -> Price | None:
    """Return the price of a model at one provider of genai-prices; None if it has none there by token."""
    provider = next((p for p in _providers() if p.id == provider_id), None)
    names = (model, canonical(model), undated(model))
    infos = (provider.find_model(name) for name in dict.fromkeys(names)) if provider is not None else ()
    info = next((info for info in infos if info is not None), None)
    if info is None:
        return None
    # Elsewhere a zero is a price that the library lacks; here the name says that it is one.
    is_free = model.endswith(FREE_VARIANT) and info.id.endswith(FREE_VARIANT)
    return _to_price(info) or (Price(info.id, (Rates(*[Decimal(0)] * 5),), "genai-prices") if is_free else None)


def sold_names(provider_id: str) -> tuple[str, ...]:
    """Return the names of the models that a provider of genai-prices has, without entries that stand for a pattern of names."""
    return tuple(m.id for p in _providers() if p.id == provider_id for m in p.models if m.is_match(m.id))


def all_prices() -> tuple[Price, ...]:
    """Return every price by token of the makers of models that our clients use. Slow: some tenths of a second."""
    return prices_of(_providers())


def prices_of(providers: Sequence[Provider]) -> tuple[Price, ...]:
    """Return the prices by token of the makers among these providers."""
    prices: list[Price | None] = []
    makers: list[Provider] = []
    for provider in sorted((p for p in providers if p.id in MAKERS), key=_rank):
        # Google's list has models of Anthropic too, under the names of its own cloud: those are resold, not new models.
        # And some entries stand for a pattern of names, without being a name themselves.
        own = (m for m in provider.models if m.is_match(m.id) and not any(maker.find_model(m.id) for maker in makers))
        prices += [_to_price(info) for info in own]
        makers.append(provider)
    return tuple(price for price in prices if price is not None)


def read_providers(raw: list[Any]) -> list[Provider]:
    """Return providers from the library's own JSON. Raises ValueError, and what the library raises at other JSON."""
    # The library reads its updates with this; there is no published name for it.
    from genai_prices.types import _providers_from_raw

    return _providers_from_raw(raw)


def _find(name: str) -> Price | None:
    for provider in sorted(_providers(), key=_rank):
        by_name_alone = provider.id in MAKERS
        if by_name_alone or (provider.model_match is not None and provider.model_match.is_match(name)):
            info = provider.find_model(name)
            if info is not None or not by_name_alone:
                return _to_price(info) if info is not None else None
    return None


def _rank(provider: Provider) -> int:
    """Return the order in which providers are asked: those whose models are found by name alone before everybody else."""
    return MAKERS.index(provider.id) if provider.id in MAKERS else len(MAKERS)


@cache
def _providers() -> tuple[Provider, ...]:
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError:
        return ()
    return tuple(get_snapshot().providers)


LARGE_OUTPUTS = {"gpt-5-pro": 272_000}
"""Most output tokens of models that write more than is assumed of others. Source: OpenAI's model pages, 2026-10."""


def _to_price(info: ModelInfo) -> Price | None:
    rates, fees = _spans(info, {})
    if not rates or all(r.input == r.output == 0 for r in rates):
        return None
    variants: dict[str, tuple[Rates, ...]] = {}
    for mode, contexts in MODES.items():
        context = next((c for c in contexts if any(v.when == c for v in info.price_variants or ())), None)
        if context is not None:
            variants[mode] = _spans(info, context)[0]
    window = max(DEFAULT_CONTEXT_TOKENS, info.context_window or 0)
    return Price(
        model=info.id,
        rates=rates,
        origin="genai-prices",
        fast=variants.pop("fast", ()),
        tiers=variants,
        fees=fees,
        # The library's figures of windows are not checked, and too small a one would bound a call below its cost.
        windows=(Window(0, window),),
        max_output=LARGE_OUTPUTS.get(info.id, DEFAULT_OUTPUT_TOKENS),
    )


def _spans(info: ModelInfo, context: dict[str, str]) -> tuple[tuple[Rates, ...], tuple[Fees, ...]]:
    """Return a model's rates and fees by the library's own choice at each boundary of its dates and hours."""
    rates: list[Rates] = []
    fees: list[Fees] = []
    dates, hours = _boundaries(info)
    for since, until in zip(dates, [*dates[1:], None], strict=True):
        for start, end in zip(hours, [*hours[1:], DAY_MS], strict=True):
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=since + start)
            if context and not _is_offered(info, context, moment):
                continue
            price = info.get_prices(moment, context or None)
            span: dict[str, Any] = {"since": since, "until": until}
            window = None if hours == [0] else (start, end)
            rates += [Rates(**row, **span, above=above, hours=window) for above, row in _rows(price)]
            fees += [_fees(price, span)] if start == 0 else []
    return _merged(rates), tuple(fee for fee in fees if fee.web_search or fee.file_search)


def _is_offered(info: ModelInfo, context: dict[str, str], moment: datetime) -> bool:
    variants = (v for v in info.price_variants or () if v.when == context)
    return any(v.constraint is None or v.constraint.active(moment) for v in variants)


def _boundaries(info: ModelInfo) -> tuple[list[int], list[int]]:
    """Return when prices may change: epoch milliseconds of dates, and milliseconds of the day in UTC."""
    dates, hours = {0}, {0}
    conditions: list[Any] = [] if not isinstance(info.prices, list) else [c.constraint for c in info.prices]
    for constraint in [*conditions, *(v.constraint for v in info.price_variants or ())]:
        if (day := getattr(constraint, "start_date", None)) is not None:
            dates.add(int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000))
        for name in ("start_time", "end_time"):
            if (hour := getattr(constraint, name, None)) is not None:
                hours.add(_ms_of_day(hour))
    return sorted(dates), sorted(hours)


def _ms_of_day(value: time) -> int:
    moment = datetime.combine(datetime(2000, 1, 2), value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
    return ((moment.hour * 60 + moment.minute) * 60 + moment.second) * 1000 + moment.microsecond // 1000


def _rows(price: ModelPrice) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield rates by the prompt size above which they apply. A class without a price is billed as the one it is part of."""
    values = {key: value for key, value in price.__dict__.items() if value is not None}
    if "input_mtok" not in values:
        return
    edges = {0}.union(*({tier.start for tier in getattr(value, "tiers", ())} for value in values.values()))
    for above in sorted(edges):
        at = _price_above(values, above)
        uncached = at("input_mtok", Decimal(0))
        write = at("cache_write_mtok", uncached)
        yield (
            above,
            {
                "input": uncached,
                "cache_write_5m": write,
                "cache_write_1h": at("cache_write_1h_mtok", write),
                "cache_read": at("cache_read_mtok", uncached),
                "output": at("output_mtok", Decimal(0)),
            },
        )


def _price_above(values: dict[str, Any], above: int) -> Callable[[str, Decimal], Decimal]:
    def price(key: str, default: Decimal) -> Decimal:
        value = values.get(key)
        if value is None:
            return default
        for tier in reversed(getattr(value, "tiers", ())):
            if above >= tier.start:
                return Decimal(tier.price)
        return Decimal(getattr(value, "base", value))

    return price


def _fees(price: ModelPrice, span: dict[str, Any]) -> Fees:
    def fee(key: str) -> Decimal:
        value = price.__dict__.get(key)
        return Decimal(0) if value is None else Decimal(getattr(value, "base", value))

    return Fees(fee("web_searches_kcount"), file_search=fee("storage_searches_kcount"), **span)


def _merged(rates: list[Rates]) -> tuple[Rates, ...]:
    """Return the rates with spans joined that follow each other at the same price."""
    joined: list[Rates] = []
    for row in rates:
        for i, before in enumerate(joined):
            if before.until == row.since and replace(before, since=row.since, until=row.until) == row:
                joined[i] = replace(before, until=row.until)
                break
        else:
            joined.append(row)
    return tuple(joined)
