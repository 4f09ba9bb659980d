"""``sluicegate usage``: what every scope has used of its limits."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail, note, print_json, print_table
from sluicegate.values import dollar_texts, exact_dollars, nano_of, usd
from sluicegate.windows import DAY_MS, iso

BAR_CHARS = 12

DIMENSIONS = {
    "key": "virtual_key_id",
    "user": "user_id",
    "team": "team_id",
    "customer": "customer_id",
    "project": "project_id",
    "claimed-project": "claimed_project",
    "provider": "provider",
    "model": "model",
}
"""What calls are added up by, and its column."""

SHADOW_DAYS = 30
"""Days over which the list price of calls by subscription is added up."""


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("usage", cls=command_class("policy", "state_dir", "as_json"))(usage)


def usage(
    ctx: typer.Context,
    by: Annotated[
        str | None,
        typer.Option("--by", help=f"Add up the calls on record instead, by {', '.join(DIMENSIONS)} or label:NAME."),
    ] = None,
    start: Annotated[str | None, typer.Option("--from", help="With --by: a day or a time; 30 days ago by default.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="With --by: a day, included, or a time; now by default.")] = None,
) -> None:
    """Show what every scope has used of its limits, also while a gateway runs.

    Calls that were paid for by their client's own subscription count under no budget: their list price is shown apart.

    Example: sluicegate usage --by label:cost_center --from 2026-11-01
    """
    if by is not None:
        _print_sums(ctx.obj, by, start, end)
        return
    if start or end:
        fail("--from and --to go with --by: limits have periods of their own", 2)
    from sluicegate.fleet.host_ledger import read_host_ledger
    from sluicegate.limits.usage import usage_rows
    from sluicegate.storage.call_reader import read_shadow
    from sluicegate.storage.errors import StoreError
    from sluicegate.storage.store import FILENAME

    settings: Settings = ctx.obj
    now = int(time.time() * 1000)
    loaded = settings.load_policy(now)
    try:
        path = settings.state_path() / FILENAME
        if not path.exists():
            note(f"no gateway has recorded anything in {settings.state_path()}: give its --state-dir or SLUICEGATE_STATE")
        rows = usage_rows(loaded, read_host_ledger(settings.state_path()), now)
        since = now - SHADOW_DAYS * DAY_MS
        shadow = read_shadow(path, since) if path.exists() else []
    except (sqlite3.Error, StoreError) as e:
        fail(f"the ledger cannot be read: {e}")
    if settings.as_json:
        keys = [{"virtual_key_id": key, "calls": calls, "shadow_usd": usd(nano)} for key, calls, nano in shadow]
        print(json.dumps({"usage": rows, "subscriptions": {"since": iso(since), "virtual_keys": keys}}, indent=2))
        return
    _print_rows(rows)
    if shadow:
        print(f"\npaid for by subscriptions in the last {SHADOW_DAYS} days, at list price and in no figure above:")
    for key, calls, nano in shadow:
        print(f"{key}  {exact_dollars(nano)}  {calls:,} calls")


def _print_sums(settings: Settings, by: str, start: str | None, end: str | None) -> None:
    """Print what calls have cost by one of DIMENSIONS or by a label, the dearest first."""
    from sluicegate.logs.parameters import FILTERS
    from sluicegate.policy.labels import check_labels
    from sluicegate.storage.call_reader import read_sums
    from sluicegate.storage.errors import StoreError
    from sluicegate.storage.store import FILENAME

    label = by.removeprefix("label:") if by.startswith("label:") else None
    if label is None and by not in DIMENSIONS:
        fail(f"--by {by}: write one of {', '.join(DIMENSIONS)}, or label:NAME", 2)
    now, times = int(time.time() * 1000), {}
    try:
        check_labels({} if label is None else {label: "x"})
        for name, text, default in (("start", start, now - SHADOW_DAYS * DAY_MS), ("end", end, now)):
            times[name] = default if text is None else FILTERS[name].read(text)
    except ValueError as e:
        fail(f"--by, --from, --to: {e}", 2)
    path = settings.state_path() / FILENAME
    if not path.exists():
        fail(f"no gateway has recorded anything in {settings.state_path()}: give its --state-dir")
    try:
        found = read_sums(path, DIMENSIONS.get(by, "labels"), times["start"], times["end"] + 1, label)
    except (sqlite3.Error, StoreError) as e:
        fail(f"the records cannot be read: {e}")
    if settings.as_json:
        rows = [{"name": name, "calls": calls, "tokens": tokens, "cost_usd": usd(nano)} for name, calls, tokens, nano in found]
        print_json({"by": by, "from": iso(times["start"]), "to": iso(times["end"]), "sums": rows})
        return
    columns = ("name", "calls", "tokens", "cost")
    cells = [(name or "none", f"{calls:,}", f"{tokens:,}", exact_dollars(nano)) for name, calls, tokens, nano in found]
    print_table([dict(zip(columns, row, strict=True)) for row in cells], {column: column for column in columns})
    print(f"from {iso(times['start'])[:16]} to {iso(times['end'])[:16]}, UTC")


def _print_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("kind", "id", "window", "limit", "used", "reserved", "", "resets_at"):
        table.add_column(name, justify="right" if name in ("limit", "used", "reserved") else "left", no_wrap=True)
    for row in rows:
        suffix = "_usd" if row["unit"] == "usd" else ""
        amounts = [row[f"{name}{suffix}"] for name in ("limit", "used", "reserved")]
        if suffix:
            cells = dollar_texts(*map(nano_of, amounts), grouped=True)
        else:
            cells = [f"{amounts[0]:,} {row['unit']}", *(f"{amount:,}" for amount in amounts[1:])]
        # A model's id is a glob, whose brackets are not markup.
        identity = (row["kind"], escape(row["id"]), row["window"] or "")
        table.add_row(*identity, *cells, _bar(*map(float, amounts)), (row["resets_at"] or "never")[:16])
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _bar(limit: float, used: float, reserved: float) -> str:
    share = min(1.0, (used + reserved) / limit) if limit else 1.0
    filled = round(share * BAR_CHARS)
    colour = "red" if share >= 1 else "yellow" if share >= 0.8 else "green"
    return f"[{colour}]{'█' * filled}[/][dim]{'░' * (BAR_CHARS - filled)}[/]"
