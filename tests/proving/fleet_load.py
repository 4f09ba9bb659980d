"""What messages to the fleet store cost, and what one PostgreSQL carries: many nodes, and thousands of keys.

    PYTHONPATH=tests:addons python -m proving.fleet_load --nodes 50 --keys 10000 --messages 2000

The server is one of the tests' own: its settings are PostgreSQL's, but for ``fsync``, which is on here. Times by the clock are of
this machine and whatever else it does; processor time is counted for the server's processes and for this one apart.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from sluicegate.fleet.store.postgresql import PostgresStore
from sluicegate.fleet.store.protocol import NodeReport, Position
from sluicegate.fleet.store.sql_store import SqlStore
from sluicegate.fleet.store.sqlite import SqliteStore
from support import postgres

WINDOW_END = 4_000_000_000_000
HUGE = 10**15
PER_MESSAGE = (1, 5, 20)
TICKS = 5
"""Messages that a busy node sends in a second at most."""


class Sender:
    """A node that only sends messages."""

    def __init__(self, store: SqlStore, number: int) -> None:
        self.store, self.id = store, f"node-{number}"
        self.number = 0
        self.spent: dict[str, int] = {}
        self.epoch = store.join(NodeReport(self.id, self.id, 0, 0)).epoch

    def send(self, counters: list[str], *, want: int = 10) -> None:
        """Report these counters, and ask for room on each."""
        self.number += 1
        positions = []
        for counter in sorted(counters):
            self.spent[counter] = self.spent.get(counter, 0) + want
            positions.append(Position(counter, "usd", 0, WINDOW_END, HUGE, False, self.spent[counter], 0, 0, want, 0, want * 4))
        self.store.sync(NodeReport(self.id, self.id, self.epoch, self.number), positions)


def server_cpu(folder: Path | None) -> float:
    """Return the processor seconds that the server's processes have used so far, those that have ended included."""
    if folder is None:
        return 0.0
    parent = int((folder / "data/postmaster.pid").read_text().split()[0])
    total = 0
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else []
        except OSError:
            continue
        if fields and (int(entry.name) == parent or int(fields[1]) == parent):
            total += sum(map(int, fields[11:15] if int(entry.name) == parent else fields[11:13]))
    return total / os.sysconf("SC_CLK_TCK")


def measure(title: str, count: int, folder: Path | None, send: Callable[[int], None]) -> None:
    """Send messages one after another and print what one costs."""
    took: list[float] = []
    cpu, ours = server_cpu(folder), time.process_time()
    for i in range(count):
        began = time.perf_counter()
        send(i)
        took.append(time.perf_counter() - began)
    ours, cpu = time.process_time() - ours, server_cpu(folder) - cpu
    p95 = sorted(took)[int(len(took) * 0.95)]
    print(
        f"{title}: {statistics.median(took) * 1000:.2f} ms at the median, {p95 * 1000:.2f} at the 95th percentile; "
        f"processor time {ours / count * 1000:.2f} ms here, {cpu / count * 1000:.2f} ms in the server",
        flush=True,
    )


def by_size(name: str, store: SqlStore, folder: Path | None, count: int) -> None:
    """Measure messages of one node by the number of their positions."""
    sender = Sender(store, 0)
    for size in PER_MESSAGE:
        counters = [f"size-{size}/{i}" for i in range(size)]
        sender.send(counters)
        measure(f"{name}, {size} positions", count, folder, lambda _, counters=counters: sender.send(counters))  # type: ignore[misc]


def fleet(url: str, folder: Path, nodes: int, keys: int, messages: int, threads: int) -> None:
    """Measure what many nodes cost, each message naming a company, a team and three limits of a key."""
    chosen = random.Random(1)
    senders = [Sender(connected(url), i) for i in range(nodes)]
    for i in range(0, keys, 200):
        senders[i // 200 % nodes].send([f"key-{k}/usd" for k in range(i, min(i + 200, keys))])

    def send(i: int) -> None:
        key, team = chosen.randrange(keys), chosen.randrange(20)
        senders[i % nodes].send(["company", f"team-{team}", f"key-{key}/usd", f"key-{key}/requests", f"key-{key}/tokens"])

    measure(f"{nodes} nodes in turn, {keys} keys", messages, folder, send)
    began, cpu = time.perf_counter(), server_cpu(folder)

    def send_share(first: int) -> None:
        for number in range(first, messages, threads):
            send(number)

    workers = [threading.Thread(target=send_share, args=(first,)) for first in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took, cpu = time.perf_counter() - began, server_cpu(folder) - cpu
    print(
        f"{threads} of them at once, all behind one limit of the company: {messages / took:.0f} messages a second, "
        f"{cpu / messages * 1000:.2f} ms in the server each; {nodes} busy nodes send at most {nodes * TICKS}"
    )
    for sender in senders:
        sender.store.close()


def connected(url: str) -> SqlStore:
    """Return a store on a connection of its own."""
    return PostgresStore(lambda: psycopg.connect(url, autocommit=True))


def main() -> None:
    """Measure both engines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--messages", type=int, default=2_000)
    parser.add_argument("--threads", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "fleet.db", lambda: round(time.time() * 1000))
        by_size("SQLite", store, None, options.messages // 5)
        store.close()
    if (why := postgres.missing()) is not None:
        print(why)
        return
    server = postgres.start_server(postgres.AS_SHIPPED)
    try:
        with server.database() as url:
            one = connected(url)
            by_size("PostgreSQL", one, server.folder, options.messages // 5)
            one.close()
            # Senders take turns in few threads, so no two use one connection at the same time.
            threads = max(t for t in range(1, options.threads + 1) if options.nodes % t == 0)
            fleet(url, server.folder, options.nodes, options.keys, options.messages, threads)
    finally:
        postgres.stop_server(server)


if __name__ == "__main__":
    main()
