"""Take prices from a table that others publish, genai-prices' data or LiteLLM's model prices, and say what they would change."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_UP, Decimal, InvalidOperation
from typing import Any, Literal

from sluicegate.model_names import canonical, is_glob, matches, undated
from sluicegate.pricing import bundled
from sluicegate.pricing.price import (
    DEFAULT_CONTEXT_TOKENS,
    DEFAULT_OUTPUT_TOKENS,
    SERVICE_TIERS,
    TOKEN_CLASSES,
    Price,
    Rates,
    Window,
    dollars,
)
from sluicegate.pricing.price_file import MAX_AMOUNT
from sluicegate.pricing.prices import Prices
from sluicegate.windows import iso

LITELLM_PROVIDERS = ("anthropic", "openai", "gemini", "dashscope", "deepseek", "xai", "moonshot", "mistral")
"""LiteLLM's names of the makers whose models are taken; the others resell, under names that mean the makers' models too."""

LITELLM_CLASSES = {
    "input": "input_cost_per_token",
    "cache_write_5m": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "cache_read": "cache_read_input_token_cost",
    "output": "output_cost_per_token",
}

LITELLM_WITHOUT_OUTPUT = ("embedding", "rerank", "moderation")
"""LiteLLM's modes of models that generate no tokens; an entry of another mode without a price for output has no price."""

LITELLM_SUFFIXES = {"priority": ("_priority",), "flex": ("_flex",), "batch": ("_batches", "_batch")}

Status = Literal["new", "changed", "unchanged"]


class ImportFormatError(ValueError):
    """A file that is neither of the two tables."""


@dataclass(frozen=True, slots=True)
class ImportedPrice(Price):
    """A price of LiteLLM's table."""

    unlisted: frozenset[str] = frozenset()
    """Classes of tokens that the table says nothing about; their rates stand in for it."""


@dataclass(frozen=True, slots=True)
class PriceChange:
    """What an import does to one model: its price from a day on, beside the one that is in force before it."""

    model: str
    status: Status
    before: Price | None
    after: Price


def read_table(data: bytes) -> tuple[str, list[Price]]:
    """Return the name of the table's format and its prices. Raises ImportFormatError."""
    try:
        raw = json.loads(data, parse_float=Decimal)
    except (ValueError, RecursionError) as e:
        raise ImportFormatError(f"not JSON: {e}") from None
    providers = raw.get("providers") if isinstance(raw, dict) else raw
    if isinstance(providers, list):
        return "genai-prices", [p for p in _read_genai(providers) if _is_name(p.model)]
    if isinstance(raw, dict) and any(isinstance(v, dict) and "litellm_provider" in v for v in raw.values()):
        return "LiteLLM", [p for p in _read_litellm(raw) if _is_name(p.model)]
    raise ImportFormatError("neither the data of genai-prices (a list of providers) nor LiteLLM's model_prices (models by name)")


def _is_name(model: str) -> bool:
    """Return whether a model can have an entry of its own: one with the characters of a glob would price many models."""
    return bool(model) and model.isprintable() and not is_glob(model)


def compare(prices: Prices, imported: Iterable[Price], pattern: str, since: int) -> list[PriceChange]:
    """Return what importing the models that match a glob would change from a time on, epoch milliseconds, by name."""
    changes: dict[str, PriceChange] = {}
    for price in imported:
        if not matches(pattern, price.model) or price.model in changes:
            continue
        before = prices.price(price.model, since, by_family=False)
        after = _joined(before, _completed(before or prices.price(price.model, since), price, since), since)
        status: Status = "new" if before is None else "unchanged" if _same(before, after, since) else "changed"
        changes[price.model] = PriceChange(price.model, status, before, after)
    return [changes[name] for name in sorted(changes)]


def to_entry(price: Price) -> dict[str, Any]:
    """Return a price as an entry of a price file."""
    entry: dict[str, Any] = {"model": price.model, "prices": [_row(r) for r in price.rates]}
    if price.fast:
        entry["fast"] = [_row(r) for r in price.fast]
    if price.tiers:
        entry["service_tiers"] = {tier: [_row(r) for r in rows] for tier, rows in price.tiers.items()}
    if price.us_multiplier != 1:
        entry["us_multiplier"] = price.us_multiplier
    if len(price.windows) == 1:
        entry["context_window"] = price.windows[0].tokens
    else:
        entry["context_window"] = [{**_date("from", w.since or None), "tokens": w.tokens} for w in price.windows]
    entry["max_output"] = price.max_output
    return entry


def _row(rates: Rates) -> dict[str, Any]:
    span = _date("from", rates.since or None) | _date("until", rates.until)
    above = {"above": rates.above} if rates.above else {}
    return {**span, **above, **{name: Decimal(dollars(getattr(rates, name))) for name in TOKEN_CLASSES}}


