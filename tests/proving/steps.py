"""A part of the bench that no neighbour on the machine disturbs: the bytecodes that a call runs, by whose code it is."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from proving import bytecodes, load
from proving.agents import body_like_agents
from proving.figures import Figure
from proving.load import require_no_errors
from proving.proxies import STREAMING, ProxyProcess
from support.harness import ADDONS, eventually

if TYPE_CHECKING:
    from proving.bench_parts import Run

LOADS: dict[str, tuple[int, str]] = {
    "20 KB, plain": (20_000, ""),
    "20 KB, 26 events in one burst": (20_000, "events=21&burst=1"),
}
"""By name, the request's bytes and what the provider is told."""

PACKAGES = ("mitmproxy", "asyncio", "h11", "ssl", "selectors")

CORE = ADDONS / "sluicegate"


def whose(filename: str) -> str:
    """Return whose code a file is: a package of the core, our layers around mitmproxy, our addons, a library."""
    path = Path(filename)
    if path.is_relative_to(CORE):
        return f"core: {path.relative_to(CORE).parts[0].removesuffix('.py')}"
    if path.is_relative_to(ADDONS / "runtime"):
        return "runtime"
    if path.is_relative_to(ADDONS):
        return "addons"
    found = next((name for name in PACKAGES if name in path.parts or path.name == f"{name}.py"), None)
    return "asyncio" if found == "selectors" else found or "other"


def measure(run: Run) -> None:
    """Count for each load, one call after the other on one connection, of the gateway and of stock mitmdump that streams."""
    script = Path(bytecodes.__file__)
    ours = run.proxies.governed("bytecodes", "base", script)
    assert ours.gateway is not None
    folders = {"sluicegate": (ours, ours.gateway.confdir)}
    if not run.size.quick:
        stock = run.proxies.stock(STREAMING, "base", "bytecodes", script)
        folders["stock"] = stock, run.proxies.stock_folder(STREAMING, "base", "bytecodes")
    for who, (proxy, folder) in folders.items():
        for name, (size, query) in list(LOADS.items())[: 1 if run.size.quick else None]:
            run.progress(f"bytecodes: {name}: {who}")
            run.proxies.answer_every(query)
            counted = count(proxy, folder, size, is_stream=bool(query))
            total = sum(counted.values())
            detail = {where: round(n) for where, n in counted.most_common() if n >= total / 100}
            run.add(Figure("bytecodes", f"bytecodes of a call, {who}: {name}", round(total), "", detail=detail))
    run.proxies.answer_every()


def count(proxy: ProxyProcess, folder: Path, size: int, *, is_stream: bool) -> Counter[str]:
    """Make as many calls as the script wants, and return what it has counted, by whose code it is."""
    file = folder / bytecodes.FILENAME
    file.unlink(missing_ok=True)
    sent = load.request(body_like_agents(size, is_stream))
    # One more than it counts, as a call ends it.
    calls = bytecodes.WARM_UP + bytecodes.CALLS + 1
    require_no_errors(asyncio.run(load.drive(proxy.routes["base"], sent, 1, 120, most=calls)), proxy.name)
    eventually(file.exists)
    counted: Counter[str] = Counter()
    for filename, _, instructions in json.loads(file.read_text()):
        counted[whose(filename)] += instructions
    return counted
