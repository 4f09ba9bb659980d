"""``scripts/chaos --fleet``: seeded runs of a fleet that is broken in every way that its documentation speaks of."""

from __future__ import annotations

import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from proving.fleet_chaos import network
from proving.fleet_chaos.run import Result, Shape, lines_of, run
from support import postgres

EXAMPLES = (
    "Examples: scripts/chaos --fleet    scripts/chaos --fleet --runs 200 --streams 200    "
    "scripts/chaos --fleet --seed 7 --runs 1 --seconds 30"
)

console = Console(width=160)
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def missing() -> str | None:
    """Return why there can be no such run here; None where there can be one."""
    return postgres.missing() or network.missing()


def shown(result: Result) -> Table:
    """Return a run for people."""
    verdict = "[red]BROKEN[/]" if result.broken else "[green]kept[/]"
    table = Table(title=f"seed {result.seed}: {verdict} in {result.seconds:.0f} s", title_justify="left", show_header=False)
    for what, how in lines_of(result):
        table.add_row(what, how)
    return table


@app.command(epilog=EXAMPLES)
def main(
    fleet: Annotated[bool, typer.Option("--fleet", help="This form of scripts/chaos.")] = True,
    runs: Annotated[int, typer.Option("--runs", min=1, help="How many; the long form has 200.")] = 5,
    seed: Annotated[int | None, typer.Option("--seed", help="The first run's seed; the others follow it.")] = None,
    streams: Annotated[int, typer.Option("--streams", min=3, help="Calls that are in flight at once.")] = 40,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="How long things break in each run.")] = 20.0,
    logs: Annotated[Path, typer.Option("--logs", help="Where the files of a failing run are kept.")] = Path("chaos-fleet"),
) -> None:
    """Break a fleet of three gateways, each in a network namespace, with one PostgreSQL, and check its books after each run.

    The database is cut off in one direction or both, slowed and restarted; gateways are killed with -9, stopped for longer than
    their leases, and see wrong clocks; policies are edited. Needs root. A seed names the events and what clients ask for;
    what happens in between is up to the machine. Exit status: 0 every promise kept, 1 one broken, 2 it cannot run here.
    """
    if (why := missing()) is not None:
        print(f"scripts/chaos --fleet cannot run here: {why}")
        raise typer.Exit(2)
    # What it has started ends with it, however it is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    first = secrets.randbelow(1_000_000) if seed is None else seed
    began, broken = time.monotonic(), 0
    server = postgres.start_server()
    try:
        for number in range(first, first + runs):
            result = run(number, server, Shape(seconds, streams), logs)
            console.print(shown(result), highlight=False)
            if result.broken:
                broken += 1
                for text in result.broken[:20]:
                    print(f"  {text}")
                print(f"  its files are in {result.kept}", flush=True)
    finally:
        postgres.stop_server(server)
    took = time.monotonic() - began
    print(f"seeds {first} to {first + runs - 1}: {runs - broken} runs kept every promise, {broken} broke one, in {took:.0f} s")
    raise typer.Exit(1 if broken else 0)


if __name__ == "__main__":
    app()
