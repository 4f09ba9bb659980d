"""What the bench has found, in a few lines: the first that a page says."""

from __future__ import annotations

from proving import peers
from proving.figures import Figure
from proving.peer_cells import OURS, REACH, WITH_WORKERS, calls_figure, cpu_figure
from proving.performance_words import THEIRS, later, number, sentence_of
from proving.proxies import WORKERS
from proving.results import Part, Results

NONE = Part({})


def peer_part(found: Results, name: str) -> Part:
    """Return what was measured of a peer."""
    return found.get(peers.part(name), NONE)


def figure(found: Results, part: str, what: str) -> Figure | None:
    """Return a figure of a part whose name begins so."""
    return next((f for f in found.get(part, NONE).figures if f.what.startswith(what)), None)


def answer(found: Results) -> str:
    """Return what an operator asks first: the time of a call, what one process carries, what it adds, and how it compares."""
    lines = [_time_of_a_call(found), _calls_a_second(found), _live_streams(found), _delay(found), _memory(found)]
    lines += [_anthropic(found), _targets(found)]
    return "\n".join(f"- {line}" for line in lines if line) + "\n"


def _time_of_a_call(found: Results) -> str:
    part = peer_part(found, WITH_WORKERS)
    shown = []
    for cell in REACH[WITH_WORKERS]:
        one = part.figure(cpu_figure("ours", WITH_WORKERS, cell))
        if one and f"{OURS} ms" in one.detail:
            shown.append(f"{one.detail[f'{OURS} ms']:.2f} ms ({sentence_of(cell)})")
    text = f"**Processor time of a call**: {', '.join(shown)}." if shown else ""
    if hooks := figure(found, "hooks", "CPU in all our hooks, 20 KB"):
        text += f" Of a plain call of 20 KB all hooks, which govern it, took {hooks.value / 1000:.2f} ms."
    stock = figure(found, "throughput", "mitmdump -s / stock: 20 KB, plain, 16 connections, base URL")
    if stock and "cpu_ratio" in stock.detail:
        text += f" It takes {number(stock.detail['cpu_ratio'])} times what it takes through mitmdump that only passes it on."
    return text


def _calls_a_second(found: Results) -> str:
    part = peer_part(found, WITH_WORKERS)
    shown = []
    for cell in list(REACH[WITH_WORKERS])[:2]:
        one = part.figure(calls_figure("ours", WITH_WORKERS, cell))
        if one is None or f"{OURS} calls/s" not in one.detail:
            continue
        two = one.detail.get(f"{WORKERS} calls/s")
        more = f", two workers {number(two)}" if two else ""
        shown.append(f"{number(one.detail[f'{OURS} calls/s'])} ({sentence_of(cell)}{more})")
    cores = f", on {part.measured['cores']} cores that it shares with clients and provider" if "cores" in part.measured else ""
    return f"**Calls a second**: one process carries {', '.join(shown)}{cores}." if shown else ""


def _live_streams(found: Results) -> str:
    one = figure(found, "capacity", "live streams carried")
    if one is None:
        return ""
    most = [int(what.split()[0]) for what in one.detail]
    beyond = "; more were not tried" if most and max(most) == one.value else ""
    return (
        f"**Live streams**: one process carries {number(one.value)} with a piece each 50 ms, 99 % of the gaps under 100 ms{beyond}."
    )


def _delay(found: Results) -> str:
    half, most = (figure(found, "first_byte", f"added first-byte time, p{q}") for q in (50, 99))
    if half is None or most is None:
        return ""
    lone = figure(found, peers.part(WITH_WORKERS), "added first-byte time of a lone stream, p50")
    text = f"**Delay**: the first byte of a lone stream comes {later(half.value)} at the median and {later(most.value)} at the 99th percentile "
    text += "than through mitmdump that only passes it on"
    return text + (f", and {later(lone.value)} than without a gateway, at the median." if lone else ".")


def _memory(found: Results) -> str:
    part = found.get("memory", NONE)
    one = next((f for f in part.figures if f.what.startswith("growth from call") and "HTTP/2" not in f.what), None)
    if one is None:
        return ""
    (_, start), *_, (after, end) = one.detail.items()
    text = f"**Memory**: {start:.0f} MB at the start, {end:.0f} MB after {number(int(after.split()[-1]))} calls"
    stream = next((f for f in found.get("stream_memory", NONE).figures if f.what.endswith(f", {OURS}")), None)
    return text + (f"; {stream.value:.0f} KB for each live stream." if stream else ".")


def _anthropic(found: Results) -> str:
    return f"**[Against Anthropic's gateway](#compared-with-anthropics-gateway-and-others)**: {ahead(found)}"


def ahead(found: Results) -> str:
    """Return in words on which of the loads with a target Anthropic's gateway is ahead."""
    part = peer_part(found, WITH_WORKERS)
    said = []
    for name, what in ((calls_figure, "carries more calls a second"), (cpu_figure, "takes less processor time for a call")):
        shown = [(cell, f) for cell in REACH[WITH_WORKERS] if (f := part.figure(name("ours", WITH_WORKERS, cell)))]
        theirs = [sentence_of(cell) for cell, f in shown if f.value < 1]
        if not shown:
            continue
        if len(theirs) == len(shown):
            said.append(f"theirs {what} on each of these {len(shown)} loads")
        elif theirs:
            said.append(f"theirs {what} on {len(theirs)} of {len(shown)} loads ({', '.join(theirs)})")
        else:
            said.append(f"theirs {what} on none of these {len(shown)} loads")
    two = [f for cell in REACH[WITH_WORKERS] if (f := part.figure(calls_figure("two workers", WITH_WORKERS, cell)))]
    if two:
        said.append(f"against two workers of sluicegate theirs carries more calls on {sum(f.value < 1 for f in two)} of {len(two)}")
    return "; ".join(said) + "." if said else "not measured."


def targets(found: Results) -> dict[str, list[Figure]]:
    """Return the figures that have a target, by the part that measured them; of the queries the slowest."""
    with_target = {name: [f for f in part.figures if f.reach is not None] for name, part in found.items()}
    if "queries" in with_target:
        with_target["queries"] = sorted(with_target["queries"], key=lambda f: -f.value)[:1]
    return {name: figures for name, figures in with_target.items() if figures}


def _targets(found: Results) -> str:
    with_target = targets(found)
    count = sum(map(len, with_target.values()))
    missed = {name: sum(f.verdict == "NOT reached" for f in figures) for name, figures in with_target.items()}
    said = [f"{n} of {len(with_target[name])} {_against(name)}" for name, n in missed.items() if n]
    text = f"**Targets**: {count - sum(missed.values())} of {count} are reached"
    return f"{text}. Missed are {', '.join(said)}; the tables mark them." if said else f"{text}."


def _against(part: str) -> str:
    name = part.removeprefix(peers.part(""))
    return f"of `{part}`" if name == part else f"against {THEIRS[name]}"
