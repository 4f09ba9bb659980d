"""The pages that show what the bench has found: their tables and sentences, made of ``bench/results.json`` between markers.

    PYTHONPATH=tests:addons python -m proving.performance_page

writes them anew, as ``scripts/bench --write-docs`` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from proving import peers, performance_chart, results
from proving.bench_parts import PARTS
from proving.figures import Figure
from proving.peer_cells import CELLS_AT_LENGTH, LIVE_AT_LENGTH, OURS, REACH, WITH_WORKERS, Cell, calls_figure, cpu_figure
from proving.performance_answer import NONE, ahead, answer, figure, peer_part
from proving.performance_words import (
    THEIRS,
    date,
    milliseconds,
    number,
    one_of,
    ratio,
    reached,
    sentence_of,
    table,
    target,
)
from proving.proxies import STREAMING, WORKERS
from proving.results import Part, Results

DOCS = results.PUBLISHED.parents[1] / "docs"
PAGES = (DOCS / "performance.md", DOCS / "comparison.md")
PICTURE = DOCS / "performance.svg"

MARKED = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- end of bench -->)", re.DOTALL)
"""What is made of the results, and which section of them it is."""


def against_stock(found: Results) -> str:
    """Return the ratios to stock mitmdump."""
    rows = []
    for f in found.get("throughput", NONE).figures:
        who, found_one, what = f.what.partition(": ")
        if not found_one or f.unit != "x" or who.startswith("serve"):
            continue
        stock = who.partition(" / ")[2]
        times = [milliseconds(f.detail.get(f"{name} cpu us")) for name in (OURS, stock)]
        rows.append([one_of(what.replace(", base URL", "")), *times, number(f.detail.get("cpu_ratio")), f"{ratio(f)}{reached(f)}"])
    for f in found.get("agents", NONE).figures:
        if f.what.startswith("CPU per call"):
            what = f.what.partition(": ")[2]
            rate = found["agents"].figure(f.what.replace("CPU per call", "calls per second"))
            times = [milliseconds(str(f.detail[name]).removesuffix(" us")) for name in (OURS, STREAMING)]
            rows.append([one_of(what.replace("an agent's ", "")) + ", one by one", *times, number(f.value), ratio(rate)])
    return table(["load", "ms of processor time a call", "stock", "ours / stock", "calls a second, ours / stock"], rows)


OTHERS: dict[str, str] = {
    "hooks": "",
    "kept_answers": "kept answers: ",
    "first_byte": "",
    "relayed": "",
    "many_streams": "",
    "fleet": "",
    "stream_memory": "",
    "memory": "memory: ",
    "start": "",
}
"""The parts whose figures are shown one a line, and what stands before each."""


def other_figures(found: Results) -> str:
    """Return all other figures, one a line, and of the queries the slowest."""
    rows = []
    for name, before in OTHERS.items():
        for f in found.get(name, NONE).figures:
            if f.what.startswith("messages to the store"):
                continue
            what = (before + f.what).replace(OURS, "sluicegate")
            rows.append([what, f"{number(f.value)} {f.unit}", f.spread, target(f) + reached(f)])
    asked = sorted((f for f in found.get("queries", NONE).figures if f.reach is not None), key=lambda f: -f.value)
    for f in asked[:1]:
        value = f"{number(f.value)} ms; of half of them up to {number(asked[len(asked) // 2].value)} ms"
        rows.append([f"the slowest of {len(asked)} queries: {f.what}", value, "", target(f) + reached(f)])
    return table(["figure", "value", "quartiles", "target"], rows)


def where(found: Results) -> str:
    """Return by whose code a call's bytecodes are run, and what of the hooks' time each addon takes."""
    shown = found.get("bytecodes", NONE).figures
    columns = {f.what.removeprefix("bytecodes of a call, "): _of_the_core_in_one(f.detail) for f in shown}
    rows = [["all", *(number(f.value) for f in shown)]]
    rows += [[words, *(number(c[name]) if name in c else "" for c in columns.values())] for name, words in WHOSE.items()]
    text = table(["bytecodes of a call", *columns], rows) if shown else ""
    hooks = figure(found, "hooks", "CPU in all our hooks, 20 KB")
    if hooks:
        addons = [f"`{name}` {number(round(us))}" for name, us in hooks.detail.items() if us >= 5]
        text += f"\nOf the hooks' {number(hooks.value)} us at 20 KB: {', '.join(addons)}, all others less than 5.\n"
    return text


WHOSE = {
    "core": "sluicegate's core, `sluicegate/`",
    "runtime": "its way through mitmproxy, `runtime/`",
    "addons": "its addons",
    "mitmproxy": "mitmproxy",
    "asyncio": "asyncio",
    "h11": "h11",
    "other": "the rest",
}


def _of_the_core_in_one(detail: Mapping[str, float]) -> dict[str, float]:
    """Return the bytecodes by whose code it is, all packages of the core as one."""
    found: dict[str, float] = {}
    for name, count in detail.items():
        whose = name.partition(":")[0]
        found[whose] = found.get(whose, 0) + count
    return found


def with_anthropic(found: Results) -> str:
    """Return the comparison with Anthropic's gateway, load by load."""
    part = peer_part(found, WITH_WORKERS)
    if not part.figures:
        return "Not measured.\n"
    tables = []
    for name, unit, title, own_first in (
        (cpu_figure, "ms", "processor time of a call, ms", False),
        (calls_figure, "calls/s", "calls a second", True),
    ):
        of = "{} / theirs" if own_first else "theirs / {}"
        head = [title, "one process", "two workers", "theirs", of.format("one process"), "target", of.format("two workers")]
        tables.append(table(head, [_row(part, cell, name, unit) for cell in _cells(part, WITH_WORKERS)]))
    said = ahead(found)
    return said[0].upper() + said[1:] + "\n\n" + "\n".join(tables) + "\n" + _live(part) + measured_line(part)


