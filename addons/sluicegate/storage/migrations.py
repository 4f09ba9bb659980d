"""The tables of the database, and the migration of older files to this version.

A step that has been released is never edited: older files hold what it made.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from sluicegate.calls import adjustment
from sluicegate.calls.record import COLUMNS
from sluicegate.storage.errors import StoreError


@contextlib.contextmanager
def _not_found(*names: str) -> Iterator[None]:
    """Let nothing import modules of these names, unless they are imported already."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


# It imports what it finds of these to know the types of their numbers, which no row of ours has: with the extra for semantic
# caching every start and every command would take 0.2 s of a processor and 15 MB more.
with _not_found("numpy", "pandas"):
    import sqlite_utils

CONNECTION_COLUMNS: dict[str, type] = {
    "id": str,
    "started_at": str,
    "latency_ms": int,
    "virtual_key_id": str,
    "user_id": str,
    "source": str,
    "host": str,
    "port": int,
    "request_bytes": int,
    "response_bytes": int,
    "outcome": str,
    "reason": str,
}
"""A connection to a host that is not a provider's, tunnelled or refused."""

LEARNED_COLUMNS: dict[str, type] = {
    "virtual_key_id": str,
    "model": str,
    "outputs": str,
    "prompt_tokens": float,
    "prompt_bytes": float,
    "prompt_samples": int,
    "delivered_characters": float,
    "delivered_tokens": float,
    "delivered_samples": int,
    "speed_tokens": float,
    "speed_ms": float,
    "speed_samples": int,
}
"""What finished answers have taught. ``outputs`` is a JSON list of token counts, the rest are sums that fade with time."""

_CARRIED_BYTES = 100_000
"""Weight of a ratio from an older file: that of a few calls, so that new ones soon decide."""


def _create_tables(db: sqlite_utils.Database) -> None:
    calls: Any = db["calls"]
    calls.create(COLUMNS, pk="id")
    calls.create_index(["started_at"])
    calls.create_index(["virtual_key_id", "started_at"])
    for name, columns, pk in (
        ("counters", {"name": str, "anchor": int, "window_start": int, "window_end": int, "used": int}, "name"),
        ("reservations", {"call_id": str, "at": int, "claims": str, "draft": str}, "call_id"),
        ("models", {"model": str, "tokens_per_byte": float, "output_tokens": float, "samples": int}, "model"),
        ("meta", {"name": str, "value": int}, "name"),
        ("refusals", {"minute": str, "source": str, "reason": str, "count": int}, ("minute", "source", "reason")),
        ("connections", CONNECTION_COLUMNS, "id"),
    ):
        table: Any = db[name]
        table.create(columns, pk=pk)


def _add_previous_window(db: sqlite_utils.Database) -> None:
    counters: Any = db["counters"]
    for name in ("before_start", "before_end", "before_used"):
        counters.add_column(name, int)


def _number_reservations(db: sqlite_utils.Database) -> None:
    old: Any = db["reservations"]
    rows = [(r["call_id"], r["at"], r["claims"], orjson.loads(r["draft"])) for r in old.rows]
    old.drop()
    new: Any = db["reservations"]
    new.create({"number": int, "call_id": str, "at": int, "claims": str, "draft": str}, pk="number")
    for number, (call_id, at, claims, draft) in enumerate(rows, 1):
        values = orjson.dumps([draft.get(c) for c in COLUMNS]).decode()
        db.conn.execute("INSERT INTO reservations VALUES (?, ?, ?, ?, ?)", (number, call_id, at, claims, values))


def _create_alerts(db: sqlite_utils.Database) -> None:
    alerts: Any = db["alerts"]
    alerts.create(
        {"alert_id": str, "webhook": str, "at": int, "resets_at": int, "body": str, "status": str, "attempts": int, "sent_at": int},
        pk=("alert_id", "webhook"),
    )
    passed: Any = db["alerts_passed"]
    passed.create({"counter": str, "window_start": int, "threshold": int}, pk=("counter", "window_start"))


