"""What ``sluicegate prices`` prints: tables and lines for people, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from sluicegate.cli.output import print_table
from sluicegate.paths import PRICES
from sluicegate.pricing.price import SERVICE_TIERS, TOKEN_CLASSES, Price, Rates, dollars
from sluicegate.windows import iso

CLASS_TITLES = {
    "input": "input",
    "cache_write_5m": "write 5m",
    "cache_write_1h": "write 1h",
    "cache_read": "read",
    "output": "output",
}


def print_prices(prices: Iterable[Price], now: int) -> None:
    """Print what is in force at a time, epoch milliseconds: a row for each size of prompt."""
    rows = [
        {"model": p.model, "prompt": _prompt(r.above), **_cells(r), "from": p.origin}
        for p in prices
        for r in _in_force(p.rates, now)
    ]
    print_table(rows, {"model": "model", "prompt": "prompt", **CLASS_TITLES, "from": "from"})


def print_price(model: str, price: Price, at: int) -> None:
    """Print every component of a model's price."""
    print(_where_from(model, price))
    rows = [
        {"tier": tier, "prompt": _prompt(r.above), **_span(r), **_cells(r)}
        for tier, rates in (("standard", price.rates), *price.tiers.items(), ("fast", price.fast))
        for r in rates
    ]
    spans = {"tier": "tier", "prompt": "prompt", "from": "from", "until": "until"}
    print_table(rows, spans | CLASS_TITLES, whole=spans)
    for line in _other_components(price, at):
        print(line)


def print_changes(table: str, changes: list[Any], day: int) -> None:
    """Print what an import changes from a day on, epoch milliseconds, and how many models it leaves alone."""
    from sluicegate.pricing.price_import import differences

    rows = []
    for change in changes:
        if change.status == "unchanged":
            continue
        for tier, above, before, after in differences(change, day) or [("later", 0, None, change.after.rates[-1])]:
            cells = _cells(after) if before is None else {n: _change(getattr(before, n), getattr(after, n)) for n in TOKEN_CLASSES}
            rows.append({"status": change.status, "model": change.model, "tier": tier, "prompt": _prompt(above), **cells})
    if rows:
        print_table(rows, {"status": "", "model": "model", "tier": "tier", "prompt": "prompt", **CLASS_TITLES})
    counts = [sum(c.status == status for c in changes) for status in ("new", "changed", "unchanged")]
    print(f"{table}, from {iso(day)[:10]}: {counts[0]} new, {counts[1]} changed, {counts[2]} unchanged")


def _change(before: Decimal, after: Decimal) -> str:
    return dollars(after) if before == after else f"{dollars(before)} -> {dollars(after)}"


def _where_from(model: str, price: Price) -> str:
    source = {"operator": f"your {PRICES}", "own": "the gateway's own table", "genai-prices": "genai-prices"}
    if price.family is not None:
        lender = "its list price" if price.model == price.family else f"{price.model}, the dearest of it"
        return f"{model}: no table has it; estimated by the family {price.family}: {lender}"
    entry = "" if price.model == model else f" (entry '{price.model}')"
    return f"{model}: from {source[price.origin]}{entry}"


def _other_components(price: Price, at: int) -> Iterable[str]:
    for tier in SERVICE_TIERS:
        factors = [f for f in price.factors if f.tier == tier and f.is_in_force(at)]
        if factors and factors[0].factor != 1 and not any(r.is_in_force(at) for r in price.tiers.get(tier, ())):
            classes = "" if factors[0].classes == TOKEN_CLASSES else f" for {', '.join(factors[0].classes)}"
            yield f"service tier {tier}: {dollars(factors[0].factor)} x standard{classes}"
    if price.us_multiplier != 1:
        yield f"inference_geo us: {dollars(price.us_multiplier)} x"
    fees = price.fees_at(at)
    if fees is not None:
        what = "prompts that searched" if fees.web_search_per == "prompt" else "searches"
        yield f"web search: {dollars(fees.web_search)} per 1,000 {what}"
        if fees.file_search:
            yield f"file search: {dollars(fees.file_search)} per 1,000 calls"
        if fees.code_interpreter:
            yield f"code interpreter: {dollars(fees.code_interpreter)} per session"
    yield f"context window {price.context_window(at):,} tokens, at most {price.max_output:,} of output"


def price_json(price: Price, at: int) -> dict[str, Any]:
    """Return every component of a price for JSON."""
    fees = price.fees_at(at)
    return {
        "priced_as": price.model,
        "origin": price.origin,
        "family": price.family,
        "estimated": price.is_estimated,
        "rates": [{"tier": "standard", **_row(r, at)} for r in price.rates]
        + [{"tier": tier, **_row(r, at)} for tier, rows in price.tiers.items() for r in rows]
        + [{"tier": "fast", **_row(r, at)} for r in price.fast],
        "factors": {f.tier: dollars(f.factor) for f in price.factors if f.is_in_force(at)},
        "us_multiplier": dollars(price.us_multiplier),
        "web_search": dollars(fees.web_search) if fees else None,
        "web_search_per": fees.web_search_per if fees else None,
        "file_search": dollars(fees.file_search) if fees else None,
        "code_interpreter": dollars(fees.code_interpreter) if fees else None,
        "context_window": price.context_window(at),
        "max_output": price.max_output,
    }


def _row(rates: Rates, at: int) -> dict[str, Any]:
    return {"above": rates.above, **_span(rates), "in_force": rates.is_in_force(at), **_cells(rates)}


def rates_json(price: Price | None, at: int) -> list[dict[str, Any]] | None:
    """Return the standard rates in force at a time for JSON."""
    return None if price is None else [{"above": r.above, **_cells(r)} for r in _in_force(price.rates, at)]


def _in_force(rates: tuple[Rates, ...], at: int) -> list[Rates]:
    """Return the rates that a call made at a time can be charged, one for each size of prompt."""
    # Where no time of theirs has come, a call is charged the first of them.
    begun = [r for r in rates if r.is_in_force(at)] or rates[:1]
    edges = sorted({r.above for r in begun})
    return [max((r for r in begun if r.above == edge), key=lambda r: r.since) for edge in edges]


def _cells(rates: Rates) -> dict[str, str]:
    return {name: dollars(getattr(rates, name)) for name in TOKEN_CLASSES}


def _span(rates: Rates) -> dict[str, str | None]:
    return {
        "from": iso(rates.since)[:10] if rates.since else None,
        "until": iso(rates.until)[:10] if rates.until is not None else None,
    }


def _prompt(above: int) -> str:
    return f"> {above:,}" if above else ""