def _date(key: str, at: int | None) -> dict[str, str]:
    return {} if at is None else {key: iso(at)[:10]}


def _completed(known: Price | None, new: Price, since: int) -> Price:
    """Return the new price, in which a class that its table does not list costs the same share of input as it does now.

    Of a model that is priced by its family until now, the share counts only where it is the dearer one.
    """
    if known is None or not isinstance(new, ImportedPrice) or not new.unlisted:
        return new

    def complete(tier: str | None, rows: tuple[Rates, ...]) -> tuple[Rates, ...]:
        return tuple(
            _with_shares_of(known.tier_rates_at(tier, since, r.above + 1), r, new.unlisted, at_least=known.is_estimated)
            for r in rows
        )

    return replace(new, rates=complete(None, new.rates), tiers={tier: complete(tier, rows) for tier, rows in new.tiers.items()})


def _with_shares_of(old: Rates | None, row: Rates, classes: Iterable[str], *, at_least: bool) -> Rates:
    if old is None or not old.input:
        return row
    step = Decimal("0.000001")
    shares = {name: (getattr(old, name) * row.input / old.input).quantize(step, ROUND_UP) for name in classes}
    return replace(row, **{n: max(share, getattr(row, n)) if at_least else share for n, share in shares.items()})


def _joined(before: Price | None, new: Price, since: int) -> Price:
    """Return the new price from a time on, the old one before it, and what only the old one says at any time."""

    def follow(old: tuple[Rates, ...], rows: tuple[Rates, ...]) -> tuple[Rates, ...]:
        ended = tuple(
            replace(r, until=since if r.until is None else min(r.until, since)) for r in old if r.since < since and r.hours is None
        )
        begun = tuple(replace(r, since=max(r.since, since)) for r in rows if r.until is None or r.until > since)
        return ended + begun

    if before is None:
        return replace(new, rates=follow((), new.rates), tiers={k: follow((), v) for k, v in new.tiers.items()})
    rates = follow(before.rates, new.rates)
    keeps_tiers = _same(replace(before, tiers={}), replace(before, tiers={}, fast=(), rates=rates), since)
    tiers = {
        # What a table does not list may still hold, but not beside a new standard price.
        tier: before.tiers[tier]
        if tier in before.tiers and tier not in new.tiers and keeps_tiers
        else follow(before.tiers.get(tier, ()), new.tiers.get(tier, ()))
        for tier in SERVICE_TIERS
    }
    return replace(
        before,
        model=new.model,
        rates=rates,
        # A table that does not know the fast mode at all does not say that it has ended.
        fast=follow(before.fast, new.fast) if new.fast else before.fast,
        tiers={tier: rows for tier, rows in tiers.items() if rows},
        origin="operator",
    )


def differences(change: PriceChange, since: int) -> list[tuple[str, int, Rates | None, Rates]]:
    """Return what a change does to each service tier, at each size of prompt: tier, size above which, rates before and after.

    As of ``since``, epoch milliseconds. The speed ``fast`` is listed like a tier.
    """
    before, after = change.before, change.after
    found: list[tuple[str, int, Rates | None, Rates]] = []
    for tier in (None, *after.tiers):
        for above in _edges(before, after):
            old = before.tier_rates_at(tier, since, above + 1) if before is not None else None
            new = after.tier_rates_at(tier, since, above + 1)
            if old is None or old.units != new.units:
                found.append((tier or "standard", above, old, new))
    for row in (r for r in after.fast if r.is_in_force(since)):
        old = next((r for r in (before.fast if before is not None else ()) if r.is_in_force(since)), None)
        if old is None or old.units != row.units:
            found.append(("fast", 0, old, row))
    return found


def _edges(*prices: Price | None) -> list[int]:
    return sorted({0} | {r.above for p in prices if p is not None for rows in _tables(p) for r in rows})


def _same(before: Price, after: Price, since: int) -> bool:
    """Return whether two prices say the same for every service tier and size of prompt from a time on."""
    dates = {since} | {r.since for p in (before, after) for rows in _tables(p) for r in rows if r.since > since}
    return not any(differences(PriceChange(after.model, "unchanged", before, after), at) for at in dates)


def _tables(price: Price) -> Iterable[tuple[Rates, ...]]:
    return (price.rates, *price.tiers.values())


def _read_genai(providers: list[Any]) -> list[Price]:
    try:
        found = bundled.read_providers(providers)
    except (ValueError, KeyError, TypeError, AssertionError, AttributeError) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise ImportFormatError(f"this looks like the data of genai-prices, but it cannot be read: {reason}") from None
    return [p for p in bundled.prices_of(found) if all(r.hours is None for r in p.rates)]


