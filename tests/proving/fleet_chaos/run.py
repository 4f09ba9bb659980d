"""One run: a fleet that works while things break, that heals, spends what is left, and whose books are looked at."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from proving.fleet_chaos import invariants
from proving.fleet_chaos.clients import Attempt
from proving.fleet_chaos.events import Disturbances, Event, plan
from proving.fleet_chaos.network import Network
from proving.fleet_chaos.site import KEYS, WINDOW, Site, fresh_database, keep
from sluicegate.values import usd
from support.postgres import Postgres

QUIET_S = 60.0
"""How long a fleet that is left alone may take until everything is told and delivered."""

SPENT_BY = [key for key in KEYS if key not in ("vk-window", "vk-places")]
"""The keys by which the rest of every cap is spent: one whose window turns is never at its end."""

MAX_TRIES, RETRY_S = 5, 0.5
"""How often such a call is made again that got a 503, and after how long."""

SIZES = (8_000, 1_000, 0)
"""Output of the calls that spend the rest: smaller ones when larger ones do not fit."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a run is made."""

    seconds: float = 20.0
    streams: int = 40
    may_restart: bool = True
    """Whether the database is this run's own, and may be stopped."""


@dataclass(slots=True)
class Result:
    """What a run has come to."""

    seed: int
    events: list[Event] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    billed: int = 0
    interrupted: int = 0
    windows: dict[invariants.Key, invariants.Window] = field(default_factory=dict)
    least: float = 1.0
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0
    kept: Path | None = None


