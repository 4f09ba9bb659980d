"""A database with a history, and how long people's questions to it take."""

from __future__ import annotations

import random
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import policy_text
from sluicegate.ledger import Ledger
from sluicegate.loader import load
from sluicegate.records import COLUMNS, usd
from sluicegate.store import FILENAME, Store
from sluicegate.usage import usage_rows
from sluicegate.windows import iso

DAY = 86_400_000
KEYS = 200
DAYS = 90


def rows(count: int, now: int) -> Iterator[tuple[Any, ...]]:
    """Calls of a company of 200 keys, over the last 90 days, in order of time."""
    chance = random.Random(7)
    for number in range(count):
        at = now - DAYS * DAY + number * DAYS * DAY // count
        key, cost = "vk-7" if chance.random() < 0.2 else f"vk-{chance.randrange(KEYS)}", chance.randrange(2_000_000, 90_000_000)
        call: dict[str, Any] = {"id": f"call_{at:012x}{number:016x}", "started_at": iso(at), "latency_ms": chance.randrange(9000)}
        call |= {
            "virtual_key_id": key,
            "team_id": f"team-{hash(key) % 12}",
            "customer_id": "customer-acme",
            "provider": "anthropic",
        }
        call |= {"model_requested": "claude-opus-5-5", "model_served": "claude-opus-5-5", "stream": 1, "status": 200}
        call |= {"outcome": "completed", "input_tokens": 9000, "output_tokens": 300, "cache_read_tokens": 60_000}
        call |= {"cost_usd": usd(cost), "cost_nano": cost, "estimated": 0, "request_bytes": 140_000, "response_bytes": 9000}
        yield tuple(call.get(name) for name in COLUMNS)


def timed(folder: Path, count: int) -> dict[str, float]:
    """Milliseconds, by question; the median of several asks."""
    folder.mkdir()
    policy_file = folder / "policy.yaml"
    keys = [{"id": f"vk-{i}", "budget": {"max_limit": 50, "reset_duration": "1M"}} for i in range(KEYS)]
    policy_file.write_text(policy_text(users=[], virtual_keys=keys))
    now = time.time_ns() // 1_000_000
    policy, ledger = load(policy_file, env={}, now=now), Ledger()
    store = Store(folder / FILENAME)
    conn = sqlite3.connect(folder / FILENAME, isolation_level=None)
    conn.execute("PRAGMA synchronous=OFF")
    conn.execute("BEGIN")
    marks = ",".join("?" * len(COLUMNS))
    conn.executemany(f"INSERT INTO calls ({','.join(COLUMNS)}) VALUES ({marks})", rows(count, now))
    conn.execute("COMMIT")
    for limit in policy.all_limits():
        ledger.counter(limit, now)
    store.flush(ledger)
    day = "SELECT count(*), sum(cost_nano), sum(output_tokens) FROM calls WHERE virtual_key_id = ? AND started_at >= ?"
    table = "SELECT * FROM calls WHERE virtual_key_id = ? AND started_at >= ? ORDER BY started_at DESC LIMIT 100"
    asked = ("vk-7", iso(now - DAY))

    def usage() -> None:
        fresh = Ledger()
        store.load(fresh)
        usage_rows(policy, fresh, now)

    questions: dict[str, Callable[[], object]] = {
        "usage of every scope": usage,
        "the last day of one key, summed": lambda: conn.execute(day, asked).fetchall(),
        "the last day of one key, listed": lambda: conn.execute(table, asked).fetchall(),
    }
    found = {}
    for name, ask in questions.items():
        times = []
        for _ in range(7):
            began = time.perf_counter()
            ask()
            times.append((time.perf_counter() - began) * 1000)
        found[name] = statistics.median(times)
    conn.close()
    store.close()
    return found
