"""What several workers carry: calls a second by 1, 2 and 4 of them, each limited to a part of a core by a control group.

    PYTHONPATH=tests:addons python -m proving.worker_load --share 0.25 --seconds 10 --rounds 3

Needs root and control groups of version 1 (``/sys/fs/cgroup/cpu``). The limit makes cores that do not exist: where four workers
have a quarter of one each, whoever calls and answers has the rest. Workers and clients go before other work of the machine, so
what is measured is what the limit allows. Two processors that share one core are slower while both are busy, and with more
workers they are: with ``--spinning 1`` a process spins meanwhile, and one worker has no more of a core to itself than four.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proving.load import KEY, Route, body, drive, request
from proving.proxies import upstream

GROUPS = Path("/sys/fs/cgroup/cpu")
PERIOD_US = 20_000
CONNECTIONS_PER_WORKER = 24
TICK = os.sysconf("SC_CLK_TCK")


@contextmanager
def limited(pids: list[int], share: float) -> Iterator[None]:
    """Give each process so much of a core at most, and that before others get theirs."""
    groups = []
    try:
        for pid in pids:
            group = GROUPS / f"sluicegate-{pid}"
            group.mkdir()
            groups.append(group)
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(int(PERIOD_US * share)))
            (group / "cgroup.procs").write_text(str(pid))
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(thread.name), -20)
        yield
    finally:
        for group in groups:
            for left in (group / "cgroup.procs").read_text().split():
                (GROUPS / "cgroup.procs").write_text(left)
            group.rmdir()


def children(pid: int) -> list[int]:
    """Return the processes that one has started."""
    return [int(p) for t in Path(f"/proc/{pid}/task").iterdir() for p in (t / "children").read_text().split()]


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


@contextmanager
def gateway(workers: int, provider: int) -> Iterator[tuple[int, list[int]]]:
    """Run a gateway; provide its port, and the processes that serve."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        providers = {"anthropic": {"base_url": f"http://127.0.0.1:{provider}", "keys": [{"name": "k", "value": "env.PROVING_KEY"}]}}
        limits = {"budget": {"max_limit": 1e6, "reset_duration": "1M"}}
        limits |= {"rate_limit": {"request_max_limit": 10_000_000, "request_reset_duration": "1h"}}
        (folder / "policy.yaml").write_text(
            json.dumps({"version": 1, "providers": providers, "virtual_keys": [{"id": KEY, **limits}]})
        )
        command = [sys.executable, "-m", "sluicegate.cli", "serve", "-q", "--listen-port", "0", "--workers", str(workers)]
        command += ["--policy", str(folder / "policy.yaml"), "--state-dir", str(folder / "state")]
        process = subprocess.Popen(
            command, env=os.environ | {"PROVING_KEY": "sk-proving"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        port, said = 0, ""
        for line in process.stdout:
            said += line
            if "listens on" in line:
                port = int(line.strip().rpartition(":")[2])
            if (workers == 1 and port and "API_KEY" in line) or "workers serve" in line:
                break
        else:
            raise SystemExit(said)
        try:
            yield port, children(process.pid) if workers > 1 else [process.pid]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """Keep so many processors busy with nothing, after all who have work to do."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        for process in processes:
            os.setpriority(os.PRIO_PROCESS, process.pid, 0)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.25, help="of a core, for each worker")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spinning", type=int, default=0, help="processes that only keep a processor busy")
    options = parser.parse_args()
    os.setpriority(os.PRIO_PROCESS, 0, -15)
    sent = request(body(20_000))
    found: dict[int, list[tuple[float, float]]] = {count: [] for count in options.workers}
    with upstream() as provider, spinning(options.spinning):
        for _ in range(options.rounds):
            for count in options.workers:
                with gateway(count, provider) as (port, pids), limited(pids, options.share):
                    route, connections = Route(port), CONNECTIONS_PER_WORKER * count
                    asyncio.run(drive(route, sent, connections, options.seconds / 4))
                    before, began = sum(map(cpu_s, pids)), time.monotonic()
                    seen = asyncio.run(drive(route, sent, connections, options.seconds))
                    used, took = sum(map(cpu_s, pids)) - before, time.monotonic() - began
                    if seen.errors:
                        raise SystemExit(f"{len(seen.errors)} calls failed, the first: {seen.errors[0]}")
                    found[count].append((seen.rate, used / seen.calls))
                    print(
                        f"{count} workers: {seen.rate:.1f} calls/s, {1000 * used / seen.calls:.2f} ms of a processor a call, "
                        f"{used / took / count:.3f} cores each",
                        flush=True,
                    )
    first = statistics.median(rate for rate, _ in found[options.workers[0]]) / options.workers[0]
    print(f"load of the machine: {os.getloadavg()}")
    for count, measured in found.items():
        rate = statistics.median(rate for rate, _ in measured)
        cost = statistics.median(cost for _, cost in measured)
        print(f"{count} workers: {rate:.1f} calls/s, {rate / first / count:.1%} of {count} times one, {1000 * cost:.2f} ms a call")


if __name__ == "__main__":
    main()
