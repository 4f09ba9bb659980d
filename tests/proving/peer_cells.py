"""The bench's comparison with another gateway: the same calls through both in turns, as agents make them."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from proving import load, peers
from proving.agents import OTHER_EVENTS, body_like_agents, live_streams_carried
from proving.figures import Figure, middle, percentile
from proving.load import Route, Seen, require_no_errors
from proving.proxies import WORKERS, ProxyProcess

if TYPE_CHECKING:
    from proving.bench_parts import Run

OURS = "mitmdump -s"

SETTLE_S, WORKERS_SETTLE_S = 0.3, 0.6
"""What a subject does this long after its turn, such as writing records, is counted as its turn's. Workers gather theirs later."""

TURN_S = 0.5
"""The length of a turn, and so at most of what else the machine does between two that are compared."""

ROUNDS_WITHOUT_TARGET = 6
"""Of a load without a target, at most."""

MOST_CELL_S = 120
"""Seconds after which a peer's turn is given up."""

LIVE, LIVE_AT_LENGTH = (16, 200), (1, 16, 100, 200)
"""How many streams live at once: usually, and where all loads are asked for."""


CARRIED = (200, 300, 400)
"""Live streams that are tried for how many a process carries."""


@dataclass(frozen=True)
class Cell:
    """One load: the request's kilobytes, the events of the answer (none: a plain one), the pause between them, the connections."""

    kb: int
    events: int
    pause_ms: float | None
    """None where all events arrive in one write."""
    connections: int

    def __str__(self) -> str:
        answer = "plain"
        if self.events:
            answer = f"{self.events} events " + ("in one burst" if self.pause_ms is None else f"{self.pause_ms:g} ms apart")
        return f"{self.kb} KB, {answer}, {self.connections} connections"

    @property
    def query(self) -> str:
        """What the provider is told."""
        if not self.events:
            return ""
        return f"events={self.events - OTHER_EVENTS}&" + ("burst=1" if self.pause_ms is None else f"pause_ms={self.pause_ms:g}")

    def seconds(self, least: float) -> float:
        """Return how long a turn lasts: two answers at least."""
        return max(least, 2 * self.events * (self.pause_ms or 0) / 1000)


PLAIN = Cell(20, 0, None, 16)
BURST = Cell(20, 26, None, 16)
PACED = Cell(20, 26, 0.5, 16)
PACED_MANY = Cell(20, 26, 4, 64)
LARGE_BURST = Cell(150, 26, None, 16)
LARGE_PLAIN = Cell(1000, 0, None, 16)
LONG_BURST, LONG_PACED, LONG_PACED_MANY = Cell(20, 400, None, 16), Cell(20, 400, 0.5, 16), Cell(20, 400, 4, 64)
LARGE_LONG_BURST = Cell(150, 400, None, 16)

CELLS = (PLAIN, BURST, PACED, PACED_MANY, LARGE_BURST, LONG_BURST, LONG_PACED, LARGE_PLAIN)
CELLS_AT_LENGTH = (*CELLS, LONG_PACED_MANY, LARGE_LONG_BURST)
"""The loads of a usual run, and those with the ones that take long and say little that is new."""


@dataclass(frozen=True)
class Reach:
    """The targets of a cell: our calls a second as a multiple of the peer's, its CPU per call as a multiple of ours."""

    calls: float | None = None
    cpu: float | None = None


REACH: Mapping[str, Mapping[Cell, Reach]] = {
    "claude-gateway": {
        PLAIN: Reach(1.3),
        BURST: Reach(1.0, 1.2),
        PACED: Reach(1.3, 1.4),
        PACED_MANY: Reach(1.2, 1.4),
        LARGE_BURST: Reach(1.0),
    },
    "stock": {PLAIN: Reach(2.0), BURST: Reach(2.0), LARGE_PLAIN: Reach(1.0)},
    "litellm": {PLAIN: Reach(10.0)},
    "portkey": {PLAIN: Reach(1.2)},
}


WITH_WORKERS = "claude-gateway"
"""The peer that uses several cores, and so is compared with several workers of ours too."""


@dataclass(frozen=True)
class Turn:
    """What one subject did in one turn."""

    rate: float
    cpu_s: float
    """Per call, of all its processes."""
    first_s: float
    """The median of the waits for the first byte."""