def _cells(part: Part, name: str) -> list[Cell]:
    cells = [*REACH[name], *(cell for cell in CELLS_AT_LENGTH if cell not in REACH[name])]
    return [cell for cell in cells if part.figure(calls_figure("ours", name, cell))]


def _row(part: Part, cell: Cell, name: Callable[[str, str, Cell], str], unit: str) -> list[str]:
    one, two = (part.figure(name(mine, WITH_WORKERS, cell)) for mine in ("ours", "two workers"))
    detail = one.detail if one else {}
    shown = "{:.2f}" if unit == "ms" else "{:,.0f}"
    keys = [f"{who} {unit}" for who in (OURS, WORKERS, WITH_WORKERS)]
    values = [shown.format(detail[key]) if key in detail else "" for key in keys]
    return [sentence_of(cell), *values, ratio(one), f"{target(one)}{reached(one)}" if one else "", ratio(two)]


def aim(f: Figure | None) -> str:
    """Return a figure's target in a cell of the table."""
    return "" if f is None or f.reach is None else f"; target {number(f.reach)}{reached(f)}"


def _live(part: Part) -> str:
    rows = []
    for count in LIVE_AT_LENGTH:
        two = [part.figure(f"{what} p99, ours / {WITH_WORKERS}: {count} live streams") for what in ("first byte", "gap")]
        if any(two):
            rows.append([str(count), *(cell for f in two for cell in _ms_and_ratio(f))])
    text = ""
    if rows:
        head = [
            "live streams, a piece each 50 ms",
            "first byte, 99th percentile: ours / theirs",
            "gap, 99th percentile: ours / theirs",
        ]
        text = table(head, rows) + "\nHere less is in sluicegate's favour. "
    lone = [part.figure(f"added first-byte time of a lone stream, p{q}, ours; {WITH_WORKERS}'s as detail") for q in (50, 99)]
    if lone[0] and lone[1]:
        first, last = (f"{f.value:.2f} ms (theirs {f.detail['theirs ms']:.2f})" for f in lone if f)
        text += f"To the first byte of a lone stream sluicegate adds {first} at the median, {last} at the 99th percentile. "
    memory = next((f for f in part.figures if f.what.startswith("memory of all processes")), None)
    if memory:
        ours, theirs = memory.detail[f"{OURS} MB"], memory.detail[f"{WITH_WORKERS} MB"]
        streams = re.search(r"\d+", memory.what)
        text += f"All its processes take {ours:.0f} MB while {streams[0] if streams else ''} streams live, theirs {theirs:.0f}. "
    carried = [(f.what.rpartition(", ")[2], f.value) for f in part.figures if f.what.startswith("live streams carried")]
    if carried:
        text += "Carried live streams: " + ", ".join(f"{THEIRS.get(who, who)} {number(count)}" for who, count in carried) + ". "
    return text.strip() + "\n\n" if text else ""


def _ms_and_ratio(f: Figure | None) -> list[str]:
    if f is None:
        return ["", ""]
    return [" / ".join(f"{ms:.0f}" for name, ms in f.detail.items() if name.endswith(" ms")), ratio(f)]


