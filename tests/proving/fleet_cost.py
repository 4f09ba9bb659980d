"""What a call costs a gateway that shares its limits by a PostgreSQL, against one that keeps them alone.

    PYTHONPATH=tests:addons python -m proving.fleet_cost --rounds 8 --calls 1500

Both take turns on one machine, with every feature on. Processor time is the process's own, with all its threads, until a little
after the turn, so that the delivery of its records is in it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from proving import load
from proving.figures import Figure, middle
from proving.proxies import Proxies, ProxyProcess
from support import postgres

SETTLE_S = 1.2
"""After each turn, so that the cost of delivering its records is in it."""

REACH = 1.1


def metric(proxy: ProxyProcess, name: str) -> float:
    """Return one of the gateway's metrics."""
    assert proxy.gateway is not None
    found = re.search(rf"^sluicegate_fleet_{name}(?:_total)? (\S+)$", proxy.gateway.admin("/metrics").body.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def measure(proxies: Proxies, rounds: int, calls: int, progress: Callable[[str], None]) -> list[Figure]:
    """Let a gateway alone and one with a store take turns; each turn is so many calls of 20 KB on 16 connections."""
    if (why := postgres.missing()) is not None:
        progress(f"fleet: {why}")
        return []
    server = postgres.start_server(postgres.AS_SHIPPED)
    try:
        with server.database() as url:
            alone = proxies.governed("alone", "base")
            shared = proxies.governed("shared", "base", server={"store": url})
            try:
                return _figures(alone, shared, rounds, calls, progress)
            finally:
                # Before its store: it would wait for that.
                shared.gateway.stop()  # type: ignore[union-attr]
    finally:
        postgres.stop_server(server)


def _figures(alone: ProxyProcess, shared: ProxyProcess, rounds: int, calls: int, progress: Callable[[str], None]) -> list[Figure]:
    sent = load.request(load.body(20_000))
    cpu: dict[str, list[float]] = {alone.name: [], shared.name: []}
    messages = waits = made = 0.0
    for number in range(rounds + 1):
        progress(f"fleet: round {number} of {rounds}")
        for proxy in (alone, shared) if number % 2 else (shared, alone):
            before, told, waited = proxy.cpu(), metric(shared, "messages"), metric(shared, "waits")
            seen = asyncio.run(load.drive(proxy.routes["base"], sent, 16, 60, most=calls))
            if seen.errors:
                raise RuntimeError(f"{proxy.name}: {seen.errors[0]}")
            told_then, waited_then = metric(shared, "messages"), metric(shared, "waits")
            time.sleep(SETTLE_S)
            if number:
                cpu[proxy.name].append((proxy.cpu() - before) / seen.calls)
                if proxy is shared:
                    messages, waits, made = messages + told_then - told, waits + waited_then - waited, made + seen.calls
    ratio, spread = middle([s / a for s, a in zip(cpu[shared.name], cpu[alone.name], strict=True)])
    detail = {f"{name} cpu us": round(statistics.median(values) * 1e6) for name, values in cpu.items()}
    what = "CPU of a call, limits shared by PostgreSQL / alone: 20 KB, 16 connections"
    return [
        Figure("fleet", what, ratio, "x", spread, REACH, detail=detail),
        Figure("fleet", "messages to the store, by 1,000 calls", round(messages / made * 1000, 1), ""),
        Figure("fleet", "calls that waited for the store, by 1,000", round(waits / made * 1000, 2), ""),
    ]


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--calls", type=int, default=1500)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluicegate-cost-")))
        for figure in measure(Proxies(folder, stack), options.rounds, options.calls, lambda _: None):
            print(f"{figure.what}: {figure.value:g} {figure.unit} {figure.spread} {figure.detail or ''}")


if __name__ == "__main__":
    main()