def measure_peer(run: Run, name: str) -> None:
    """Measure a peer in all cells. What it cannot do is noted, and the rest goes on."""
    run.progress(f"{name}: starting")
    run.proxies.end_all()
    with peers.running(name, run.proxies) as peer:
        # As new as the peer: what other parts have left in its database is not measured.
        ours = run.proxies.fresh(OURS, f"next to {name}")
        run.versions |= peer.versions
        steps: dict[str, Callable[[], None]] = {str(cell): partial(compare, run, peer, ours, cell) for cell in cells_of(run, name)}
        if name != "stock":
            # Stock's are measured by parts of their own.
            steps["a lone stream"] = partial(lone_stream, run, peer, ours)
            steps["live streams"] = partial(live_streams, run, peer, ours)
        for what, step in steps.items():
            try:
                step()
            except (RuntimeError, TimeoutError) as e:
                run.notes.append(f"{name} {peer.versions[name]}, {what}: {e or 'it took too long'}")
        run.proxies.answer_every()


def cells_of(run: Run, name: str) -> tuple[Cell, ...]:
    """Return the loads on which a peer is measured: of stock only those with a target, as parts of their own have the others."""
    if run.size.quick:
        return (PLAIN, BURST)
    if run.size.at_length:
        return CELLS_AT_LENGTH
    return tuple(REACH[name]) if name == "stock" else CELLS


def request(subject: ProxyProcess, cell: Cell) -> bytes:
    """Return the bytes of a cell's call, with the credential that the subject asks for."""
    return load.request(body_like_agents(cell.kb * 1000, bool(cell.events)), credential=subject.credential)


def require_answer(run: Run, subject: ProxyProcess, cell: Cell) -> None:
    """Make one call of a cell. Raises RuntimeError with the answer's first line unless that is a 200."""
    run.proxies.answer_every(cell.query)
    seen = asyncio.run(within(load.drive(subject.routes["base"], request(subject, cell), 1, 5, most=1)))
    if not seen.calls or seen.errors:
        raise RuntimeError(f"answers {seen.errors[0].splitlines()[0] if seen.errors else 'nothing'}")


async def within[T](work: Awaitable[T]) -> T:
    """Return what some work returns. Raises TimeoutError if it takes too long."""
    async with asyncio.timeout(MOST_CELL_S):
        return await work


def turn(run: Run, subject: ProxyProcess, cell: Cell, seconds: float) -> Turn:
    """Let a subject have its turn."""
    before = subject.cpu()
    seen = asyncio.run(within(load.drive(subject.routes["base"], request(subject, cell), cell.connections, seconds)))
    require_no_errors(seen, subject.name)
    time.sleep(WORKERS_SETTLE_S if subject.name == WORKERS else SETTLE_S)
    return Turn(seen.rate, (subject.cpu() - before) / seen.calls, percentile(seen.first, 50))


def turns(run: Run, subjects: Mapping[str, ProxyProcess], cell: Cell, rounds: int, name: str) -> dict[str, list[Turn]]:
    """Let subjects take turns, in another order in each round; the first round warms up."""
    found: dict[str, list[Turn]] = {who: [] for who in subjects}
    orders = list(itertools.permutations(subjects))
    for number in range(rounds + 1):
        run.progress(f"{name}: {cell}: round {number} of {rounds}")
        for who in orders[number % len(orders)]:
            seen = turn(run, subjects[who], cell, cell.seconds(min(TURN_S, run.size.seconds)))
            if number:
                found[who].append(seen)
    return found


def compare(run: Run, peer: peers.Peer, ours: ProxyProcess, cell: Cell) -> None:
    """Measure one cell: our one process, the peer, and where there is a target for Anthropic's, two workers of ours."""
    name = peer.process.name if peer.process.name in REACH else "stock"
    require_answer(run, peer.process, cell)
    subjects = {OURS: ours, name: peer.process}
    rounds = run.size.peer_rounds
    if cell not in REACH[name]:
        rounds = min(rounds, ROUNDS_WITHOUT_TARGET)
    elif name == WITH_WORKERS and not run.size.quick:
        subjects[WORKERS] = run.proxies.proxy(WORKERS)
    found = turns(run, subjects, cell, rounds, name)
    reach = REACH[name].get(cell, Reach())
    calls = {f"{who} calls/s": round(statistics.median(t.rate for t in turns)) for who, turns in found.items()}
    waits = {f"{who} first byte ms": round(statistics.median(t.first_s for t in turns) * 1000, 1) for who, turns in found.items()}
    cpu = {f"{who} ms": round(statistics.median(t.cpu_s for t in turns) * 1000, 2) for who, turns in found.items()}
    for who, mine, reach_of in ((OURS, "ours", reach), (WORKERS, "two workers", Reach())):
        pairs = list(zip(found.get(who, ()), found[name], strict=False))
        if not pairs:
            continue
        median, spread = middle([own.rate / theirs.rate for own, theirs in pairs])
        detail = calls | waits if who == OURS else {}
        run.add(Figure("peers", calls_figure(mine, name, cell), median, "x", spread, reach_of.calls, True, detail))
        median, spread = middle([theirs.cpu_s / max(own.cpu_s, 1e-6) for own, theirs in pairs])
        run.add(Figure("peers", cpu_figure(mine, name, cell), median, "x", spread, reach_of.cpu, True, cpu if who == OURS else {}))