def other_peers(found: Results) -> str:
    """Return the comparison with all other peers."""
    rows = []
    for name in peers.NAMES:
        part = peer_part(found, name)
        for cell in _cells(part, name) if name != WITH_WORKERS else ():
            calls, cpu = (part.figure(of("ours", name, cell)) for of in (calls_figure, cpu_figure))
            rows.append([THEIRS[name], sentence_of(cell), f"{ratio(calls)}{aim(calls)}", ratio(cpu)])
    lines = [f"- {note}" for name in peers.NAMES for note in peer_part(found, name).notes if name != WITH_WORKERS]
    notes = "\n\nWhat could not be measured:\n\n" + "\n".join(lines) if lines else ""
    return table(["", "load", "calls a second, ours / theirs", "processor time, theirs / ours"], rows).rstrip() + notes + "\n"


def measured_line(part: Part) -> str:
    """Return when and on what a part was measured, as a sentence."""
    return f"Measured on {described(part)}.\n" if part.measured else ""


def described(part: Part) -> str:
    """Return when and on what a part was measured."""
    m = part.measured
    python = m["python"]
    load = f", load {m['load_before']:g} before and {m['load_after']:g} after" if m.get("load_before") is not None else ""
    versions = ", ".join(f"{THEIRS.get(name, name)} {version}" for name, version in m["versions"].items() if name != "stock")
    built = f"Python {python['version']}, {python['built']}"
    loop = f" (fixed loop {python['loop_ms']:.0f} ms)" if python.get("loop_ms") else ""
    form = "" if m["form"] == "full" else f", {m['form']} form"
    rounds = f"; {m['rounds']} rounds" if m.get("rounds") else ""
    return f"{date(m['at'])}{form}: {m['cores']} cores of {m['processor']}{load}; {built}{loop}; {versions}{rounds}"


def measured(found: Results) -> str:
    """Return a line for each day and machine on which parts were measured, the latest first."""
    groups: dict[tuple[str, str], list[str]] = {}
    loads: dict[tuple[str, str], list[float]] = {}
    for name in (*PARTS, *map(peers.part, peers.NAMES)):
        if (part := found.get(name)) is None:
            continue
        m = part.measured
        of = m["at"][:10], described(Part(m | {"load_before": None, "rounds": None}))
        groups.setdefault(of, []).append(name.removeprefix(peers.part("")))
        loads.setdefault(of, []).extend(m[at] for at in ("load_before", "load_after") if m.get(at) is not None)
    rows = [[of[1], _range(loads[of]), ", ".join(f"`{n}`" for n in groups[of])] for of in sorted(groups, reverse=True)]
    return table(["measured on", "load", "parts"], rows)


def _range(values: list[float]) -> str:
    low, high = min(values, default=0.0), max(values, default=0.0)
    return "unknown" if not values else f"{low:g}" if low == high else f"{low:g} to {high:g}"


def speed(found: Results) -> str:
    """Return the short comparison for the page that compares gateways."""
    part = peer_part(found, WITH_WORKERS)
    rows = []
    for cell in REACH[WITH_WORKERS]:
        calls, cpu = (part.figure(of("ours", WITH_WORKERS, cell)) for of in (calls_figure, cpu_figure))
        two = part.figure(calls_figure("two workers", WITH_WORKERS, cell))
        if calls and cpu:
            rows.append([sentence_of(cell), "Anthropic's (its CPU with PostgreSQL's)", ratio(calls), ratio(two), ratio(cpu)])
    for name in ("litellm", "portkey"):
        for cell in list(REACH[name]):
            calls, cpu = (peer_part(found, name).figure(of("ours", name, cell)) for of in (calls_figure, cpu_figure))
            if calls and cpu:
                rows.append([sentence_of(cell), THEIRS[name], ratio(calls), "", ratio(cpu)])
    head = ["load", "against", "calls a second, sluicegate / other", "with two workers", "CPU per call, other / sluicegate"]
    return table(head, rows) + f"\nAgainst Anthropic's gateway: {ahead(found)}\n"


SECTIONS: dict[str, Callable[[Results], str]] = {
    "answer": answer,
    "stock": against_stock,
    "others": other_figures,
    "where": where,
    "anthropic": with_anthropic,
    "peers": other_peers,
    "measured": measured,
    "speed": speed,
}


def page(text: str, found: Results) -> str:
    """Return a page with its marked sections made anew. Raises KeyError for a section that there is not."""
    return MARKED.sub(lambda m: m[1] + "\n" + SECTIONS[m[2]](found) + "\n" + m[3], text)


def write(source: Path = results.PUBLISHED) -> list[str]:
    """Write pages and picture anew; return the names of those that have changed."""
    found = results.load(source)
    made = {path: page(path.read_text(), found) for path in PAGES} | {PICTURE: performance_chart.drawing(found)}
    changed = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    for path in changed:
        path.write_text(made[path])
    return [str(path.relative_to(DOCS.parent)) for path in changed]


if __name__ == "__main__":
    print("\n".join(write()))
