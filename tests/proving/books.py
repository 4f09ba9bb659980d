"""The invariants: what must be true of ledger, records and bill once the gateway is idle, whatever happened to it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from proving.billing import Entry
from sluicegate.calls.limit_checks import from_text
from sluicegate.calls.record import COLUMNS, DETAIL_COLUMNS, total_tokens
from sluicegate.model_names import matches
from sluicegate.policy.limit import Limit
from sluicegate.policy.loader import load
from sluicegate.providers import PROTOCOLS
from sluicegate.storage.journal_files import other_files
from sluicegate.values import Unit
from sluicegate.windows import iso


def check(
    state: Path,
    policy_file: Path,
    bill: Mapping[str, list[Entry]] | None,
    secrets: Iterable[str] = (),
    output: Iterable[str] = (),
) -> list[str]:
    """Return everything that is wrong with the books of a gateway that is idle or has ended; empty if they balance.

    ``bill`` is the provider's own, None where it saw more than these books cover.
    """
    with sqlite3.connect(f"file:{state / 'sluicegate.db'}?mode=ro", uri=True) as conn:
        conn.row_factory = sqlite3.Row
        rows = [dict(r) | {name: from_text(r[name]) for name in DETAIL_COLUMNS} for r in conn.execute("SELECT * FROM calls")]
        counters = [dict(r) for r in conn.execute("SELECT * FROM counters")]
        open_ = conn.execute("SELECT count(*) FROM reservations").fetchone()[0]
        sound = conn.execute("PRAGMA integrity_check").fetchone()[0]
    conn.close()
    found = [] if sound == "ok" else [f"the database is damaged: {sound}"]
    found += [f"{open_} reservations are left open"] if open_ else []
    found += records(rows, state / "audit.jsonl")
    found += sums(rows, counters, policy_file)
    found += [] if bill is None else against_bill(rows, bill)
    found += leaks(state, secrets, output)
    return found


def records(rows: list[dict[str, Any]], journal: Path) -> list[str]:
    """Check that each call is recorded once in both places, with the same values; a rotated journal is part of the journal."""
    lines: list[dict[str, Any]] = []
    for file in (*other_files(journal), journal):
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            try:
                lines.append(json.loads(line))
            except ValueError:
                return [f"{file.name}:{number} is not a record"]
    found = [f"{i} stands {n} times in audit.jsonl" for i, n in Counter(x["id"] for x in lines).items() if n > 1]
    by_id = {x["id"]: x for x in lines}
    in_table = {r["id"] for r in rows}
    if len(in_table) != len(rows):
        found.append("a call stands twice in the table")
    found += [f"{i} is in audit.jsonl but not in the table" for i in by_id.keys() - in_table]
    found += [f"{i} is in the table but not in audit.jsonl" for i in in_table - by_id.keys()]
    for row in rows:
        written = by_id.get(row["id"], row)
        found += [
            f"{row['id']}: {name} is {written.get(name)!r} in audit.jsonl, {row[name]!r} in the table"
            for name in COLUMNS
            if written.get(name) != row[name]
        ]
    return found


def sums(rows: list[dict[str, Any]], counters: list[dict[str, Any]], policy_file: Path) -> list[str]:
    """Compare what each limit has used with what its calls took: nano-dollars, tokens, requests, and nothing of calls in flight."""
    policy = load(policy_file, env={}, now=time.time_ns() // 1_000_000)
    by_name = {c["name"]: c for c in counters}
    found = []
    for limit in policy.all_limits():
        counter = by_name.get(limit.counter)
        if counter is None:
            continue
        mine = [r for r in rows if falls_under(r, limit)]
        if counter["window_start"] != counter["anchor"]:
            # A counter's first window begins when its first call is admitted, a moment after that call has started.
            mine = [r for r in mine if r["started_at"] >= iso(counter["window_start"])]
        if counter["window_end"] is not None:
            mine = [r for r in mine if r["started_at"] < iso(counter["window_end"])]
        total = sum(CONSUMED[limit.unit](r) for r in mine)
        if total != counter["used"]:
            scope = f"{limit.scope_kind} {limit.scope_id}"
            found.append(f"{scope} has used {counter['used']} {limit.unit} by its counter, {total} by its calls")
    return found


def falls_under(row: dict[str, Any], limit: Limit) -> bool:
    """Return whether a recorded call counts under this limit."""
    # Any protocol's: a call may be answered by a provider that speaks another one than its client.
    is_free = any(protocol.endpoints.kind("POST", row["path"]) == "count_tokens" for protocol in PROTOCOLS.values())
    if row["model_requested"] is None or is_free:
        return False
    match limit.scope_kind:
        case "provider":
            return bool(row["provider"] == limit.scope_id)
        case "provider_config":
            return f"{row['virtual_key_id']}:{row['provider']}" == limit.scope_id
        case "model":
            only, _, pattern = limit.scope_id.rpartition("/")
            return only in ("", row["provider"]) and matches(pattern, row["model_requested"])
        case kind:
            return bool(row[f"{kind}_id"] == limit.scope_id)


def reached_provider(row: dict[str, Any]) -> bool:
    """Return whether the call was sent to the provider, which is what counts as a request.

    A refused call was not, nor was a call without an answer and without a charge: it had no connection.
    """
    return row["outcome"] != "denied" and (row["status"] is not None or total_tokens(row) > 0 or row["cost_nano"] > 0)


CONSUMED: dict[Unit, Callable[[dict[str, Any]], int]] = {
    "usd": lambda row: int(row["cost_nano"]),
    "requests": reached_provider,
    "tokens": total_tokens,
    "concurrent": lambda _: 0,
}
"""What an ended call has used of a limit, by the limit's unit."""


