"""Comparing a provider's report with our records, day by day and model by model, and saying what explains a drift. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sluicegate.pricing.prices import Prices
from sluicegate.reconciliation.booked_usage import Booked
from sluicegate.reconciliation.reports import TOOLS, CostLine, Report
from sluicegate.values import TOKEN_COLUMNS, Usage, usd
from sluicegate.windows import DAY_MS, iso, parse_iso

STANDARD_TIERS = ("standard", "default", None)

Key = tuple[str, str]
"""A day (UTC) and a model."""


def compare(
    report: Report, booked: Mapping[Key, Booked], prices: Prices, start: int, end: int, deleted_before: int = 0
) -> dict[str, Any]:
    """Return the rows for ``[start, end)``, epoch milliseconds at midnight UTC, and their totals; money is exact decimal text.

    Calls from before ``deleted_before`` have been deleted for their age, so they are not among ``booked``.
    """
    days = [iso(at)[:10] for at in range(start, end, DAY_MS)]
    tokens, tiers = _usage_by_key(report, days)
    costs = _costs_by_key(report.costs, days) if report.has_costs else {k: _list_price(prices, k, t) for k, t in tokens.items()}
    ours, fees = _without_fees(booked, prices)
    keys = sorted({*tokens, *costs, *ours, *fees})
    missing = [d for d in days if d not in report.days]
    rows = [
        _row(key, ours.get(key, Booked()), fees.get(key, 0), tokens.get(key, {}), costs.get(key, 0), tiers.get(key, set()))
        for key in keys
    ]
    for row in rows:
        if parse_iso(row["day"]) < deleted_before and has_drift(row):
            text = f"retention.calls has deleted calls of {row['day']}, so our records no longer have all of it"
            row["causes"] = [_cause("deleted", text, None)]
            continue
        row["causes"] = list(_causes(row, ours.get((row["day"], row["model"]), Booked()), prices, missing, report.has_costs))
    return {
        "rows": rows,
        "missing_days": missing,
        "deleted_before": iso(deleted_before) if deleted_before > start else None,
        "costs_reported": report.has_costs,
        "totals": _totals(rows),
    }


def has_drift(row: Mapping[str, Any]) -> bool:
    """Return whether the two sides of a row differ in dollars or tokens."""
    return bool(row["drift"]["cost_nano"]) or any(row["drift"][name] for name in TOKEN_COLUMNS)


def _usage_by_key(report: Report, days: Iterable[str]) -> tuple[dict[Key, dict[str, int]], dict[Key, set[str]]]:
    wanted = set(days)
    tokens: dict[Key, dict[str, int]] = {}
    tiers: dict[Key, set[str]] = {}
    for line in report.usage:
        if line.day in wanted and any(line.tokens.values()):
            found = tokens.setdefault((line.day, line.model), dict.fromkeys(TOKEN_COLUMNS, 0))
            for name, count in line.tokens.items():
                found[name] += count
            if line.tier not in STANDARD_TIERS:
                tiers.setdefault((line.day, line.model), set()).add(str(line.tier))
    return tokens, tiers


def _costs_by_key(lines: Iterable[CostLine], days: Iterable[str]) -> dict[Key, int]:
    wanted = set(days)
    costs: dict[Key, int] = {}
    for line in lines:
        if line.day in wanted and line.nano:
            costs[line.day, line.model] = costs.get((line.day, line.model), 0) + line.nano
    return costs


def _list_price(prices: Prices, key: Key, counts: Mapping[str, int]) -> int:
    """Return what counts of a usage, by their names there, cost a model on a day; 0 if nothing prices it."""
    day, model = key
    usage = Usage(model=model)
    for name, count in counts.items():
        setattr(usage, name, count)
    return prices.cost(usage, model, parse_iso(day)) or 0


def _without_fees(booked: Mapping[Key, Booked], prices: Prices) -> tuple[Mapping[Key, Booked], dict[Key, int]]:
    """Return our calls, and their fees for tools under ``TOOLS``, because the providers report these without a model."""
    fees: dict[Key, int] = {}
    models = dict(booked)
    for (day, model), calls in booked.items():
        if any(calls.tools.values()):
            fee = min(_list_price(prices, (day, model), calls.tools), calls.cost_nano)
            models[day, model] = replace(calls, cost_nano=calls.cost_nano - fee)
            fees[day, TOOLS] = fees.get((day, TOOLS), 0) + fee
    return models, fees


def _row(key: Key, ours: Booked, fee: int, tokens: Mapping[str, int], cost: int, tiers: set[str]) -> dict[str, Any]:
    mine = ours.cost_nano + fee
    theirs = {name: tokens.get(name, 0) for name in TOKEN_COLUMNS}
    return {
        "day": key[0],
        "model": key[1],
        "calls": ours.calls,
        "ours": {"cost_usd": usd(mine), "cost_nano": mine, **ours.tokens},
        "provider": {"cost_usd": usd(cost), "cost_nano": cost, **theirs},
        "drift": {
            "cost_usd": usd(cost - mine),
            "cost_nano": cost - mine,
            **{name: theirs[name] - ours.tokens[name] for name in TOKEN_COLUMNS},
        },
        "service_tiers": sorted(tiers),
    }


def _causes(
    row: Mapping[str, Any], ours: Booked, prices: Prices, missing: Iterable[str], has_costs: bool
) -> Iterator[dict[str, Any]]:
    """Yield what explains a row's drift, what is known for sure first; ``amount_usd`` is how much money it is about."""
    model = row["model"]
    if not has_drift(row):
        return
    if row["day"] in missing:
        yield _cause("missing_day", f"the report does not have {row['day']} (yet)", row["ours"]["cost_nano"])
    elif not ours.calls and model != TOOLS:
        text = "usage that did not pass this gateway: other keys of the organisation"
        yield _cause("not_ours", text, row["provider"]["cost_nano"])
    else:
        yield from _causes_on_record(ours)
        yield from _causes_in_price(row, prices)
        yield from _rest(row, ours, has_costs)


