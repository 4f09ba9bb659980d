"""``scripts/bench``: what the gateway costs, part by part, and the pages that say so."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from proving import peers, performance_page, results
from proving.bench_parts import FULL, PARTS, QUICK, SMOKE, Run, Spec
from proving.figures import Figure, console, show
from proving.peer_cells import measure_peer
from proving.proxies import Proxies

MINUTES, PEERS_MINUTES = 12.0, 6.0
"""How long all parts may take, and how long the peers."""

PEERS = "peers"
"""What ``--only`` calls the peers that are compared with in a full run."""

BUSY_LOAD = 1.0
"""Load of the last minute from which on a machine is too busy for figures to publish."""

CANNOT = (RuntimeError, TimeoutError, OSError, subprocess.SubprocessError, AssertionError)
"""What a part ends with that cannot be measured; the others go on."""

EPILOG = (
    "Examples: scripts/bench    scripts/bench --all    scripts/bench --quick    scripts/bench --only hooks --only memory    "
    "scripts/bench --only peers    scripts/bench --peer portkey    scripts/bench --list    scripts/bench --write-docs"
)

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(epilog=EPILOG)
def main(
    quick: Annotated[bool, typer.Option("--quick", help="A minute or two instead of some ten; noisier.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Half a minute: whether each part works; its figures say little.")] = False,
    everything: Annotated[bool, typer.Option("--all", help=f"All parts, then {' and '.join(peers.USUAL)}.")] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", help=f"Only these: {', '.join(PARTS)}, or {PEERS} ({' and '.join(peers.USUAL)}).")
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer",
            help=f"Compare with {', '.join(peers.NAMES)} (installed first); of the parts only what --only names is measured.",
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Say what can be measured and how long it takes, and end.")] = False,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            min=0,
            help="What would not end by then is not begun, and it says what that is. "
            f"Default {MINUTES:g} for the parts, {PEERS_MINUTES:g} more for peers.",
        ),
    ] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", min=2, help="Rounds per comparison (default 8).")] = None,
    at_length: Annotated[
        bool, typer.Option("--at-length", help="Also the loads of peers that are left out by default, for they take long.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="The results as JSON; only what is measured is renewed. [bench/results.json]"),
    ] = None,
    write_docs: Annotated[
        bool, typer.Option("--write-docs", help="Measure nothing: make pages and picture anew of bench/results.json.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    least: Annotated[float | None, typer.Option("--least", help="Exit 1 if a throughput ratio is below this.")] = None,
) -> None:
    """Measure what the gateway costs, against stock mitmdump passing through, on loopback. Everything on.

    What a full run writes to bench/results.json goes into docs/performance.md, docs/performance.svg and docs/comparison.md at
    once. --quick and --smoke write to build/bench.json.

    Exit status: 0 measured, 1 a part failed (the others are measured and kept) or fell below --least, 2 wrong usage, 130 interrupted
    (what has ended is kept).
    """
    if write_docs:
        print("\n".join(f"written: {path}" for path in performance_page.write()) or "nothing has changed")
        return
    chosen = choose(everything, only or [], peer or [])
    if listed:
        print_list()
        return
    size = replace(SMOKE if smoke else QUICK if quick else FULL, at_length=at_length)
    if rounds:
        size = replace(size, rounds=rounds, peer_rounds=rounds)
    path = output or (results.SHORTER if size.quick else results.PUBLISHED)
    limit = minutes if minutes is not None else default_minutes(chosen)
    try:
        before = results.load(path)
    except ValueError as e:
        raise typer.BadParameter(str(e), param_hint="--output") from e
    if (load := os.getloadavg()[0]) > BUSY_LOAD and not size.quick:
        print(f"This machine is busy (load {load:.1f} in the last minute): figures to publish need an idle one.")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluicegate-bench-")))
        status = stack.enter_context(console.status("starting")) if console.is_terminal else None
        progress = status.update if status else lambda text: print(text, flush=True)
        run = Run(Proxies(folder, stack, forked=smoke), size, progress)
        session = Session(run, "smoke" if smoke else "quick" if quick else "full", path, before, limit)
        session.measure(chosen)
    finish(session, markdown, least)


def choose(everything: bool, only: Iterable[str], peer: Iterable[str]) -> dict[str, Spec]:
    """Return what is to be measured, by the names of the results' parts. Raises BadParameter for an unknown name."""
    known = (*PARTS, PEERS)
    for name in only:
        if name not in known:
            raise typer.BadParameter(f"{name!r} is none of: {', '.join(known)}", param_hint="--only")
    for name in peer:
        if name not in peers.NAMES:
            raise typer.BadParameter(f"{name!r} is none of: {', '.join(peers.NAMES)}", param_hint="--peer")
    parts = [name for name in PARTS if everything or name in only or not (only or peer)]
    against = [name for name in peers.NAMES if name in peer or (name in peers.USUAL and (everything or PEERS in only))]
    return {name: PARTS[name] for name in parts} | {peers.part(name): against_peer(name) for name in against}