def against_bill(rows: list[dict[str, Any]], bill: Mapping[str, list[Entry]]) -> list[str]:
    """Check that nothing the provider saw is missing, whole answers cost what it bills, and cut ones are marked and charged."""
    found = []
    by_session: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_session.setdefault(row["session_id"], []).append(row)
    for session, entries in bill.items():
        mine = by_session.get(session, [])
        if len(entries) != 1 or len(mine) != 1:
            found.append(f"{session}: the provider saw {len(entries)} requests, the books have {len(mine)} records")
            continue
        found += [wrong] if (wrong := compare(mine[0], entries[0])) else []
    for row in rows:
        if row["outcome"] == "denied" and row["cost_nano"]:
            found.append(f"{row['id']} was refused and is charged {row['cost_nano']}")
        if row["outcome"] == "completed" and row["status"] == 200 and row["session_id"] not in bill:
            found.append(f"{row['id']} is completed, but the provider never saw it")
    return found


def compare(row: dict[str, Any], entry: Entry) -> str | None:
    """Return what is wrong with the record of a call, compared with the provider's bill."""
    label = f"{row['id']} ({row['outcome']}, {row['status']})"
    if row["outcome"] == "denied":
        return f"{label} was refused and yet reached the provider"
    if not reached_provider(row):
        return f"{label} reached the provider, and its records say that it never left"
    if entry.status >= 400:
        # A crash leaves a call whose answer nobody could read: it is charged its reservation.
        charged_for_error = row["cost_nano"] and row["outcome"] != "interrupted"
        return f"{label} is charged {row['cost_nano']} for an error of the provider's" if charged_for_error else None
    if row["outcome"] == "completed" and not row["estimated"]:
        if row["cost_nano"] != entry.cost_nano:
            return f"{label} is charged {row['cost_nano']}, the provider bills {entry.cost_nano}"
        if total_tokens(row) != entry.tokens:
            return f"{label} took {total_tokens(row)} tokens, the provider bills {entry.tokens}"
    elif row["cost_nano"] != entry.cost_nano and (not row["estimated"] or row["cost_nano"] <= 0):
        return f"{label} was cut and is charged {row['cost_nano']}, estimated {row['estimated']}"
    return None


def leaks(state: Path, secrets: Iterable[str], output: Iterable[str]) -> list[str]:
    """Check that no secret is in any file or line, and no exception in the log."""
    found = []
    for secret in secrets:
        for file in (f for f in state.rglob("*") if f.is_file() and f.name != "admin-token"):
            if secret.encode() in file.read_bytes():
                found.append(f"{file.name} holds the secret {secret[:6]}...")
    return found + alarming_output(secrets, output)


def alarming_output(secrets: Iterable[str], output: Iterable[str]) -> list[str]:
    """Return what should not be in lines of output: a secret, or a sign of a crash."""
    lines = list(output)
    found = []
    for secret in secrets:
        if (shown := next((x for x in lines if secret in x), None)) is not None:
            found.append(f"the output shows the secret {secret[:6]}...: {shown.replace(secret, secret[:6] + '...')[:300]}")
    return found + [
        f"in the log: {line}" for line in lines if "Traceback" in line or "Addon error" in line or "has crashed" in line
    ]
