"""``sluicegate prices``: what models cost and where each price comes from, and newer prices from a published table."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail, print_json, print_table
from sluicegate.pricing.price import SERVICE_TIERS, TOKEN_CLASSES, Price, Rates, dollars
from sluicegate.pricing.price_watcher import FILENAME, price_file
from sluicegate.windows import iso, parse_iso

CLASS_TITLES = {
    "input": "input",
    "cache_write_5m": "write 5m",
    "cache_write_1h": "write 1h",
    "cache_read": "read",
    "output": "output",
}

Model = Annotated[str, typer.Option("--model", help="Only models whose name matches this glob.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the group ``prices``."""
    app.command("list", cls=command_class("policy", "as_json"))(list_prices)
    app.command("show", cls=command_class("policy", "as_json"))(show)
    app.command("import", cls=command_class("policy", "dry_run", "as_json"))(import_prices)


def list_prices(ctx: typer.Context, model: Model = "*") -> None:
    """List the prices in force now, dollars per million tokens, and the table that each comes from.

    Example: sluicegate prices list --model 'gpt-6*'
    """
    from sluicegate.model_names import matches

    now = _now()
    found = [p for p in _load(ctx.obj).listed() if matches(model, p.model)]
    if ctx.obj.as_json:
        print_json({"prices": [_as_json(p, now) for p in found]})
        return
    if not found:
        fail(f"no table has a model that matches '{model}'; sluicegate prices show {model} says what one of that name would cost")
    rows = [
        {"model": p.model, "prompt": _prompt(r.above), **_cells(r), "from": p.origin}
        for p in found
        for r in _in_force(p.rates, now)
    ]
    print_table(rows, {"model": "model", "prompt": "prompt", **CLASS_TITLES, "from": "from"})


def show(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="The model's name, as in a call.")],
    at: Annotated[str | None, typer.Option("--at", help="When the call is made, such as 2026-10-07; absent: now.")] = None,
) -> None:
    """Show every component of a model's price: tiers, dates, fees, and where it comes from; exit status 1 if there is none.

    Example: sluicegate prices show gpt-6.2-sol
    """
    moment = _now() if at is None else _date("--at", at)
    price = _load(ctx.obj).price(model, moment)
    if price is None:
        fail(
            f"'{model}' has no price and is of no known family: under a budget it is refused, or charged the policy's "
            f"fallback_price; add it to {FILENAME}"
        )
    if ctx.obj.as_json:
        print_json({"model": model} | _as_json(price, moment))
        return
    print(_where_from(model, price))
    rows = [
        {"tier": tier, "prompt": _prompt(r.above), **_span(r), **_cells(r)}
        for tier, rates in (("standard", price.rates), *price.tiers.items(), ("fast", price.fast))
        for r in rates
    ]
    print_table(rows, {"tier": "tier", "prompt": "prompt", "from": "from", "until": "until", **CLASS_TITLES})
    for line in _other_components(price, moment):
        print(line)


def import_prices(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="genai-prices' data.json or LiteLLM's model_prices_and_context_window.json.")],
    model: Model = "*",
    since: Annotated[
        str | None, typer.Option("--from", help="The day from which the new prices hold (UTC); absent: today.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False,
) -> None:
    """Take newer prices into prices.yaml beside the policy: prices before the day stay, comments too.

    Without --yes it shows what would change, and asks on a terminal; elsewhere it changes nothing.

    Example: sluicegate prices import data.json --model 'gpt-*' --from 2026-12-01 --yes
    """
    from sluicegate.pricing.price_import import ImportFormatError, compare, read_table

    settings: Settings = ctx.obj
    day = _now() // 86_400_000 * 86_400_000 if since is None else _date("--from", since)
    try:
        table, imported = read_table(file.read_bytes())
    except OSError as e:
        fail(f"{file}: {e.strerror}")
    except ImportFormatError as e:
        fail(f"{file}: {e}")
    changes = compare(_load(settings), imported, model, day)
    if not changes:
        fail(f"{file}: the table has no model that matches '{model}'")
    target = price_file(settings.policy_path())
    written = [c for c in changes if c.status != "unchanged"]
    if not settings.as_json:
        _print_changes(table, changes, day)
    wanted = bool(written) and not settings.dry_run and (yes or _confirmed(settings, len(written), target))
    if wanted:
        _write(target, written)
    if settings.as_json:
        print_json(
            {
                "table": table,
                "from": iso(day)[:10],
                "file": str(target),
                "written": wanted,
                "models": [
                    {"model": c.model, "status": c.status, "before": _rows(c.before, day), "after": _rows(c.after, day)}
                    for c in written
                ],
                "unchanged": len(changes) - len(written),
            }
        )
    elif wanted:
        print(f"{target}: {len(written)} models written; a running gateway takes them within seconds")
    elif written:
        print(f"nothing was written; --yes writes {target}")


def _load(settings: Settings) -> Any:
    from sluicegate.pricing.prices import PriceError, Prices

    file = price_file(settings.policy_path())
    try:
        return Prices.load(file if file.is_file() else None)
    except PriceError as e:
        fail(str(e))
    except OSError as e:
        fail(f"{file}: {e.strerror}")


def _write(target: Path, changes: Iterable[Any]) -> None:
    from sluicegate.policy.editing.price_entries import write_entries
    from sluicegate.policy.editing.yaml_patch import NotPatchableError
    from sluicegate.pricing.price_file import PriceError
    from sluicegate.pricing.price_import import to_entry

    try:
        write_entries(target, [to_entry(c.after) for c in changes])
    except (PriceError, NotPatchableError) as e:
        fail(str(e))
    except OSError as e:
        fail(f"{target}: {e.strerror}")


def _confirmed(settings: Settings, count: int, target: Path) -> bool:
    if settings.as_json or not sys.stdin.isatty():
        return False
    return typer.confirm(f"Write {count} models to {target}?")


def _print_changes(table: str, changes: list[Any], day: int) -> None:
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
    source = {"operator": f"your {FILENAME}", "own": "the gateway's own table", "genai-prices": "genai-prices"}
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


def _as_json(price: Price, at: int) -> dict[str, Any]:
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


def _rows(price: Price | None, at: int) -> list[dict[str, Any]] | None:
    return None if price is None else [{"above": r.above, **_cells(r)} for r in _in_force(price.rates, at)]


def _in_force(rates: tuple[Rates, ...], at: int) -> list[Rates]:
    """Return the rates that a call made at a time can be charged, one for each size of prompt."""
    edges = sorted({r.above for r in rates if r.is_in_force(at)})
    return [max((r for r in rates if r.above == edge and r.is_in_force(at)), key=lambda r: r.since) for edge in edges]


def _cells(rates: Rates) -> dict[str, str]:
    return {name: dollars(getattr(rates, name)) for name in TOKEN_CLASSES}


def _span(rates: Rates) -> dict[str, str | None]:
    return {
        "from": iso(rates.since)[:10] if rates.since else None,
        "until": iso(rates.until)[:10] if rates.until is not None else None,
    }


def _prompt(above: int) -> str:
    return f"> {above:,}" if above else ""


def _date(option: str, text: str) -> int:
    try:
        return parse_iso(text)
    except ValueError:
        fail(f"{option} {text}: write a day such as 2026-12-01", 2)


def _now() -> int:
    return int(time.time() * 1000)
