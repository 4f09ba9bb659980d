"""What a gateway works with: its policy, its provider keys, its database, and what a running one says of itself."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sluicegate.database import connection
from sluicegate.fleet.policy import opening
from sluicegate.operations.diagnosis.finding import Finding, fail, ok, warn
from sluicegate.policy.loader import PolicyError
from sluicegate.policy.model import Policy
from sluicegate.storage.call_reader import oldest_call
from sluicegate.storage.errors import StoreError
from sluicegate.storage.migrations import MIGRATIONS, version_of
from sluicegate.storage.store import FILENAME
from sluicegate.windows import iso, parse_iso

QUICK_CHECK_S = 10.0
"""Seconds that the database is checked for at most; a large one takes longer, and a gateway may be at work on it."""

STEPS_BETWEEN_LOOKS = 100_000
"""Steps of SQLite's machine between two looks at the time."""

FEW_WARNINGS = 3


def load_policy(
    path: Path, state_dir: Path, env: Mapping[str, str], now: int, is_named: bool
) -> tuple[Policy | None, list[Finding]]:
    """Return the policy if it is valid, and what is to be said of it."""
    try:
        policy = opening.load_policy(path, state_dir, env, now)
    except PolicyError as e:
        more = f" (and {len(e.problems) - 1} more)" if len(e.problems) > 1 else ""
        return None, [fail("policy", f"{e.problems[0]}{more}" if e.problems else str(e), f"sluicegate check {path}")]
    except StoreError as e:
        return None, [fail("policy", str(e), f"correct server.store in {path}, or start the database")]
    found = [ok("policy", f"{path}, revision {policy.revision}")]
    if not is_named:
        found = [warn("policy", f"none is named, so it is {path}", "name yours with --policy or SLUICEGATE_POLICY")]
    found += [warn("policy", text, f"correct it in {path}") for text in policy.warnings[:FEW_WARNINGS]]
    if (more_warnings := len(policy.warnings) - FEW_WARNINGS) > 0:
        found.append(warn("policy", f"{more_warnings} more warnings", f"sluicegate check {path}"))
    return policy, found


def check_keys(policy: Policy) -> Iterator[Finding]:
    """Look at the keys of the policy's providers, as far as this process's environment and files have them."""
    for provider in policy.providers.values():
        check = f"keys of {provider.name}"
        usable = [key for key in provider.keys if key.is_usable]
        if provider.simulate:
            yield ok(check, "none needed: it is simulated")
        elif not provider.keys and provider.is_keyless:
            yield ok(check, "none needed")
        elif not provider.keys:
            # Governed in any case, and not necessarily used.
            continue
        elif not usable:
            sources = ", ".join(key.source for key in provider.keys)
            yield fail(check, f"none is usable here: {sources}", "set the variable or write the file for the gateway's process")
        elif len(usable) < len(provider.keys):
            unset = ", ".join(f"{key.name} ({key.source})" for key in provider.keys if not key.is_usable)
            yield warn(check, f"not usable here: {unset}", "set the variable or write the file for the gateway's process")
        else:
            yield ok(check, f"{len(usable)} usable")


def check_database(state_dir: Path, limit_s: float = QUICK_CHECK_S) -> Finding:
    """Check that the database is whole, for a bounded time and without a lock that calls would wait for."""
    path = state_dir / FILENAME
    if not path.exists():
        return ok("database", "is made at the first start")
    end = time.monotonic() + limit_s
    mend = f"stop the gateway and restore the last backup: sluicegate restore FILE --state-dir {state_dir}"
    try:
        with connection(path, "ro") as conn:
            if (number := version_of(conn)) > len(MIGRATIONS):
                return fail(
                    "database", f"its version {number} is newer than this sluicegate's {len(MIGRATIONS)}", "upgrade sluicegate"
                )
            conn.set_progress_handler(lambda: time.monotonic() > end, STEPS_BETWEEN_LOOKS)
            rows = [str(row[0]) for row in conn.execute("PRAGMA quick_check(3)")]
    except sqlite3.OperationalError as e:
        if e.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return ok("database", f"{path}: no fault in the part that was checked in {limit_s:g} s")
        return fail("database", f"{path}: {e}", mend)
    except sqlite3.DatabaseError as e:
        return fail("database", f"{path}: {e}", mend)
    return ok("database", f"{path} is whole") if rows == ["ok"] else fail("database", f"{path}: {rows[0]}", mend)


def check_records(state_dir: Path) -> Iterator[Finding]:
    """Say how far back the records go and how much room they take, where there are any."""
    path = state_dir / FILENAME
    try:
        oldest = oldest_call(path) if path.exists() else None
    except sqlite3.Error:
        return
    if oldest is not None:
        size = path.stat().st_size / (1 << 20)
        yield ok("records", f"back to {iso(oldest)[:10]}, in {size:,.1f} MiB; retention.calls says how long they stay")


def newest_record(state_dir: Path) -> int | None:
    """Return when the newest call on record began, in epoch milliseconds; None where there is none that can be read."""
    try:
        with connection(state_dir / FILENAME, "ro") as conn:
            row = conn.execute("SELECT started_at FROM calls ORDER BY rowid DESC LIMIT 1").fetchone()
    except sqlite3.Error:
        return None
    return parse_iso(row[0]) if row else None


def check_running(health: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge what a running gateway says of itself at ``/api/health``."""
    yield ok("gateway", f"sluicegate {health['version']} has run for {health['uptime_s']} s")
    if (wrong := health["policy"]["error"]) is not None:
        yield fail(
            "gateway's policy", f"the last edit is not in force: {wrong['file']}:{wrong['line']}: {wrong['message']}", "correct it"
        )
    if (why := health["prices"]["error"]) is not None:
        yield fail("gateway's prices", str(why), "correct prices.yaml beside the policy")
    for part in ("ledger", "audit"):
        if (why := health[part]["error"]) is not None:
            yield fail(f"gateway's {part}", str(why), "see that its disk has room and can be written: calls are refused until then")
    for refused in health["options_refused"]:
        yield warn("gateway's options", f"{refused['option']}: {refused['why']}", "leave the option out")
    for name, provider in health["providers"].items():
        keys = provider["keys"]
        usable = [key for key in keys if key["usable"] and key["set_aside_until"] is None]
        if not keys or provider["simulate"]:
            continue
        if not usable:
            yield fail(
                f"keys of {name}", "the gateway has none that can be used now", "replace the rejected key, or set its variable"
            )
        elif len(usable) < len(keys):
            unused = ", ".join(key["name"] for key in keys if key not in usable)
            yield warn(f"keys of {name}", f"the gateway cannot use {unused}", "replace the rejected key, or set its variable")
        else:
            yield ok(f"keys of {name}", f"{len(keys)} in use by the gateway")
