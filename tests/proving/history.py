"""A database with a history, and how long common queries on it take."""

from __future__ import annotations

import os
import random
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sluicegate.calls.record import COLUMNS
from sluicegate.limits.ledger import Ledger
from sluicegate.limits.usage import usage_rows
from sluicegate.logs import Logs
from sluicegate.logs.filters import Filters
from sluicegate.logs.histograms import MEASURES
from sluicegate.logs.listing import Page
from sluicegate.logs.parameters import SORTS
from sluicegate.policy.loader import load
from sluicegate.storage.store import FILENAME, Store
from sluicegate.values import usd
from sluicegate.windows import iso
from support.harness import policy_text
from support.processor import ProcessorWait

DAY = 86_400_000
KEYS = 200
DAYS = 90
MODELS = {"claude-opus-5-5": 50, "claude-sonnet-5": 30, "claude-haiku-5-5": 19, "gpt-6-sol": 1}
OUTCOMES = {"completed": 94, "denied": 3, "failed": 2, "cancelled": 1}


class TimedQuestion(NamedTuple):
    """A question, its 95th percentile in milliseconds, and the same by what it was asked about."""

    what: str
    ms: float
    detail: dict[str, float]


def rows(count: int, now: int) -> Iterator[tuple[Any, ...]]:
    """Return calls of a company of 200 keys, one of them with a fifth of all calls, over the last 90 days, in order of time."""
    chance = random.Random(7)
    for number in range(count):
        at = now - DAYS * DAY + number * DAYS * DAY // count
        key = 7 if chance.random() < 0.2 else chance.randrange(KEYS)
        model = chance.choices(list(MODELS), list(MODELS.values()))[0]
        outcome = chance.choices(list(OUTCOMES), list(OUTCOMES.values()))[0]
        refused = outcome == "denied"
        cost = 0 if refused else chance.randrange(2_000_000, 90_000_000)
        call: dict[str, Any] = {"id": f"call_{at:012x}{number:016x}", "started_at": iso(at)}
        call |= {"latency_ms": 2 if refused else int(chance.lognormvariate(8.3, 1)), "virtual_key_id": f"vk-{key}"}
        call |= {"user_id": f"user-{key}", "team_id": f"team-{key % 12}", "customer_id": f"customer-{key % 3}"}
        call |= {"project_id": f"project-{key % 40}" if key % 2 else None, "session_id": f"session-{key}-{number // 2000}"}
        call |= {"provider": "openai" if model.startswith("gpt") else "anthropic", "model_requested": model}
        call |= {"model_served": None if refused else model, "stream": 1, "status": 402 if refused else 200, "outcome": outcome}
        call |= {"reason": "budget_exceeded" if refused else None, "input_tokens": chance.randrange(20_000)}
        call |= {"output_tokens": chance.randrange(3000), "cache_read_tokens": 60_000, "cost_usd": usd(cost), "cost_nano": cost}
        call |= {"estimated": 0, "request_bytes": 140_000, "response_bytes": 9000, "path": "/v1/messages"}
        yield tuple(call.get(name) for name in COLUMNS)


def time_questions(folder: Path, count: int, runs: int) -> Iterator[TimedQuestion]:
    """Time each query on ``count`` calls in that many runs: of the ledger, and of the logs for everything, a month, a key, a team."""
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
    conn.close()
    for limit in policy.all_limits():
        ledger.counter(limit, now)
    store.write(ledger.take_changes())

    def usage() -> None:
        fresh = Ledger()
        store.load(fresh)
        usage_rows(policy, fresh, now)

    yield TimedQuestion("usage of every scope", p95(usage, runs), {})
    logs = Logs(folder / FILENAME, lambda: now)
    took = milliseconds(logs.index.catch_up)
    for what, ask in questions(logs).items():
        detail = {about: round(p95(lambda a=ask, f=filters: a(f), runs), 1) for about, filters in filters_asked(now).items()}  # type: ignore[misc]
        yield TimedQuestion(f"logs: {what}", max(detail.values()), detail)
    yield TimedQuestion("logs: building the index, once", round(took), {})
    logs.close()
    store.close()


def filters_asked(now: int) -> dict[str, Filters]:
    """Return the filters of the queries."""
    start, end = iso(now - 45 * DAY)[:10], iso(now - 15 * DAY)[:10]
    month = [("start", start), ("end", end)]
    asked = {
        "everything": [],
        "a month": month,
        "a busy key": [("vk", "vk-7")],
        "a key": [("vk", "vk-9")],
        "a team": [("team", "team-3")],
        "a key, a month": [("vk", "vk-7"), *month],
        "a team, a month": [("team", "team-3"), *month],
        "errors": [("status", "error")],
    }
    return {about: Filters.read(pairs)[0] for about, pairs in asked.items()}


def questions(logs: Logs) -> dict[str, Callable[[Filters], object]]:
    """Return the queries of the logs API."""

    def second(sort_by: str) -> Callable[[Filters], object]:
        def ask(filters: Filters) -> object:
            about = repr(filters)
            if about not in cursors:
                cursors[about] = logs.page(filters, Page(sort_by))["pagination"]["next_cursor"]
            return logs.page(filters, Page(sort_by, cursor=cursors[about]))

        cursors: dict[str, str] = {}
        return ask

    asks: dict[str, Callable[[Filters], object]] = {"statistics": logs.stats, "what to filter by": lambda _: logs.facets(Filters())}
    for sort_by in SORTS:
        asks[f"50 calls by {sort_by}"] = lambda f, s=sort_by: logs.page(f, Page(s))  # type: ignore[misc]
        asks[f"the next 50 by {sort_by}"] = second(sort_by)
    for kind in MEASURES:
        asks[f"histogram of {kind}"] = lambda f, k=kind: logs.histogram(f, k, None)  # type: ignore[misc]
    for by in ("users", "teams", "virtual_keys"):
        asks[f"histogram of cost by {by}"] = lambda f, b=by: logs.histogram(f, "cost", b)  # type: ignore[misc]
    for by in ("models", "users", "teams", "virtual_keys", "customers"):
        asks[f"ranking of {by}"] = lambda f, b=by: logs.rankings(f, b, "cost", 50)  # type: ignore[misc]
    asks["an export's first 500"] = lambda f: next(logs.export(f, "asc"))
    return asks


def milliseconds(ask: Callable[[], object]) -> float:
    """Return how long something takes, without the time in which others had the processor: that says nothing about it."""
    waited, began = ProcessorWait(os.getpid()), time.perf_counter()
    ask()
    return max(0.0, time.perf_counter() - began - waited.seconds) * 1000


def p95(ask: Callable[[], object], times: int) -> float:
    """Return the milliseconds below which 19 of 20 runs stay, by estimate where there are fewer."""
    ask()
    return statistics.quantiles([milliseconds(ask) for _ in range(times)], n=20)[-1]