def _causes_on_record(ours: Booked) -> Iterator[dict[str, Any]]:
    if ours.cut_short:
        text = f"{_calls(ours.cut_short)} ended early and charged for what was delivered or may have been generated"
        yield _cause("cut_short", text, ours.cut_short_nano, ours.cut_short)
    if ours.estimated:
        yield _cause("estimated", f"{_calls(ours.estimated)} charged by estimate", ours.estimated_nano, ours.estimated)
    if ours.adjusted:
        yield _cause("adjusted", f"{_calls(ours.adjusted, 'adjustment')} of charges", ours.adjusted_nano, ours.adjusted)


def _causes_in_price(row: Mapping[str, Any], prices: Prices) -> Iterator[dict[str, Any]]:
    model, at = row["model"], parse_iso(row["day"])
    if model != TOOLS and prices.price(model, at, by_family=False) is None:
        what = "its family's price" if prices.price(model, at) is not None else "no known price"
        yield _cause("family_price", f"{model} is in no price table: charged by {what}", row["ours"]["cost_nano"])
    if row["service_tiers"]:
        text = f"served as {', '.join(row['service_tiers'])}"
        text += "; the priority tier is billed apart from the cost report" if "priority" in row["service_tiers"] else ""
        yield _cause("service_tier", text, None)


def _rest(row: Mapping[str, Any], ours: Booked, has_costs: bool) -> Iterator[dict[str, Any]]:
    """Yield what the tokens say once everything on record has been named."""
    drift, model = row["drift"], row["model"]
    tokens = [drift[name] for name in TOKEN_COLUMNS]
    if any(n > 0 for n in tokens):
        text = "more tokens than passed this gateway: other keys of the organisation, or calls not metered"
        yield _cause("not_ours", "the report names no model for these tokens" if model == TOOLS else text, None)
    elif any(tokens):
        if not (ours.cut_short or ours.estimated):
            yield _cause("unknown", "fewer tokens than our records have, and nothing on record explains it", None)
    elif drift["cost_nano"] != -ours.adjusted_nano:
        text = f"the tokens agree, so a price of {model} differs (sluicegate prices)"
        if not has_costs:
            text = "the tokens agree; without costs they are priced as one sum, which hides tiers, speed and region of single calls"
        yield _cause("price", "fees for tools differ" if model == TOOLS else text, drift["cost_nano"])


def _calls(count: int, word: str = "call") -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _cause(cause: str, text: str, nano: int | None, calls: int = 0) -> dict[str, Any]:
    return {"cause": cause, "text": text, "calls": calls, "amount_usd": None if nano is None else usd(nano)}


def _totals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums; shares compare the drifts of all rows, each without its sign, with what the provider reports."""
    ours, theirs = (sum(r[side]["cost_nano"] for r in rows) for side in ("ours", "provider"))
    tokens = {side: sum(r[side][n] for r in rows for n in TOKEN_COLUMNS) for side in ("ours", "provider")}
    cost_off = sum(abs(r["drift"]["cost_nano"]) for r in rows)
    tokens_off = sum(abs(r["drift"][n]) for r in rows for n in TOKEN_COLUMNS)
    return {
        "calls": sum(r["calls"] for r in rows),
        "ours_usd": usd(ours),
        "provider_usd": usd(theirs),
        "drift_usd": usd(theirs - ours),
        "ours_tokens": tokens["ours"],
        "provider_tokens": tokens["provider"],
        "drift_tokens": tokens["provider"] - tokens["ours"],
        "cost_drift_share": _share(cost_off, theirs or ours),
        "token_drift_share": _share(tokens_off, tokens["provider"] or tokens["ours"]),
    }


def _share(part: int, whole: int) -> float:
    return round(part / abs(whole), 6) if whole else 0.0