def _create_audit_trail(db: sqlite_utils.Database) -> None:
    texts = ("at", "who", "action", "entity_kind", "entity_id", "before", "after", "revision_before", "revision_after")
    trail: Any = db["admin_audit"]
    trail.create({"id": int} | dict.fromkeys(texts, str), pk="id")
    for what in ("UPDATE", "DELETE"):
        db.execute(
            f"CREATE TRIGGER admin_audit_no_{what.lower()} BEFORE {what} ON admin_audit "
            "BEGIN SELECT raise(ABORT, 'the trail of administration is append-only'); END"
        )


def _create_policy_revisions(db: sqlite_utils.Database) -> None:
    texts = dict.fromkeys(("revision", "at", "who", "action", "summary"), str)
    revisions: Any = db["policy_revisions"]
    revisions.create({"id": int} | texts | {"files": bytes}, pk="id")
    revisions.create_index(["revision"])


def _add_limit_checks(db: sqlite_utils.Database) -> None:
    calls: Any = db["calls"]
    if "limits" not in calls.columns_dict:
        # In a new file the first step has already made it.
        calls.add_column("limits", str)


def _add_tool_requests(db: sqlite_utils.Database) -> None:
    calls: Any = db["calls"]
    for name in ("file_search_requests", "code_interpreter_sessions"):
        if name not in calls.columns_dict:
            calls.add_column(name, int)


def _add_attempts(db: sqlite_utils.Database) -> None:
    calls: Any = db["calls"]
    for name in ("route", "attempts", "asked_model"):
        if name not in calls.columns_dict:
            calls.add_column(name, str)


def _add_shadow_money(db: sqlite_utils.Database) -> None:
    calls: Any = db["calls"]
    for name, kind in (("shadow_usd", str), ("shadow_nano", int)):
        if name not in calls.columns_dict:
            calls.add_column(name, kind)


def _add_client_address(db: sqlite_utils.Database) -> None:
    calls: Any = db["calls"]
    if "client_address" not in calls.columns_dict:
        calls.add_column("client_address", str)


def _add_message(db: sqlite_utils.Database) -> None:
    calls: Any = db["calls"]
    if "message" not in calls.columns_dict:
        calls.add_column("message", str)


def _add_labels(db: sqlite_utils.Database) -> None:
    calls: Any = db["calls"]
    if "labels" not in calls.columns_dict:
        calls.add_column("labels", str)


def _add_claimed_project(db: sqlite_utils.Database) -> None:
    calls: Any = db["calls"]
    for column in ("project_source", "claimed_project"):
        if column not in calls.columns_dict:
            calls.add_column(column, str)


def _create_adjustments(db: sqlite_utils.Database) -> None:
    adjustments: Any = db["adjustments"]
    adjustments.create({"number": int} | adjustment.COLUMNS, pk="number")
    adjustments.create_index(["id"], unique=True)
    adjustments.create_index(["call_id"])
    adjustments.create_index(["idempotency_key"])


def _learn_by_key(db: sqlite_utils.Database) -> None:
    """Keep the ratios of tokens to bytes, as everybody's; a mean output says nothing about the longest answers."""
    learned: Any = db["learned"]
    zeros = {name: 0 for name, kind in LEARNED_COLUMNS.items() if kind is not str}
    learned.create(LEARNED_COLUMNS, pk=("virtual_key_id", "model"), not_null=LEARNED_COLUMNS, defaults=zeros)
    db.execute(
        "INSERT INTO learned (virtual_key_id, model, outputs, prompt_tokens, prompt_bytes, prompt_samples) "
        "SELECT '', model, '[]', tokens_per_byte * ?, ?, samples FROM models",
        (_CARRIED_BYTES, _CARRIED_BYTES),
    )
    models: Any = db["models"]
    models.drop()


def _create_reconciliations(db: sqlite_utils.Database) -> None:
    made: Any = db["reconciliations"]
    texts = dict.fromkeys(("at", "provider", "actor", "first_day", "last_day", "result"), str)
    made.create({"number": int} | texts, pk="number")


