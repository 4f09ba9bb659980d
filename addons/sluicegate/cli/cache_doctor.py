"""``sluicegate cache doctor``: which calls paid again for what their provider had cached, why, and what that cost."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail, print_json, print_table
from sluicegate.values import exact_dollars, nano_of

COLUMNS = {"at": "time", "user": "user", "model": "model", "message": "what changed", "tokens": "tokens", "lost": "lost"}
CAUSES = {"cause": "cause", "breaks": "calls", "tokens": "tokens", "lost": "lost"}
WEEKS = {"week": "week of", "user": "user", "calls": "calls", "share": "read from cache", "breaks": "broken", "lost": "lost"}


def register(app: typer.Typer) -> None:
    """Add this command to the group ``cache``."""
    app.command("doctor", cls=command_class("state_dir"))(doctor)


def doctor(
    ctx: typer.Context,
    session: Annotated[str | None, typer.Option("--session", help="One session, by its id.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="The calls of one user, by id.")] = None,
    since: Annotated[str, typer.Option("--since", help="How far back: 24h, 7d, 4w.")] = "7d",
    form: Annotated[Literal["table", "json"], typer.Option("--format", help="table or json.")] = "table",
    limit: Annotated[int, typer.Option("--limit", help="How many findings, the newest first.", min=1, max=10_000)] = 50,
) -> None:
    """Show which calls paid full price for a prompt that their provider had cached, what changed, and what it cost.

    It knows hashes of the prompts' blocks, not their words, so it names a block by its place and size.

    Example: sluicegate cache doctor --user alice --since 30d
    """
    from sluicegate.prompt_caching.report import ReportFilter, report
    from sluicegate.prompt_caching.store import FILENAME

    settings: Settings = ctx.obj
    began = max(0, int(time.time() * 1000) - _span(since))
    folder = settings.state_path()
    if not folder.is_dir():
        fail(f"no gateway has recorded anything in {folder}: give its --state-dir")
    try:
        found = report(folder / FILENAME, ReportFilter(began, session, user, None, limit))
    except (sqlite3.Error, OSError) as e:
        fail(f"{folder / FILENAME} cannot be read: {e}")
    if form == "json":
        print_json(found)
        return
    _print(found, since)


def _span(text: str) -> int:
    from sluicegate.windows import parse_period, period_ms

    try:
        span = period_ms(parse_period(text))
    except ValueError:
        span = None
    if span is None:
        fail(f"--since {text}: write a span such as 24h, 7d or 4w", 2)
    return span


def _print(found: Mapping[str, Any], since: str) -> None:
    totals = found["totals"]
    if not totals["calls"]:
        print(f"no call with a prompt cache in the last {since}")
        return
    if found["findings"]:
        print_table([_finding(f) for f in found["findings"]], COLUMNS, whole=("at", "lost"))
        print("\nby cause:")
        print_table([_sums(c) | {"cause": c["cause"].replace("_", " ")} for c in found["causes"]], CAUSES)
        for cause in dict.fromkeys(f["cause"] for f in found["findings"]):
            print(f"\n{cause.replace('_', ' ')}: {next(f['advice'] for f in found['findings'] if f['cause'] == cause)}")
        print("\nby user and week, from its Monday on:")
    print_table([_sums(week) | {"week": week["week"], "user": week["user_id"] or "none"} for week in found["weeks"]], WEEKS)
    lost = sum(nano_of(cause["lost_usd"]) for cause in found["causes"])
    number = sum(cause["breaks"] for cause in found["causes"])
    print(f"\n{number:,} calls paid again for what was cached in the last {since}: {exact_dollars(lost)}")


def _finding(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "at": found["at"][:16].replace("T", " "),
        "user": found["user_id"] or found["virtual_key_id"] or "none",
        "model": found["model"],
        "message": found["message"],
        "tokens": f"{found['lost_tokens']:,}",
        "lost": exact_dollars(nano_of(found["lost_usd"])),
    }


def _sums(counts: Mapping[str, Any]) -> dict[str, Any]:
    share = counts.get("read_share")
    return {
        "calls": f"{counts.get('calls', 0):,}",
        "breaks": f"{counts['breaks']:,}",
        "tokens": f"{counts['lost_tokens']:,}",
        "share": "" if share is None else f"{share:.1%}",
        "lost": exact_dollars(nano_of(counts["lost_usd"])),
    }
