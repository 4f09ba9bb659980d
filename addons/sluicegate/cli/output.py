"""What commands print: tables for people, JSON for programs, errors on stderr with the exit status."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

import typer

from sluicegate.values import dollar_texts, nano_of

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")

_BUDGET_SHARE = re.compile(r"\$.* (\d+)%")
"""A budget as ``budget_cell`` writes it, and the share that is used."""


def fail(message: str, code: int = 1) -> NoReturn:
    """Print what is wrong to stderr and exit with ``code``."""
    for line in message.splitlines():
        print(line, file=sys.stderr)
    raise typer.Exit(code)


def note(message: str) -> None:
    """Print what a reader should know beside the result to stderr."""
    print(message, file=sys.stderr)


def print_json(value: Any) -> None:
    """Print a value as JSON, in which every encoding has every character."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=2, ensure_ascii=not is_utf8))


def print_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], whole: Collection[str] = ()) -> None:
    """Print rows; ``columns`` maps a row's key to the column's title. In colour only on a terminal.

    The cells of columns in ``whole`` are never folded, however narrow the terminal.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, title in columns.items():
        table.add_column(title, overflow="fold", no_wrap=name in whole)
    for row in rows:
        table.add_row(*(_cell(Text, row.get(name)) for name in columns))
    Console(width=None if sys.stdout.isatty() else 250).print(table)


def _cell(text: Any, value: Any) -> Any:
    """Return a cell. Names are written by people, so they are never read as markup."""
    # Some names come over a network, and none is to move the cursor or set a terminal's title.
    shown = "" if value is None else _CONTROL.sub(lambda found: ascii(found[0])[1:-1], str(value))
    style = {"inactive": "red", "expired": "red", "active": "green", "fail": "red", "warn": "yellow", "ok": "green"}.get(shown, "")
    if budget := _BUDGET_SHARE.fullmatch(shown):
        share = int(budget[1])
        style = "red" if share >= 100 else "yellow" if share >= 80 else ""
    return text(shown, style=style)


def budget_cell(budget: Mapping[str, Any] | None) -> str:
    """Return a budget in short: ``$12.40/50.00 per 1M 25%``."""
    if budget is None:
        return ""
    used, limit = budget["current_usage"] + budget["reserved"], budget.get("limit_in_force", budget["max_limit"])
    share = min(999, int(used * 100 / limit)) if limit else 100
    period = "prepaid" if budget["reset_duration"] == "never" else f"per {budget['reset_duration']}"
    shown_used, shown_limit = dollar_texts(nano_of(used), nano_of(limit), grouped=True)
    return f"{shown_used}/{shown_limit.removeprefix('$')} {period} {share}%"


def rate_cell(rate: Mapping[str, Any] | None) -> str:
    """Return rate limits in short: ``3/100 calls per 1h``."""
    if rate is None:
        return ""
    parts = [
        f"{rate[f'{what}_current_usage'] + rate[f'{what}_reserved']:,}/{rate[f'{what}_max_limit']:,} {word}"
        f" per {rate[f'{what}_reset_duration']}"
        for what, word in (("request", "calls"), ("token", "tokens"))
        if rate[f"{what}_max_limit"] is not None
    ]
    if rate["max_concurrent"] is not None:
        parts.append(f"{rate['concurrent_current_usage']}/{rate['max_concurrent']} at once")
    return ", ".join(parts)