def _create_past_calls(db: sqlite_utils.Database) -> None:
    ids = ("virtual_key_id", "user_id", "team_id", "customer_id", "project_id")
    names = (*ids, "provider", "model", "outcome", "reason", "claimed_project", "labels")
    tokens = [f"{kind}_tokens" for kind in ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")]
    sums = ("calls", "completed", "tokens", *tokens, "cost_nano", "shadow_nano", "latency_ms", "timed")
    past: Any = db["past_calls"]
    keys = {"day": int, **dict.fromkeys(names, str), "latency_bin": int}
    past.create(keys | dict.fromkeys(sums, int), pk=tuple(keys))


def _create_key_values(db: sqlite_utils.Database) -> None:
    values: Any = db["key_values"]
    values.create({"digest": bytes, "is_demo": int}, not_null=["digest", "is_demo"])
    values.create_index(["digest"], unique=True)


def _add_cache(db: sqlite_utils.Database) -> None:
    calls: Any = db["calls"]
    for column, kind in (("cache", str), ("saved_usd", str), ("saved_nano", int)):
        if column not in calls.columns_dict:
            calls.add_column(column, kind)
    past: Any = db["past_calls"]
    for column in ("saved_nano", "cache_hits", "cache_misses"):
        past.add_column(column, int, not_null_default=0)


def _add_node(db: sqlite_utils.Database) -> None:
    """Add which gateway a call has passed, and which records are not our own: what they were fetched as, by their rowid."""
    calls: Any = db["calls"]
    if "node" not in calls.columns_dict:
        calls.add_column("node", str)
    fetched: Any = db["fetched_calls"]
    fetched.create({"row": int, "origin": str}, pk="row", not_null=["origin"])
    db.execute(
        "CREATE TRIGGER calls_forget_origin AFTER DELETE ON calls BEGIN DELETE FROM fetched_calls WHERE row = old.rowid; END"
    )


def _create_corrections(db: sqlite_utils.Database) -> None:
    """Keep corrections until the store has them that several gateways share."""
    waiting: Any = db["corrections"]
    columns = {"id": str, "counter": str, "window_start": int, "window_end": int, "amount": int}
    waiting.create(columns, pk="id", not_null=["counter", "window_start", "amount"])


def _add_node_of_entries(db: sqlite_utils.Database) -> None:
    """Add which gateway of a fleet an entry was made on; null: this one. And the number of a policy that was in its store."""
    for name in ("admin_audit", "policy_revisions", "adjustments"):
        table: Any = db[name]
        if "node" not in table.columns_dict:
            table.add_column("node", str)
    revisions: Any = db["policy_revisions"]
    revisions.add_column("version", int)


MIGRATIONS: tuple[Callable[[sqlite_utils.Database], None], ...] = (
    _create_tables,
    _add_previous_window,
    _number_reservations,
    _create_alerts,
    _create_audit_trail,
    _create_policy_revisions,
    _add_limit_checks,
    _add_tool_requests,
    _create_adjustments,
    _learn_by_key,
    _create_reconciliations,
    _add_attempts,
    _add_shadow_money,
    _add_client_address,
    _add_message,
    _add_labels,
    _add_claimed_project,
    _create_past_calls,
    _create_key_values,
    _add_cache,
    _add_node,
    _create_corrections,
    _add_node_of_entries,
)
"""The steps in order; a file's ``user_version`` counts how many it has taken."""


def migrate(conn: sqlite3.Connection) -> None:
    """Bring a database to this version, each step in one transaction. Raises StoreError for a newer file."""
    version = version_of(conn)
    if version > len(MIGRATIONS):
        raise StoreError(
            f"the database has version {version}, but this gateway knows only {len(MIGRATIONS)}: run the newer sluicegate"
        )
    db = sqlite_utils.Database(conn)
    for step in MIGRATIONS[version:]:
        version += 1
        conn.execute("BEGIN IMMEDIATE")
        try:
            step(db)
            conn.execute(f"PRAGMA user_version = {version}")
            if conn.in_transaction:
                conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise


def version_of(conn: sqlite3.Connection) -> int:
    """Return how many steps a database has taken."""
    return int(conn.execute("PRAGMA user_version").fetchone()[0])
