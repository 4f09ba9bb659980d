"""Parts of the bench that look like coding agents: their requests, their long answers, and many of them at once."""

from __future__ import annotations

import asyncio
import functools
import json
import random
import statistics
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from proving import load
from proving.figures import Figure, middle, percentile
from proving.proxies import STREAMING
from support.agent_prompts import TOOL_NAMES, Claude, prose, tool

if TYPE_CHECKING:
    from proving.bench_parts import Run

EVENTS = (26, 400)
CONNECTIONS = (1, 16, 100)

OTHER_EVENTS = 5
"""Events of an answer that are not pieces of its text."""

WARM_UP_STREAMS = 5

LIVE_TRIED = (200, 300, 400, 500, 600)
"""How many live streams are tried, until one number is too many."""

MOST_GAP_MS = 100.0
"""The gap at the 99th percentile up to which a stream is in time."""


@functools.cache
def agent_body() -> bytes:
    """Return a request of an agent at work: a system prompt, 12 tools, and messages of 20 turns."""
    conversation = Claude(1)
    for _ in range(20):
        conversation.turn()
    return json.dumps(conversation.body(), separators=(",", ":")).encode()


@functools.cache
def body_like_agents(size: int, stream: bool) -> bytes:
    """Return a request of about ``size`` bytes in the form of an agent's: a system prompt, 12 tools, many messages."""
    chance = random.Random(size)
    some = size // 100
    tools = [tool(chance, name, size=some * 2) for name in TOOL_NAMES[:12]]
    system = [{"type": "text", "text": prose(chance, min(14_000, some * 15)), "cache_control": {"type": "ephemeral"}}]
    conversation = Claude(size)
    conversation.messages = [{"role": "user", "content": [conversation.text(some)]}]
    head = {"model": conversation.model, "stream": stream, "max_tokens": 128_000, "system": system, "tools": tools}

    def written() -> bytes:
        return json.dumps(head | {"messages": conversation.messages}, separators=(",", ":")).encode()

    while len(content := written()) < size - some * 4:
        conversation.turn(size=some * 3)
    return content


def measure_agents(run: Run) -> None:
    """Measure calls a second and CPU a call, governed against stock, each event of an answer written by itself."""
    content = agent_body()
    ours = "mitmdump -s"
    for events in EVENTS[:1] if run.size.quick else EVENTS:
        for connections in CONNECTIONS[1:2] if run.size.quick else CONNECTIONS:
            what = f"an agent's {len(content) // 1000} KB, {events} events, {connections} streams"
            run.progress(what)
            sent = load.request(content, f"/v1/messages?events={events - OTHER_EVENTS}&pause_ms=0")
            found = run.turns([STREAMING, ours], "base", sent, connections, run.size.stream_rounds)
            pairs = list(zip(found[ours], found[STREAMING], strict=True))
            for unit, at in (("calls per second", 0), ("CPU per call", 1)):
                median, spread = middle([own[at] / max(stock[at], 1e-6) for own, stock in pairs])
                shown = {n: [v[at] for v in values] for n, values in found.items()}
                detail = {
                    n: round(statistics.median(v)) if at == 0 else f"{statistics.median(v) * 1e6:.0f} us" for n, v in shown.items()
                }
                run.add(Figure("streams", f"{unit}, {ours} / {STREAMING}: {what}", median, "x", spread, detail=detail))


def measure_stream_memory(run: Run) -> None:
    """Measure what a live stream takes of memory: resident bytes while many live, less those before, in fresh processes."""
    count = run.size.streams[0]
    for name in (STREAMING, "mitmdump -s"):
        run.progress(f"memory of {count} live streams: {name}")
        proxy = run.proxies.fresh(name, "memory of streams")

        async def sample() -> tuple[float, float]:
            await load.streams(proxy.routes["base"], WARM_UP_STREAMS, load.paced(3, 50))  # noqa: B023 called before the next turn
            before = proxy.memory()  # noqa: B023
            # They begin within a second, and go on for another one.
            going = asyncio.ensure_future(load.streams(proxy.routes["base"], count, load.paced(40, 50)))  # noqa: B023
            await asyncio.sleep(1.5)
            live = proxy.memory()  # noqa: B023
            seen = await going
            if seen.errors:
                raise RuntimeError(f"{len(seen.errors)} of {count} streams failed: {seen.errors[:1]}")
            return before, live

        before, live = asyncio.run(sample())
        reach = None if name == STREAMING or run.size.quick else 64.0
        detail = {"MB before": round(before, 1), "MB while they live": round(live, 1)}
        kb = round((live - before) * 1024 / count, 1)
        run.add(Figure("streams", f"memory per live stream, {count} of them, {name}", kb, "KB", "", reach, detail=detail))


def live_streams_carried(
    route: load.Route, sent: bytes, progress: Callable[[str], None], counts: Iterable[int] = LIVE_TRIED
) -> tuple[int, dict[str, float | None]]:
    """Return how many live streams are carried with 99 % of the gaps under 100 ms, and the gaps by the streams tried.

    ``sent`` asks for a stream with a piece each 50 ms. What is too late is tried once more: something else may have run.
    """
    carried = 0
    gaps: dict[str, float | None] = {}
    for count in counts:
        late = float("inf")
        for attempt in (1, 2):
            progress(f"capacity: {count} live streams, attempt {attempt}")
            seen = asyncio.run(load.streams(route, count, sent))
            if seen.gaps and not seen.errors:
                late = min(late, percentile(seen.gaps, 99) * 1000)
            if late <= MOST_GAP_MS:
                break
        gaps[f"{count} streams, gap p99 ms"] = round(late, 1) if late != float("inf") else None
        if late > MOST_GAP_MS:
            break
        carried = count
    return carried, gaps
