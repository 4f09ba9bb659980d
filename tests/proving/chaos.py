"""Break things under a running gateway, one after another, and check its books after each."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import proving.faults  # noqa: F401  enters the faults
from proving.scene import FAULTS, Broken, Fault, Scene, Skipped

console = Console(width=None if os.isatty(1) else 160)
COLOURS = {"kept": "green", "BROKEN": "red", "skipped": "yellow"}
FAMILIES = ("process", "machine", "upstream", "clients", "operators", "egress", "endpoints")
"""The families of faults, in the order in which they are played."""


@dataclass
class Line:
    """One line of the table."""

    family: str
    fault: str
    promise: str
    verdict: str
    saw: str
    lost: str
    seconds: float


def run_fault(fault: Fault, rounds: int, quick: bool, seed: int, show: bool) -> Line:
    """Play one fault."""
    began = time.monotonic()
    title = f"{fault.family}: {fault.name}"
    with contextlib.ExitStack() as stack:
        status = stack.enter_context(console.status(title)) if show and console.is_terminal else None

        def progress(text: str) -> None:
            if status is not None:
                status.update(f"{title}: {text}")

        verdict, saw, lost = "kept", "", ""
        try:
            observation = fault.act(Scene(stack, rounds, quick, seed, progress))
            saw, lost = observation.saw, observation.lost
        except Broken as e:
            verdict, lost = "BROKEN", str(e)
        except Skipped as e:
            verdict, saw = "skipped", str(e)
        except Exception as e:
            # A fault that cannot be played to its end has proven nothing.
            verdict, lost = "BROKEN", f"{type(e).__name__}: {str(e)[:600]}"
    line = Line(fault.family, fault.name, fault.promise, verdict, saw, lost, round(time.monotonic() - began, 1))
    if show:
        console.print(f"[{COLOURS[verdict]}]{verdict:8}[/] {title} [dim]({line.seconds} s)[/]", highlight=False)
    return line


def table(lines: list[Line]) -> Table:
    """Return the result for people."""
    made = Table(title="sluicegate chaos", title_justify="left", show_lines=True)
    for name in ("fault", "clients saw", "lost", ""):
        made.add_column(name, overflow="fold")
    family = ""
    for line in lines:
        if line.family != family:
            family = line.family
            made.add_row(f"[bold]{family}[/]", "", "", "")
        made.add_row(line.fault, line.saw, line.lost, f"[{COLOURS[line.verdict]}]{line.verdict}[/]")
    return made


def markdown(lines: list[Line]) -> str:
    """Return the result for a document."""
    rows = [f"| {x.fault} | {x.promise} | {x.saw} | {x.lost} | {x.verdict} |" for x in lines]
    return "\n".join(["| fault | promise | clients saw | lost | |", "|---|---|---|---|---|", *rows])


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(
    epilog="Examples: scripts/chaos    scripts/chaos --only machine    scripts/chaos --only 'kill -9' --rounds 200 --seed 7"
)
def main(
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only faults whose family or name begins with it; repeatable.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Each fault once and short.")] = False,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="Rounds of kill -9 (default 50, quick 2).")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Repeat a run's random choices.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Also write the lines to this file.")] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Print the faults and what is promised, and exit.")] = False,
) -> None:
    """Break things under a running gateway and check its books after each. Loopback only, a few minutes.

    Exit status: 0 every promise kept, 1 one broken, 2 wrong usage.
    """
    chosen = [f for f in FAULTS if not only or any(f.family.startswith(o) or f.name.startswith(o) for o in only)]
    chosen.sort(key=lambda f: FAMILIES.index(f.family))
    if not chosen:
        raise typer.BadParameter("no fault's family or name begins with it; see --list", param_hint="--only")
    if listed:
        for fault in chosen:
            print(f"{fault.family:10} {fault.name}: {fault.promise}")
        return
    number = secrets.randbelow(1_000_000) if seed is None else seed
    began = time.monotonic()
    lines = [run_fault(f, rounds or (2 if quick else 50), quick, number, not as_markdown) for f in chosen]
    if as_markdown:
        print(markdown(lines))
    else:
        console.print(table(lines))
    if as_json is not None:
        as_json.write_text(json.dumps({"seed": number, "lines": [asdict(x) for x in lines]}, indent=1) + "\n")
    broken = [x for x in lines if x.verdict == "BROKEN"]
    skipped = sum(x.verdict == "skipped" for x in lines)
    kept = len(lines) - len(broken) - skipped
    if not as_markdown:
        took = time.monotonic() - began
        print(f"{kept} promises kept, {len(broken)} broken, {skipped} skipped in {took:.0f} s (seed {number})")
    raise typer.Exit(1 if broken else 0)


if __name__ == "__main__":
    app()