def calls_figure(mine: str, name: str, cell: Cell) -> str:
    """Return what the figure of calls a second is called; ``mine`` is "ours" or "two workers"."""
    return f"calls/s, {mine} / {name}: {cell}"


def cpu_figure(mine: str, name: str, cell: Cell) -> str:
    """Return what the figure of processor time is called."""
    return f"CPU per call, {name} / {mine}: {cell}"


def lone_stream(run: Run, peer: peers.Peer, ours: ProxyProcess) -> None:
    """Measure what each adds to the first byte of a stream that has it for itself."""
    require_answer(run, peer.process, BURST)
    direct = ProxyProcess("direct", 0, {"base": Route(run.proxies.plain_port)})
    waits: dict[str, list[float]] = {"direct": [], "ours": [], "theirs": []}
    for number in range(run.size.rounds):
        run.progress(f"{peer.process.name}: first byte of a lone stream, round {number + 1} of {run.size.rounds}")
        order = list(zip(waits, (direct, ours, peer.process), strict=True))
        for who, subject in order if number % 2 else reversed(order):
            sent = request(subject, BURST)
            seen = asyncio.run(within(load.drive(subject.routes["base"], sent, 1, 30, most=run.size.single_streams)))
            waits[who] += require_no_errors(seen, subject.name).first[5:]
    for q in (50, 99):
        at = {who: percentile(values, q) * 1000 for who, values in waits.items()}
        detail = {"theirs ms": round(at["theirs"] - at["direct"], 2), "direct ms": round(at["direct"], 2)}
        what = f"added first-byte time of a lone stream, p{q}, ours; {peer.process.name}'s as detail"
        run.add(Figure("peers", what, round(at["ours"] - at["direct"], 2), "ms", detail=detail))


def live_streams(run: Run, peer: peers.Peer, ours: ProxyProcess) -> None:
    """Measure first byte and gaps of live streams with a piece each 50 ms, the memory of both, and how many each carries."""
    name = peer.process.name
    subjects = {OURS: ours, name: peer.process}
    memory: dict[str, float] = {}
    require_answer(run, peer.process, BURST)
    run.proxies.answer_every("events=40&pause_ms=50")
    small = load.body(2_000, stream=True)
    sent = {who: load.request(small, credential=subject.credential) for who, subject in subjects.items()}
    for count in LIVE[:1] if run.size.quick else LIVE_AT_LENGTH if run.size.at_length else LIVE:
        found: dict[str, list[float]] = {f"{who} {what}": [] for who in subjects for what in ("first byte", "gap")}
        for number in range((rounds := min(3, run.size.stream_rounds)) + 1):
            run.progress(f"{name}: {count} live streams, round {number} of {rounds}")
            for who in subjects if number % 2 else reversed(list(subjects)):
                seen, memory[who] = asyncio.run(within(with_memory(subjects[who], count, sent[who])))
                require_no_errors(seen, who)
                for what, waits in (("first byte", seen.first), ("gap", seen.gaps)) if number else ():
                    found[f"{who} {what}"].append(percentile(waits, 99) * 1000)
        for what in ("first byte", "gap"):
            pairs = zip(found[f"{OURS} {what}"], found[f"{name} {what}"], strict=True)
            median, spread = middle([own / theirs for own, theirs in pairs])
            detail = {f"{who} ms": round(statistics.median(found[f"{who} {what}"]), 1) for who in subjects}
            run.add(Figure("peers", f"{what} p99, ours / {name}: {count} live streams", median, "x", spread, detail=detail))
    detail = {f"{who} MB": round(megabytes, 1) for who, megabytes in memory.items()}
    what = f"memory of all processes while {count} streams live, ours / {name}"
    run.add(Figure("peers", what, round(memory[OURS] / memory[name], 2), "x", detail=detail))
    if not run.size.quick:
        run.proxies.answer_every("events=60&pause_ms=50")
        for who, subject in subjects.items():
            carried, gaps = live_streams_carried(subject.routes["base"], sent[who], run.progress, CARRIED)
            what = f"live streams carried in turns with {name} (a piece each 50 ms, 99 % of gaps under 100 ms), {who}"
            run.add(Figure("peers", what, carried, "", "", None, True, gaps))


async def with_memory(subject: ProxyProcess, count: int, sent: bytes) -> tuple[Seen, float]:
    """Run live streams; return what they saw, and the subject's megabytes while all of them lived."""
    going = asyncio.ensure_future(load.streams(subject.routes["base"], count, sent))
    await asyncio.sleep(1.5)
    megabytes = subject.memory_of_tree()
    return await going, megabytes
