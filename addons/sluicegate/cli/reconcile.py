"""``sluicegate reconcile``: compare our records with a provider's bill, day by day and model by model."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from sluicegate.cli.backend import call_api, open_backend
from sluicegate.cli.options import READ, Settings, command_class
from sluicegate.cli.output import fail, print_json
from sluicegate.values import dollar_texts, nano_of
from sluicegate.windows import DAY_MS, iso

PATH = "/api/reconciliations"

ANSWER_TIMEOUT_S = 3600
"""Time for an answer: the gateway asks the provider for every page again while it is slow or busy, and gives up by itself."""


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("reconcile", cls=command_class(*READ))(reconcile)


def reconcile(
    ctx: typer.Context,
    provider: Annotated[str, typer.Option("--provider", help="anthropic or openai.")],
    first_day: Annotated[str, typer.Option("--from", help="The first day, UTC, such as 2026-11-01.")],
    last_day: Annotated[str | None, typer.Option("--to", help="The last day; yesterday by default.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", help="An exported report, instead of asking the provider with the policy's admin_key.")
    ] = None,
    threshold: Annotated[str, typer.Option("--threshold", help="Drift above which the exit status is 1.")] = "1%",
    api_key: Annotated[
        list[str] | None, typer.Option("--api-key", help="Only this key of the provider, by its id; repeatable.")
    ] = None,
    workspace: Annotated[
        list[str] | None, typer.Option("--workspace", help="Only this workspace (OpenAI: project); repeatable.")
    ] = None,
) -> None:
    """Compare our records with a provider's bill; exit status 1 if they differ by more than the threshold.

    Exit status 2: nothing could be compared.

    Example: sluicegate reconcile --provider anthropic --from 2026-11-01 --threshold 0.5%

    Example: sluicegate reconcile --provider openai --from 2026-11-01 --file report.json
    """
    settings: Settings = ctx.obj
    allowed = _share(threshold)
    yesterday = iso(int(time.time() * 1000) - DAY_MS)[:10]
    if last_day is None and first_day > yesterday:
        fail(f"--from {first_day}: --to is yesterday, {yesterday}, unless another day is given", 2)
    body: dict[str, Any] = {
        "provider": provider,
        "from": first_day,
        "to": yesterday if last_day is None else last_day,
        "api_key_ids": api_key or [],
        "workspace_ids": workspace or [],
    }
    if file is not None:
        body["report"] = _read(file)
    if sys.stderr.isatty():
        asked = "reading the report" if file is not None else f"asking {provider}"
        typer.echo(f"{asked} about {body['from']} to {body['to']} ...", err=True)
    try:
        made = call_api(open_backend(settings, ANSWER_TIMEOUT_S), "POST", PATH, body)
    except typer.Exit as e:
        # Status 1 says that the bill differs: a job that watches it must not take a provider that is down for that.
        raise typer.Exit(2) from e
    if settings.as_json:
        print_json(made)
    else:
        _print(made)
    totals = made["totals"]
    if max(totals["cost_drift_share"], totals["token_drift_share"]) > allowed:
        raise typer.Exit(1)


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < float("inf"):
        fail(f"--threshold {text}: write a share such as 1% or 0.01", 2)
    return share


def _read(file: str) -> Any:
    try:
        report = json.loads(Path(file).read_bytes())
    except OSError as e:
        fail(f"{file}: {e.strerror}", 2)
    except (ValueError, RecursionError) as e:
        fail(f"{file} is not JSON: {e}", 2)
    if not isinstance(report, dict | list):
        fail(f"{file} is not a report: it must hold pages of the provider's reports, as an object or a list", 2)
    return report


def _print(made: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("day", "model", "calls", "ours", "bill", "drift", "tokens", "explained by"):
        justify = "right" if name in ("calls", "ours", "bill", "drift", "tokens") else "left"
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in made["rows"]:
        ours, bill, drift = dollar_texts(*(row[s]["cost_nano"] for s in ("ours", "provider", "drift")), grouped=True)
        tokens = {n: d for n, d in row["drift"].items() if n.endswith("_tokens") and d}
        shown = ", ".join(f"{n.removesuffix('_tokens').replace('_', ' ')} {d:+,}" for n, d in tokens.items())
        agrees = not row["drift"]["cost_nano"] and not tokens
        style = "green" if agrees else "yellow" if row["causes"] and row["causes"][0]["cause"] != "unknown" else "red"
        causes = "; ".join(c["text"] for c in row["causes"])
        cells = (row["day"], row["model"], f"{row['calls']:,}", ours, bill)
        table.add_row(*cells, Text("agrees" if agrees else drift, style=style), shown, causes)
    Console(width=None if sys.stdout.isatty() else 250).print(table)
    totals = made["totals"]
    ours, bill, drift = dollar_texts(*(nano_of(totals[f"{n}_usd"]) for n in ("ours", "provider", "drift")), grouped=True)
    print(
        f"total: {ours} on our records, {bill} on the bill, drift {drift} "
        f"({totals['cost_drift_share']:.2%} of dollars, {totals['token_drift_share']:.2%} of tokens)"
    )
    if not made["costs_reported"]:
        print("the report has no costs: the bill's dollars are its tokens at our prices")
    if made.get("deleted_before"):
        print(f"calls from before {made['deleted_before'][:10]} were deleted for their age (retention.calls) and are not compared")
    if made["missing_days"]:
        print(f"days that the report does not have: {', '.join(made['missing_days'])}")
