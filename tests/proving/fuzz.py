"""Feed a gateway and its parsers the inputs that hypothesis generates, and check the invariants after each batch."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import proving.fuzzing  # noqa: F401  enters the targets
from proving.fuzzing.environment import Environment
from proving.fuzzing.target import TARGETS, Line, Target, run_target

console = Console(width=None if os.isatty(1) else 160)
COLOURS = {"kept": "green", "BROKEN": "red"}
SHOWN = 1500
"""Characters of an input in the table; ``--json`` has all of it."""


def table(lines: list[Line]) -> Table:
    """Return the result for people."""
    made = Table(title="sluicegate fuzz", title_justify="left", show_lines=True)
    made.add_column("target", overflow="fold")
    made.add_column("promise", overflow="fold")
    made.add_column("inputs", justify="right")
    made.add_column("seconds", justify="right")
    made.add_column("")
    for line in lines:
        made.add_row(
            line.target, line.promise, f"{line.inputs:,}", f"{line.seconds:.1f}", f"[{COLOURS[line.verdict]}]{line.verdict}[/]"
        )
    return made


def markdown(lines: list[Line]) -> str:
    """Return the result for a document."""
    rows = [f"| {x.target} | {x.promise} | {x.inputs:,} | {x.seconds:.1f} | {x.verdict} |" for x in lines]
    return "\n".join(["| target | promise | inputs | seconds | |", "|---|---|---|---|---|", *rows])


def explanation(line: Line) -> str:
    """Explain how a promise was broken, by which input, and how to see it again."""
    cut = line.minimal if len(line.minimal) <= SHOWN else f"{line.minimal[:SHOWN]}... ({len(line.minimal)} characters)"
    again = f"scripts/fuzz --only '{line.target}' --replay {line.blob}" if line.blob else "the same seed"
    return f"{line.target}: {line.broken[:SHOWN]}\n  smallest input: {cut or 'none alone'}\n  again: {again}"


def is_meant(name: str, asked: str) -> bool:
    """Return whether ``--only`` means a target: by its name if any has that name, else by its beginning, ignoring case."""
    asked, name = asked.lower(), name.lower()
    return name == asked if asked in {t.name.lower() for t in TARGETS} else name.startswith(asked)


def choose(only: list[str] | None, replay: str | None) -> list[Target]:
    """Return the targets that ``--only`` means, exactly one for a replay. Raises BadParameter."""
    chosen = [t for t in TARGETS if not only or any(is_meant(t.name, o) for o in only)]
    if not chosen:
        raise typer.BadParameter("no target's name begins with it; see --list", param_hint="--only")
    if replay is not None and len(chosen) != 1:
        raise typer.BadParameter("--only must name exactly one target to replay", param_hint="--replay")
    return chosen


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(
    epilog="Examples: scripts/fuzz --quick    scripts/fuzz --only requests --seconds 600    scripts/fuzz --only sse --seed 7"
)
def main(
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only this target, or all whose name begins with it; repeatable.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A fixed number of examples each, the same at every run.")] = False,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Time for each target, in the long form.")] = 60,
    examples: Annotated[int | None, typer.Option("--examples", min=1, help="Examples for each target instead of time.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Where the search begins; 0 in the quick form.")] = None,
    replay: Annotated[str | None, typer.Option("--replay", help="Play one broken example again; needs one --only.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Also write the lines to this file.")] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Print the targets and what is promised, and exit.")] = False,
) -> None:
    """Feed a running gateway and its parsers the inputs that hypothesis generates. Loopback only.

    Exit status: 0 every promise kept, 1 one broken, 2 wrong usage.
    """
    chosen = choose(only, replay)
    if listed:
        for target in chosen:
            print(f"{target.name}: {target.promise}")
        return
    number = seed if seed is not None else 0 if quick else time.time_ns() % 1_000_000
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        environment = Environment(stack)
        lines = []
        for target in chosen:
            count = examples or (target.quick if quick else None)
            try:
                lines.append(run_and_show(target, environment, number, count, seconds, replay, not as_markdown))
            except ValueError as e:
                raise typer.BadParameter(str(e), param_hint="--replay") from e
    if as_markdown:
        print(markdown(lines))
    else:
        console.print(table(lines))
    broken = [x for x in lines if x.verdict == "BROKEN"]
    for line in broken:
        console.print(escape(explanation(line)), highlight=False, soft_wrap=True)
    if as_json is not None:
        as_json.write_text(json.dumps({"seed": number, "lines": [asdict(x) for x in lines]}, indent=1) + "\n")
    if not as_markdown:
        inputs = sum(x.inputs for x in lines)
        took = time.monotonic() - began
        print(f"{len(lines) - len(broken)} promises kept, {len(broken)} broken, {inputs:,} inputs in {took:.0f} s (seed {number})")
    raise typer.Exit(1 if broken else 0)


def run_and_show(
    target: Target, environment: Environment, seed: int, examples: int | None, seconds: float, replay: str | None, show: bool
) -> Line:
    """Play one target and show how it goes."""
    with console.status(target.name) if show and console.is_terminal else contextlib.nullcontext() as status:

        def progress(text: str) -> None:
            if status is not None:
                status.update(f"{target.name}: {text}")

        line = run_target(target, environment, seed, examples, seconds, replay, progress)
    if line.verdict == "BROKEN":
        # Its leftovers must not reach the next target.
        environment.clear()
    if show:
        console.print(
            f"[{COLOURS[line.verdict]}]{line.verdict:6}[/] {line.target} [dim]({line.inputs:,} inputs, {line.seconds} s)[/]",
            highlight=False,
        )
    return line


if __name__ == "__main__":
    app()
