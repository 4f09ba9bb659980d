"""The parts of the bench: what the gateway costs, against stock mitmdump passing through, in turns, as ratios.

Absolute figures on shared machines vary by half; the ratio of two runs next to each other does not. So every comparison
is repeated in alternating order, and the report shows the median of the rounds' ratios with its quartiles.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from proving import agents, fleet_cost, history, load, steps
from proving.figures import Figure, middle, percentile
from proving.load import Route, require_no_errors
from proving.proxies import RELAYED_MODEL, ROUTES, STREAMING, Proxies, seconds_to_start
from support import postgres

KB = 1000

MOST_HTTP2_SECONDS = 30
"""Seconds after which a subject makes no more calls on its one HTTP/2 connection, and its growth is that so far."""


@dataclass(frozen=True)
class Size:
    """The amount of work: the long form for publication, a quick one to notice a regression, a smoke run to see all parts work."""

    rounds: int
    seconds: float
    hook_calls: int
    stream_rounds: int
    memory: tuple[int, int]
    h2_memory: tuple[int, int]
    rows: int
    query_runs: int
    streams: tuple[int, int]
    """How many live at once, and the chunks of each."""
    single_streams: int
    starts: int
    peer_rounds: int
    quick: bool
    at_length: bool = False
    """Whether loads of the peers are measured that a usual run leaves out."""


FULL = Size(8, 0.7, 1500, 4, (10_000, 40_000), (1_000, 5_000), 1_000_000, 20, (200, 60), 60, 5, 8, quick=False)
QUICK = Size(3, 0.5, 200, 1, (1_000, 3_000), (500, 1_500), 50_000, 10, (50, 20), 30, 2, 3, quick=True)
SMOKE = Size(1, 0.15, 10, 1, (20, 40), (10, 20), 1_000, 2, (5, 3), 8, 1, 1, quick=True)


class Run:
    """One run of the bench: the subjects, and the figures of its present part."""

    def __init__(self, proxies: Proxies, size: Size, progress: Callable[[str], None]) -> None:
        self.proxies, self.size, self.progress = proxies, size, progress
        self.figures: list[Figure] = []
        self.notes: list[str] = []
        """What could not be measured, and why."""
        self.versions: dict[str, str] = {}
        """Of the programs that the part compares with."""

    def begin(self) -> None:
        """Begin another part."""
        self.figures, self.notes, self.versions = [], [], {}

    def add(self, *figures: Figure) -> None:
        self.figures += figures

    # -- throughput ---------------------------------------------------------------------------------------------------

    def turns(
        self, names: Iterable[str], route: str, sent: bytes, connections: int, rounds: int | None = None
    ) -> dict[str, list[tuple[float, float]]]:
        """Return calls a second and CPU seconds a call, by subject and round. Order alternates; the first round warms up."""
        proxies = [self.proxies.proxy(n, route) for n in names]
        found: dict[str, list[tuple[float, float]]] = {s.name: [] for s in proxies}
        for number in range((rounds or self.size.rounds) + 1):
            for proxy in proxies if number % 2 else reversed(proxies):
                before = proxy.cpu()
                seen = asyncio.run(load.drive(proxy.routes[route], sent, connections, self.size.seconds))
                require_no_errors(seen, proxy.name)
                if number:
                    found[proxy.name].append((seen.rate, (proxy.cpu() - before) / seen.calls))
        return found

    def throughput(self) -> None:
        """Measure calls a second, governed against stock."""
        cells = [
            ("base", 20 * KB, False, 16, 2.0),
            ("proxy", 20 * KB, False, 16, 1.25),
            ("base", 20 * KB, True, 16, 2.0),
            ("base", 150 * KB, False, 16, None),
            ("base", 1000 * KB, False, 16, 1.0),
            ("proxy", 150 * KB, True, 16, None),
        ]
        for number, (route, size, stream, connections, reach) in enumerate(cells[:2] if self.size.quick else cells):
            where = "base URL" if route == "base" else "HTTPS_PROXY with TLS"
            what = f"{size // KB} KB, {'streamed' if stream else 'plain'}, {connections} connections, {where}"
            stock = STREAMING if stream else "stock"
            # The same gateway without mitmdump's own command: once, as it makes no difference.
            names = [stock, "mitmdump -s", *(["serve"] if number == 0 and not self.size.quick else [])]
            self.progress(f"throughput: {what}")
            found = self.turns(names, route, load.request(load.body(size, stream)), connections)
            for name in names[1:]:
                rates = [g[0] / s[0] for g, s in zip(found[name], found[stock], strict=True)]
                cpu = [g[1] / s[1] for g, s in zip(found[name], found[stock], strict=True)]
                detail = {
                    "cpu_ratio": round(statistics.median(cpu), 3),
                    **{f"{n} calls/s": round(statistics.median(r for r, _ in v)) for n, v in found.items()},
                    **{f"{n} cpu us": round(statistics.median(c for _, c in v) * 1e6) for n, v in found.items()},
                }
                median, spread = middle(rates)
                self.add(Figure("throughput", f"{name} / {stock}: {what}", median, "x", spread, reach, True, detail))
        sent = load.request(load.body(20 * KB))
        own = require_no_errors(asyncio.run(load.drive(Route(self.proxies.plain_port), sent, 16, self.size.seconds)), "upstream")
        self.add(Figure("throughput", "the fake upstream itself, 20 KB, 16 connections", round(own.rate), "calls/s"))

    # -- our own code -------------------------------------------------------------------------------------------------

    def hooks(self) -> None:
        """Measure CPU time inside our hooks, per call and addon, without the clock's own."""
        proxy = self.proxies.governed("hooks", "base", Path(__file__).with_name("cputime.py"))
        for size, reach in ((20 * KB, 200), (150 * KB, 300), (1000 * KB, 1200)):
            self.progress(f"hooks: {size // KB} KB")
            sent = load.request(load.body(size))
            calls = max(min(100, self.size.hook_calls), self.size.hook_calls // (1 + size // (200 * KB))) // self.size.rounds
            per: dict[str, list[float]] = {}
            for number in range(self.size.rounds + 1):
                before = proxy.hooks()
                seen = require_no_errors(asyncio.run(load.drive(proxy.routes["base"], sent, 16, 60, most=calls)), proxy.name)
                for addon, (s, _) in proxy.hooks().items() if number else ():
                    per.setdefault(addon, []).append((s - before.get(addon, (0.0, 0.0))[0]) / seen.calls * 1e6)
            median, spread = middle([sum(one) for one in zip(*per.values(), strict=True)], digits=0)
            addons = {a: round(statistics.median(us), 1) for a, us in per.items()}
            shown = dict(sorted(((a, us) for a, us in addons.items() if us >= 0.5), key=lambda kv: -kv[1]))
            self.add(Figure("hooks", f"CPU in all our hooks, {size // KB} KB", median, "us", spread, reach, detail=shown))

    def bytecodes(self) -> None:
        """Count the bytecodes of a call in the event loop's thread, by whose code it is: the same on any machine."""
        steps.measure(self)

    def kept_answers(self) -> None:
        """Measure CPU time in our hooks where answers are kept: of a call that gets one, and what looking adds to one that does not."""
        self.progress("kept answers")
        scripts = [Path(__file__).with_name(name) for name in ("cputime.py", "yardstick.py")]
        proxy = self.proxies.governed("kept", "base", *scripts, cache={"exact": {"enabled": True}})
        content = load.body(150 * KB)
        numbers = itertools.count(1000)
        others = (load.request(content.replace(b'"max_tokens":2048', b'"max_tokens":%d' % number)) for number in numbers)
        calls = max(10, self.size.hook_calls // self.size.rounds)
        figures: dict[str, list[float]] = {"hit": [], "of it in the cache": [], "miss": [], "sha256": []}
        for number in range(self.size.rounds + 1):
            for what, sent in (("miss", others), ("hit", load.request(content))):
                before = proxy.hooks()
                # One at a time: identical calls at once would wait for each other.
                seen = require_no_errors(asyncio.run(load.drive(proxy.routes["base"], sent, 1, 60, most=calls)), proxy.name)
                spent = {a: (s - before.get(a, (0.0, 0.0))[0]) / seen.calls * 1e6 for a, (s, _) in proxy.hooks().items()}
                if number and what == "miss":
                    figures["miss"].append(spent["cache"])
                    figures["sha256"].append(spent["yardstick"])
                elif number:
                    figures["hit"].append(sum(spent.values()) - spent["yardstick"])
                    figures["of it in the cache"].append(spent["cache"])
        hashed = statistics.median(figures["sha256"])
        median, spread = middle(figures["miss"], digits=0)
        ratio = statistics.median(m / h for m, h in zip(figures["miss"], figures["sha256"], strict=True))
        detail = {"SHA-256 of the body": round(hashed, 1), "ratio": round(ratio, 2)}
        self.add(Figure("hooks", "a miss costs more, body of 150 KB, CPU", median, "us", spread, 40, detail=detail))
        median, spread = middle(figures["hit"], digits=0)
        detail = {"of it in the cache": round(statistics.median(figures["of it in the cache"]), 1)}
        self.add(
            Figure("hooks", "a hit is answered in, body of 150 KB, CPU in all our hooks", median, "us", spread, 1000, detail=detail)
        )

    # -- streams ------------------------------------------------------------------------------------------------------

    def first_byte(self) -> None:
        """Measure how much longer one stream at a time waits for its first byte."""
        self.progress("first byte, one stream at a time")
        sent = load.request(load.body(20 * KB, stream=True))
        waits: dict[str, list[float]] = {STREAMING: [], "mitmdump -s": []}
        for number in range(self.size.rounds * 2):
            for name in waits if number % 2 else reversed(list(waits)):
                route = self.proxies.proxy(name).routes["base"]
                seen = require_no_errors(asyncio.run(load.drive(route, sent, 1, 30, most=self.size.single_streams)), name)
                waits[name] += seen.first[5:]
        for q, reach in ((50, 1.0), (99, 5.0)):
            stock, ours = (percentile(waits[n], q) * 1000 for n in waits)
            detail = {"stock ms": round(stock, 2), "governed ms": round(ours, 2)}
            self.add(Figure("streams", f"added first-byte time, p{q}", round(ours - stock, 2), "ms", "", reach, detail=detail))

    def relayed(self) -> None:
        """Measure what a call costs more that may need another attempt: time to its first byte, and CPU."""
        proxy = self.proxies.governed("relayed", "base", routes=ROUTES)
        content = load.body(20 * KB, stream=True)
        sent = {"direct": content, "relayed": content.replace(b"claude-opus-5-5", RELAYED_MODEL.encode())}
        waits: dict[str, list[float]] = {name: [] for name in sent}
        cpu: dict[str, list[float]] = {name: [] for name in sent}
        for number in range(self.size.rounds * 2 + 1):
            self.progress(f"relayed calls, round {number} of {self.size.rounds * 2}")
            for name in sent if number % 2 else reversed(list(sent)):
                before, request = proxy.cpu(), load.request(sent[name])
                one = asyncio.run(load.drive(proxy.routes["base"], request, 1, 30, most=self.size.single_streams))
                many = asyncio.run(load.drive(proxy.routes["base"], request, 16, 30, most=min(500, self.size.hook_calls)))
                calls = require_no_errors(one, name).calls + require_no_errors(many, name).calls
                if number:
                    waits[name] += one.first[1:]
                    cpu[name].append((proxy.cpu() - before) / calls * 1e6)
        direct, longer = (percentile(waits[name], 50) * 1000 for name in sent)
        detail = {"direct ms": round(direct, 2), "relayed ms": round(longer, 2)}
        self.add(
            Figure(
                "relayed", "added first-byte time of a relayed call, p50", round(longer - direct, 2), "ms", "", 3.0, detail=detail
            )
        )
        median, spread = middle([r / max(d, 1.0) for r, d in zip(cpu["relayed"], cpu["direct"], strict=True)])
        detail = {f"{name} us": round(statistics.median(values)) for name, values in cpu.items()}
        self.add(Figure("relayed", "CPU per call, relayed / direct, 20 KB, streamed", median, "x", spread, detail=detail))

    def many_streams(self) -> None:
        """Measure 200 live streams, a chunk each 50 ms, with an occasional request of 1 MB."""
        count, events = self.size.streams
        large_request = load.request(load.body(1000 * KB))
        ratios: dict[str, list[float]] = {"first byte": [], "chunk gap": []}
        last: dict[str, dict[str, float]] = {}
        for number in range(self.size.stream_rounds + 1):
            order = [STREAMING, "mitmdump -s"]
            for name in order if number % 2 else reversed(order):
                self.progress(f"{count} live streams, round {number} of {self.size.stream_rounds}: {name}")
                seen = require_no_errors(
                    asyncio.run(
                        load.streams(self.proxies.proxy(name).routes["base"], count, load.paced(events, 50), large_request)
                    ),
                    name,
                )
                last[name] = {"first byte": percentile(seen.first, 99), "chunk gap": percentile(seen.gaps, 99)}
            if number:
                for what, values in ratios.items():
                    values.append(last["mitmdump -s"][what] / last[STREAMING][what])
        for what, values in ratios.items():
            median, spread = middle(values)
            detail = {f"{n} ms, last round": round(v[what] * 1000, 1) for n, v in last.items()}
            self.add(
                Figure("streams", f"{what} p99 with {count} live streams / {STREAMING}", median, "x", spread, 1.0, detail=detail)
            )

    def agents(self) -> None:
        """Measure calls as agents make them."""
        agents.measure_agents(self)

    def stream_memory(self) -> None:
        """Measure the memory of live streams."""
        agents.measure_stream_memory(self)

    def capacity(self) -> None:
        """Measure how many live streams one process carries before chunks come late."""
        if self.size.quick:
            return
        route = self.proxies.proxy("mitmdump -s").routes["base"]
        carried, gaps = agents.live_streams_carried(route, load.paced(60, 50), self.progress)
        self.add(
            Figure(
                "streams",
                "live streams carried (a chunk each 50 ms, 99 % of gaps under 100 ms)",
                carried,
                "",
                "",
                400,
                atleast=True,
                detail=gaps,
            )
        )

    def fleet(self) -> None:
        """Measure what a call costs more where limits are shared by a PostgreSQL."""
        if self.size.quick:
            return
        figures = fleet_cost.measure(self.proxies, self.size.rounds, 800, self.progress)
        if not figures:
            self.notes.append(f"fleet: {postgres.missing()}")
            return
        self.versions["PostgreSQL"] = postgres.server_version()
        self.add(*figures)

    # -- memory, start, queries ---------------------------------------------------------------------------------------

    def memory(self) -> None:
        """Measure resident memory after many calls, and on one long HTTP/2 connection."""
        few, many = self.size.memory
        proxy = self.proxies.governed("memory", "base")
        sent = load.request(load.body(20 * KB))
        sizes = {"start": round(proxy.memory(), 1)}
        done = 0
        while done < many:
            most = (few if done < few else many) - done
            self.progress(f"memory: {done} of {many} calls")
            done += require_no_errors(asyncio.run(load.drive(proxy.routes["base"], sent, 16, 20, most=most)), "memory").calls
            if done >= few and "few" not in sizes:
                sizes["few"] = round(proxy.memory(), 1)
        grown = proxy.memory() / sizes["few"] * 100 - 100
        detail = {"MB at start": sizes["start"], f"MB after {few}": sizes["few"], f"MB after {many}": round(proxy.memory(), 1)}
        self.add(Figure("memory", f"growth from call {few} to {many}", round(grown, 1), "%", "", 5.0, detail=detail))
        few, many = self.size.h2_memory
        for name in ("mitmdump -s",) if self.size.quick else ("stock", "mitmdump -s"):
            self.http2_memory(name, few, many)

    def http2_memory(self, name: str, few: int, many: int) -> None:
        proxy = self.proxies.proxy(name, "proxy")
        route = proxy.routes["proxy"]
        assert route.tls is not None
        route.tls.set_alpn_protocols(["h2"])
        found: dict[str, Any] = {}
        last, content = few, load.body(2 * KB)

        async def run() -> None:
            nonlocal last
            began = first = time.perf_counter()
            async with asyncio.timeout(2 * MOST_HTTP2_SECONDS), contextlib.aclosing(load.over_http2(route, content, many)) as calls:
                async for done in calls:
                    if done % 500 == 0:
                        self.progress(f"memory: {done} of {many} calls on one HTTP/2 connection, {name}")
                    # Stock keeps all its calls so far and searches them at each one: that many take longer than anybody waits.
                    is_over = done > few and time.perf_counter() - first >= MOST_HTTP2_SECONDS
                    if done in (few, many) or is_over:
                        last = done
                        found[f"MB after {done}"] = round(proxy.memory(), 1)
                        found[f"calls/s until {done}"] = round((done - (0 if done == few else few)) / (time.perf_counter() - began))
                        began = time.perf_counter()
                    if is_over:
                        return

        try:
            asyncio.run(run())
        except TimeoutError:
            self.progress(f"no figure of {name} on one HTTP/2 connection: no end in {2 * MOST_HTTP2_SECONDS} s")
            return
        grown = found[f"MB after {last}"] / found[f"MB after {few}"] * 100 - 100
        what = f"growth from call {few} to {last} on one HTTP/2 connection, {name}"
        self.add(Figure("memory", what, round(grown, 1), "%", "", None if name == "stock" else 5.0, detail=found))

    def start(self) -> None:
        """Measure the time from the command to listening."""
        self.progress("start-up")
        times = [seconds_to_start(self.proxies.folder / f"start-{i}", self.proxies.forked) for i in range(self.size.starts)]
        self.add(Figure("start", "from the command to listening", round(statistics.median(times), 2), "s"))

    def queries(self) -> None:
        """Measure common queries on a full database."""
        self.progress(f"queries: writing {self.size.rows:,} calls")
        for what, ms, detail in history.time_questions(self.proxies.folder / "history", self.size.rows, self.size.query_runs):
            self.progress(f"queries: {what}")
            reach = None if "once" in what else 100.0
            self.add(Figure("queries", f"p95 of {what}, {self.size.rows:,} calls", round(ms, 2), "ms", "", reach, detail=detail))


class Spec(NamedTuple):
    """A part as it may be asked for: what measures it, the seconds of a full run on an idle machine, and what it is."""

    measure: Callable[[Run], None]
    seconds: int
    help: str


PARTS: dict[str, Spec] = {
    "throughput": Spec(Run.throughput, 110, "calls a second and CPU per call, against stock mitmdump"),
    "hooks": Spec(Run.hooks, 15, "CPU in all our hooks, by addon"),
    "bytecodes": Spec(Run.bytecodes, 15, "bytecodes that a call runs, by whose code it is; the same on a busy machine"),
    "kept_answers": Spec(Run.kept_answers, 15, "CPU in our hooks where answers are kept"),
    "first_byte": Spec(Run.first_byte, 10, "what is added to the first byte of a lone stream"),
    "relayed": Spec(Run.relayed, 35, "what a call costs more that may be tried again"),
    "agents": Spec(Run.agents, 65, "calls as agents make them, answers of 26 and 400 events"),
    "many_streams": Spec(Run.many_streams, 45, "first bytes and gaps of 200 live streams"),
    "stream_memory": Spec(Run.stream_memory, 15, "memory of a live stream"),
    "capacity": Spec(Run.capacity, 30, "how many live streams one process carries"),
    "fleet": Spec(Run.fleet, 50, "what a call costs more where limits are shared by a PostgreSQL"),
    "memory": Spec(Run.memory, 110, "growth over 40,000 calls, and on one HTTP/2 connection"),
    "start": Spec(Run.start, 10, "from the command to listening"),
    "queries": Spec(Run.queries, 105, "usage and logs on 1,000,000 calls"),
}
"""In the order in which they are measured."""