def run(seed: int, server: Postgres, shape: Shape, kept: Path, say: Callable[[str], None] = lambda _: None) -> Result:
    """Make one run. What a failing one has left is kept in a folder below ``kept``."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sluicegate-fleet-") as name, fresh_database(server) as database:
        folder = Path(name)
        network = Network(3)
        try:
            chance = random.Random(seed)
            site = Site(folder, network, server, database, chance, chance.choice((0.3, 1.0, 3.0)))
            result = Result(seed)
            asyncio.run(_live(site, result, plan(chance, shape.seconds, may_restart=shape.may_restart), shape, say))
        finally:
            network.close()
        if result.broken:
            result.kept = keep(folder, kept / f"seed-{seed}")
            _write_logs(site, result, result.kept)
    result.seconds = time.monotonic() - began
    return result


async def _live(site: Site, result: Result, events: list[Event], shape: Shape, say: Callable[[str], None]) -> None:
    disturbances = Disturbances(site)
    try:
        say("starting")
        await site.start()
        say("calling")
        callers = [asyncio.create_task(site.clients.run(i, KEYS)) for i in range(shape.streams)]
        playing = asyncio.create_task(disturbances.play(events))
        await asyncio.sleep(shape.seconds)
        await playing
        site.clients.is_over = True
        say("healing")
        await asyncio.gather(*callers)
        result.broken += await _at_rest(site)
        say("spending the rest")
        last = await asyncio.gather(*(_spend(site, key, random.Random(result.seed + i)) for i, key in enumerate(SPENT_BY)))
        result.broken += await _at_rest(site)
    finally:
        await site.close()
    say("checking")
    _look(site, result, last)
    result.events = disturbances.done


async def _at_rest(site: Site) -> list[str]:
    """Wait until the store has heard everything, and every node has every record; return what is wrong otherwise."""

    def open_ends() -> str:
        nodes = site.query(
            "SELECT name, calls, lag FROM fleet_nodes WHERE state <> 'live' OR calls <> 0 OR lag <> 0 OR "
            "seen_at + 5000 < (extract(epoch from statement_timestamp()) * 1000)::bigint"
        )
        held = site.query(
            "SELECT counter, node, held, provisional FROM fleet_positions WHERE (held <> 0 OR provisional <> 0) AND counter NOT LIKE %s",
            (f"%/{WINDOW}",),
        )
        holds = site.query("SELECT node, call_id FROM fleet_holds")
        (count,) = site.query("SELECT count(*) FROM records")[0]
        tables = {node.name: node.gateway.rows("SELECT count(*) AS n FROM calls")[0]["n"] for node in site.nodes}
        differ = {name: n for name, n in tables.items() if n != count}
        known = {session for (session,) in site.query("SELECT record->>'session_id' FROM records")}
        answered = {attempt.session for attempt in site.clients.attempts if attempt.status is not None}
        if missing := answered - known:
            # Written a moment after the answer.
            return f"the store lacks the records of {sorted(missing)[:5]}"
        found = [f"{what}: {rows[:5]}" for what, rows in (("nodes", nodes), ("held", held), ("holds", holds)) if rows]
        return "; ".join([*found, *([f"the store has {count} records, nodes {tables}"] if differ else [])])

    wrong = await site.until(lambda: not open_ends(), QUIET_S, open_ends)
    return [] if not wrong else [f"the fleet does not come to rest: {wrong}"]


async def _spend(site: Site, key: str, chance: random.Random) -> Attempt:
    """Spend what is left by one key, on one node and another; return the last call, which was refused."""
    sizes, tries = list(SIZES), MAX_TRIES
    while True:
        most = sizes[0]
        gateway = chance.randrange(len(site.nodes))
        attempt = await site.clients.call(key, gateway, tokens_in=0, tokens_out=most, most=max(1, most))
        if attempt.status == 200:
            continue
        if attempt.status == 503 and tries:
            # It is told to try again: on a busy machine a database may be locked for longer than a call waits.
            tries -= 1
            await asyncio.sleep(RETRY_S)
        elif len(sizes) == 1 or attempt.status not in (402, 429):
            return attempt
        else:
            del sizes[0]


def _look(site: Site, result: Result, last: list[Attempt]) -> None:
    """Look at the books."""
    tables = {node.name: invariants.read(node) for node in site.nodes}
    rows = {row["id"]: row for table in tables.values() for row in table}
    made = invariants.books_of(list(rows.values()), site.provider.bill)
    result.broken += invariants.check(site, made, tables)
    result.broken += [f"the database of {node.name} is damaged" for node in site.nodes if not invariants.is_sound(node)]
    wrong, result.least = invariants.spent_the_rest(last, made)
    result.broken += wrong
    result.outcomes, result.windows, result.calls = site.clients.outcomes, made.windows, len(rows)
    result.billed = sum(entry.cost_nano for entries in site.provider.bill.values() for entry in entries if entry.status < 400)
    result.interrupted = sum(row["outcome"] == "interrupted" for row in rows.values())


def _write_logs(site: Site, result: Result, folder: Path) -> None:
    for node in site.nodes:
        (folder / f"{node.name}.log").write_text("\n".join(node.lines))
    (folder / "broken").write_text("\n".join(result.broken))
    (folder / "events").write_text("\n".join(map(str, result.events)))
    (folder / "attempts.json").write_text(json.dumps([asdict(attempt) for attempt in site.clients.attempts], indent=0))
    bill = {s: [(e.cost_nano, e.status, e.whole) for e in entries] for s, entries in site.provider.bill.items()}
    (folder / "bill.json").write_text(json.dumps(bill, indent=0))


def lines_of(result: Result) -> list[tuple[str, str]]:
    """Return the result for people: what, and how it was."""
    happened = Counter(event.kind for event in result.events)
    lines = [
        ("events", ", ".join(f"{n}x {kind}" for kind, n in happened.most_common())),
        ("clients saw", ", ".join(f"{n}x {what}" for what, n in result.outcomes.most_common(9))),
        ("records", f"{result.calls}, {result.interrupted} interrupted; the provider billed {usd(result.billed)} $"),
    ]
    for (kind, scope, unit, period, _), window in sorted(result.windows.items(), key=str):
        if period == "1M":
            part = window.used / window.maximum if window.maximum else 0.0
            used, maximum = (usd(window.used), usd(window.maximum)) if unit == "usd" else (str(window.used), str(window.maximum))
            lines.append((f"{kind} {scope}, {window.enforcement} {unit}", f"{used} of at most {maximum} ({part:.1%})"))
    lines.append(("promises", "; ".join(result.broken[:4]) + f" ({len(result.broken)} in all)" if result.broken else "all kept"))
    return lines