def _read_litellm(raw: Mapping[str, Any]) -> list[Price]:
    entries: dict[str, Mapping[str, Any]] = {}
    for name, entry in raw.items():
        if isinstance(entry, dict) and entry.get("litellm_provider") in LITELLM_PROVIDERS:
            entries.setdefault(canonical(name.rpartition("/")[2]), entry)
    prices = []
    for name, entry in entries.items():
        # A name with a date means the same as the name without it, where that is listed at all.
        if undated(name) != name and undated(name) in entries:
            continue
        price = _litellm_price(name, entry)
        if price is not None:
            prices.append(price)
    return prices


def _litellm_price(name: str, entry: Mapping[str, Any]) -> Price | None:
    rates = _litellm_rates(entry, "")
    if not rates or all(r.input == r.output == 0 for r in rates):
        return None
    tiers = {}
    for tier, suffixes in LITELLM_SUFFIXES.items():
        for suffix in suffixes:
            if f"input_cost_per_token{suffix}" in entry:
                tiers[tier] = _litellm_rates(entry, suffix)
                break
    tiers = {tier: rows for tier, rows in tiers.items() if rows}
    window, output = (_tokens(entry.get(key)) for key in ("max_input_tokens", "max_output_tokens"))
    listed = [at for _, _, at in _litellm_steps(entry, "")]
    amounts = [name for name, key in LITELLM_CLASSES.items() if any(_per_million(at.get(key)) is not None for at in listed)]
    return ImportedPrice(
        model=name,
        rates=rates,
        origin="operator",
        unlisted=frozenset(TOKEN_CLASSES) - {*amounts, "output"},
        tiers=tiers,
        windows=(Window(0, max(DEFAULT_CONTEXT_TOKENS, window)),),
        max_output=max(DEFAULT_OUTPUT_TOKENS, output),
    )


def _litellm_rates(entry: Mapping[str, Any], suffix: str) -> tuple[Rates, ...]:
    """Return the rates of one service tier; a class without a price in it costs what it does in the standard tier.

    None where a price for input, or for the output that such a model has, is missing or cannot be used: it is not free.
    """
    required = ("input",) if entry.get("mode") in LITELLM_WITHOUT_OUTPUT else ("input", "output")
    rows = []
    for above, words, listed in _litellm_steps(entry, suffix):
        values: dict[str, Decimal] = {}
        for name, key in LITELLM_CLASSES.items():
            amount = _litellm_amount(listed, key, words, suffix)
            fallback = {"cache_write_1h": "cache_write_5m", "output": None}.get(name, "input")
            if amount is None and name in required:
                return ()
            values[name] = amount if amount is not None else values[fallback] if fallback else Decimal(0)
        rows.append(Rates(**values, above=above))  # type: ignore[arg-type]
    return tuple(rows)


def _litellm_steps(entry: Mapping[str, Any], suffix: str) -> list[tuple[int, str, Mapping[str, Any]]]:
    """Return the sizes of prompt above which other prices begin, the words for them in keys, and where the keys stand."""
    ranges = entry.get("tiered_pricing")
    if isinstance(ranges, list) and not suffix:
        begins = [r["range"][0] for r in ranges if isinstance(r, dict) and isinstance(r.get("range"), list) and r["range"]]
        # What is not understood has no price, and is then left out.
        whole = len(begins) == len(ranges) and all(isinstance(n, int | Decimal) and 0 <= n < MAX_AMOUNT for n in begins)
        steps = sorted(zip(map(int, begins), ranges, strict=True), key=lambda step: step[0]) if whole else []
        return [(above if number else 0, "", r) for number, (above, r) in enumerate(steps)]
    edges = {0: ""}
    for key in entry:
        # A service tier without a price of its own for large prompts becomes dearer with them as the standard one does.
        if found := re.fullmatch(rf"input_cost_per_token_above_(\d{{1,6}})k_tokens(?:{re.escape(suffix)})?", key):
            edges[int(found[1]) * 1000] = f"_above_{found[1]}k_tokens"
    return [(above, words, entry) for above, words in sorted(edges.items())]


def _litellm_amount(listed: Mapping[str, Any], key: str, words: str, suffix: str) -> Decimal | None:
    """Return a price by the most particular key that there is, per million tokens."""

    def price(words: str, suffix: str) -> Decimal | None:
        return _per_million(listed.get(f"{key}{words}{suffix}"))

    own, of_tier, of_size, standard = price(words, suffix), price("", suffix), price(words, ""), price("", "")
    if own is None and words and suffix and of_tier is not None and of_size is not None and standard:
        return (of_tier * of_size / standard).quantize(Decimal("0.000001"), ROUND_UP)
    # The size of the prompt counts for more than the tier.
    return next((amount for amount in (own, of_size, of_tier, standard) if amount is not None), None)


def _per_million(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    try:
        amount = Decimal(value) * 1_000_000
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and 0 <= amount <= MAX_AMOUNT else None


def _tokens(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_AMOUNT else 0
