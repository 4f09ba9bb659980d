"""``sluicegate prices``: what models cost and where each price comes from, and newer prices from a published table."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail, print_json
from sluicegate.paths import PRICES, copy_hint, is_packaged, named_policy, price_file

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
    from sluicegate.cli.price_text import price_json, print_prices
    from sluicegate.model_names import matches

    now = _now()
    found = [p for p in _load(ctx.obj).listed() if matches(model, p.model)]
    if ctx.obj.as_json:
        print_json({"prices": [price_json(p, now) for p in found]})
        return
    if not found:
        fail(f"no table has a model that matches '{model}'; sluicegate prices show {model} says what one of that name would cost")
    print_prices(found, now)


def show(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="The model's name, as in a call.")],
    at: Annotated[str | None, typer.Option("--at", help="When the call is made, such as 2026-10-07; absent: now.")] = None,
) -> None:
    """Show every component of a model's price: tiers, dates, fees, and where it comes from; exit status 1 if there is none.

    Example: sluicegate prices show gpt-6.2-sol
    """
    from sluicegate.cli.price_text import price_json, print_price

    moment = _now() if at is None else _date("--at", at)
    price = _load(ctx.obj).price(model, moment)
    if price is None:
        fail(
            f"'{model}' has no price and is of no known family: under a budget it is refused, or charged the policy's "
            f"fallback_price; add it to {PRICES}"
        )
    if ctx.obj.as_json:
        print_json({"model": model} | price_json(price, moment))
        return
    print_price(model, price, moment)


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
    from sluicegate.cli.price_text import print_changes, rates_json
    from sluicegate.pricing.price_import import ImportFormatError, compare, read_table
    from sluicegate.windows import DAY_MS, iso

    settings: Settings = ctx.obj
    day = _now() // DAY_MS * DAY_MS if since is None else _date("--from", since)
    if day % DAY_MS:
        fail(f"--from {since}: prices begin at midnight UTC; write a day such as 2026-12-01", 2)
    try:
        table, imported = read_table(file.read_bytes())
    except OSError as e:
        fail(f"{file}: {e.strerror}")
    except ImportFormatError as e:
        fail(f"{file}: {e}")
    changes = compare(_load(settings), imported, model, day)
    if not changes:
        fail(f"{file}: the table has no model with a price per token that matches '{model}'")
    target = _file_to_write(settings)
    written = [c for c in changes if c.status != "unchanged"]
    if not settings.as_json:
        print_changes(table, changes, day)
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
                    {"model": c.model, "status": c.status, "before": rates_json(c.before, day), "after": rates_json(c.after, day)}
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


def _file_to_write(settings: Settings) -> Path:
    """Return the file of prices beside the policy that is named or in use; exit where there is none, or it is the package's."""
    from sluicegate.storage.state_folder import recorded_policy, url_of_running

    policy = named_policy(settings.policy, os.environ)
    if policy is None and url_of_running(settings.state_path()) is not None:
        policy = recorded_policy(settings.state_path())
    if policy is None:
        settings.fail_without_policy("--policy FILE (or SLUICEGATE_POLICY): prices.yaml stands beside it")
    if is_packaged(policy):
        fail(copy_hint(policy))
    return price_file(policy)


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


def _date(option: str, text: str) -> int:
    from sluicegate.windows import parse_iso

    try:
        return parse_iso(text)
    except ValueError:
        fail(f"{option} {text}: write a day such as 2026-12-01", 2)


def _now() -> int:
    return int(time.time() * 1000)