def against_peer(name: str) -> Spec:
    """Return the part that compares with a peer."""
    return Spec(lambda run: measure_peer(run, name), peers.SECONDS[name], f"the same load through {name}")


def default_minutes(chosen: dict[str, Spec]) -> float:
    """Return how long a run may take unless somebody says."""
    return (MINUTES if set(chosen) & set(PARTS) else 0) + (PEERS_MINUTES if set(chosen) - set(PARTS) else 0)


def print_list() -> None:
    """Print what can be measured."""
    for name, spec in PARTS.items():
        print(f"--only {name:<15} {spec.seconds:>4} s  {spec.help}")
    print(f"--only {PEERS:<15} {sum(peers.SECONDS[name] for name in peers.USUAL):>4} s  {' and '.join(peers.USUAL)}")
    for name in peers.NAMES:
        print(f"--peer {name:<15} {peers.SECONDS[name]:>4} s  {against_peer(name).help}")


class Session:
    """What a run has measured so far, which is on disk whenever a part has ended."""

    def __init__(self, run: Run, form: str, path: Path, before: results.Results, minutes: float) -> None:
        self.run, self.form, self.path, self.results = run, form, path, before
        self.limit_s = minutes * 60
        self.began = time.time()
        self.figures: list[Figure] = []
        self.notes: list[str] = []
        self.left_out: list[str] = []
        self.failed: list[str] = []

    def measure(self, chosen: dict[str, Spec]) -> None:
        """Measure one part after the other, those that can still end in time."""
        expected, done = sum(spec.seconds for spec in chosen.values()), 0
        show_progress = self.run.progress
        for number, (name, spec) in enumerate(chosen.items(), 1):
            spent = time.time() - self.began
            # A slow machine takes longer for all of them.
            pace = max(1.0, spent / done) if done else 1.0
            if spent + (0 if self.run.size.quick else spec.seconds * pace) >= self.limit_s:
                self.left_out.append(name)
                continue
            whole = "" if self.run.size.quick else f", some {expected * pace - spent:.0f} s to go"
            self.run.progress = prefixed(show_progress, f"[{number}/{len(chosen)} {name}{whole}] ")
            self.measure_part(name, spec)
            done += spec.seconds
        self.run.progress = show_progress

    def measure_part(self, name: str, spec: Spec) -> None:
        """Measure a part and keep it, or say why that failed."""
        began, load = time.time(), os.getloadavg()[0]
        self.run.begin()
        try:
            spec.measure(self.run)
        except CANNOT as e:
            self.failed.append(f"{name}: {e or type(e).__name__}")
            return
        rounds = self.run.size.rounds if name in PARTS else self.run.size.peer_rounds
        measured = results.measured_on(self.form, rounds, began, load, self.run.versions)
        self.notes += self.run.notes
        self.figures += self.run.figures
        if self.run.figures:
            self.results = results.merged(self.results, {name: results.Part(measured, self.run.figures, self.run.notes)})
            results.save(self.path, self.results, (*PARTS, *map(peers.part, peers.NAMES)))


def prefixed(progress: Callable[[str], None], prefix: str) -> Callable[[str], None]:
    """Return a progress that says first where the run stands."""
    return lambda text: progress(prefix + text)


def finish(session: Session, markdown: bool, least: float | None) -> None:
    """Print what came out, and make the pages anew if it is published. Raises Exit with 1 if something failed."""
    show(session.figures, markdown)
    missed = sum(f.verdict == "NOT reached" for f in session.figures)
    seconds = round(time.time() - session.began)
    print(f"{len(session.figures)} figures in {seconds} s, written to {session.path}; {missed} targets not reached")
    if session.path == results.PUBLISHED and session.figures:
        print("".join(f"written: {path}\n" for path in performance_page.write()), end="")
    for note in session.notes:
        print(f"not measured: {note}")
    if session.left_out:
        print(f"left out, to end within {session.limit_s / 60:g} minutes: {', '.join(session.left_out)}; measure them with --only")
    for failure in session.failed:
        print(f"failed: {failure}")
    slow = least is not None and any(f.group == "throughput" and f.unit == "x" and f.value < least for f in session.figures)
    if session.failed or slow:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
