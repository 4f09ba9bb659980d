"""``sluicegate usage``: what every scope has used of its limits."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import typer

from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail
from sluicegate.values import dollar_texts, exact_dollars, nano_of, usd
from sluicegate.windows import DAY_MS, iso

BAR_CHARS = 12

SHADOW_DAYS = 30
"""Days over which the list price of calls by subscription is added up."""


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("usage", cls=command_class("policy", "state_dir", "as_json"))(usage)


def usage(ctx: typer.Context) -> None:
    """Show what every scope has used of its limits, also while a gateway runs.

    Calls that were paid for by their client's own subscription count under no budget: their list price is shown apart.

    Example: sluicegate usage --json
    """
    from sluicegate.limits.usage import usage_rows
    from sluicegate.policy.loader import PolicyError, load
    from sluicegate.storage.call_reader import read_shadow
    from sluicegate.storage.errors import StoreError
    from sluicegate.storage.store import FILENAME, read_ledger

    settings: Settings = ctx.obj
    now = int(time.time() * 1000)
    try:
        loaded = load(settings.policy_path(), env=os.environ, now=now)
        path = settings.state_path() / FILENAME
        rows = usage_rows(loaded, read_ledger(path), now)
        since = now - SHADOW_DAYS * DAY_MS
        shadow = read_shadow(path, since) if path.exists() else []
    except PolicyError as e:
        fail(str(e))
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
