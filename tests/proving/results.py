"""The results of the bench as a file: each part with its figures, when and on what it was measured; a run renews only its parts."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from proving.figures import Figure

PUBLISHED = Path(__file__).resolve().parents[2] / "bench/results.json"
"""What ``docs/performance.md`` is made of."""

SHORTER = Path("build/bench.json")
"""Where a quick run's results go, so that they never take the place of published ones."""

LOOP = 300_000


@dataclass
class Part:
    """What one part of the bench has found."""

    measured: dict[str, Any]
    """When and on what, see ``measured_on``."""
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be measured, and why."""

    def figure(self, what: str) -> Figure | None:
        """Return a figure by what it is called."""
        return next((f for f in self.figures if f.what == what), None)


Results = dict[str, Part]
"""Parts by their names."""


def load(path: Path) -> Results:
    """Return the results in a file, or none if there is no such file. Raises ValueError if it holds something else."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
        return {name: _part(part) for name, part in content["parts"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise ValueError(f"{path} holds no results of this bench ({e!r}): name another file with --output, or delete it") from e


def _part(content: dict[str, Any]) -> Part:
    known = {f.name for f in fields(Figure)}
    figures = [Figure(**{name: value for name, value in f.items() if name in known}) for f in content["figures"]]
    return Part(dict(content["measured"]), figures, list(content["notes"]))


def merged(old: Results, new: Results) -> Results:
    """Return the results with those parts renewed that were measured again; the others keep their figures and their dates."""
    return old | new


def save(path: Path, results: Results, order: tuple[str, ...] = ()) -> None:
    """Write the results at once or not at all, parts in this order first."""
    names = [*(name for name in order if name in results), *(name for name in results if name not in order)]
    parts = {}
    for name in names:
        part = results[name]
        figures = [asdict(f) | {"verdict": f.verdict} for f in part.figures]
        parts[name] = {"measured": part.measured, "notes": part.notes, "figures": figures}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
        file.write(json.dumps({"parts": parts}, indent=1) + "\n")
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def measured_on(
    form: str, rounds: int, began: float, load_before: float, versions: Mapping[str, str], now: float | None = None
) -> dict[str, Any]:
    """Return when and on what a part was measured, ``began`` being its start. Load is that of the last minute."""
    found: dict[str, Any] = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began))}
    found |= {"seconds": round((time.time() if now is None else now) - began), "form": form, "rounds": rounds}
    found |= {"cores": len(os.sched_getaffinity(0)), "processor": processor()}
    found |= {"load_before": round(load_before, 1), "load_after": round(os.getloadavg()[0], 1)}
    found |= {"python": interpreter(), "versions": {"mitmproxy": importlib.metadata.version("mitmproxy")} | dict(versions)}
    return found


@cache
def interpreter() -> dict[str, Any]:
    """Return the interpreter's version, how it was built, and the milliseconds that it takes for a fixed loop."""
    return {"version": platform.python_version(), "built": how_built(), "loop_ms": round(loop_ms(), 1)}


def how_built(arguments: str | None = None, prefix: str = sys.base_prefix) -> str:
    """Return how an interpreter was built, by its arguments of ``configure``.

    Debian optimizes its packages by a profile without saying so there.
    """
    told = arguments if arguments is not None else str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    if "--enable-optimizations" in told:
        return "optimized (PGO, LTO)" if "--with-lto" in told else "optimized (PGO)"
    return "as the distribution builds it" if prefix == "/usr" else "not optimized"


def loop_ms() -> float:
    """Return the processor time of a fixed loop in milliseconds, the least of three: the speed of this interpreter here."""

    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self, number: int) -> int:
            self.count += number
            return self.count

    def loop() -> float:
        counter, seen = Counter(), {}
        began = time.thread_time()
        for number in range(LOOP):
            seen[number & 255] = counter.add(number)
        return time.thread_time() - began

    return min(loop() for _ in range(3)) * 1000


@cache
def processor() -> str:
    """Return the processor's name."""
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()
