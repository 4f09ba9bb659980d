"""Files of older and newer gateways."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from sluicegate.calls.adjustment import adjustment_of
from sluicegate.calls.record import COLUMNS
from sluicegate.limits.ledger import Ledger
from sluicegate.storage import migrations
from sluicegate.storage.errors import StoreError
from sluicegate.storage.journal_files import records
from sluicegate.storage.migrations import MIGRATIONS
from sluicegate.storage.recovery import recover
from sluicegate.storage.store import Rows, Store
from support.calls import BUDGET, LIMIT_CHECKS, record, reserve


def test_a_newer_database_is_refused(tmp_path):
    conn = sqlite3.connect(tmp_path / "sluicegate.db")
    conn.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    conn.close()
    with pytest.raises(StoreError, match="run the newer sluicegate"):
        Store(tmp_path / "sluicegate.db")


def test_calls_in_flight_in_an_older_file_are_settled_by_the_new_gateway(tmp_path, monkeypatch, files):
    """Reservations had no numbers, and their drafts were objects."""
    with monkeypatch.context() as older:
        older.setattr(migrations, "MIGRATIONS", MIGRATIONS[: MIGRATIONS.index(migrations._number_reservations)])
        Store(tmp_path / "sluicegate.db").close()
    with sqlite3.connect(tmp_path / "sluicegate.db") as conn:
        conn.execute("INSERT INTO counters VALUES (?, 1000, 1000, NULL, 5, NULL, NULL, NULL)", (BUDGET.counter,))
        claims = json.dumps([[BUDGET.counter, "usd", 1000, 40]])
        draft = json.dumps({"cost_nano": 40, "id": "call_old", "outcome": "interrupted"})
        conn.execute("INSERT INTO reservations VALUES ('call_old', 1000, ?, ?)", (claims, draft))
    conn.close()
    store, journal, ledger = files()
    assert recover(store, journal, ledger)["interrupted"] == 1
    assert ledger.usage(BUDGET, 2000)[:2] == (45, 0)
    assert [(r["id"], r["cost_nano"]) for r in records(journal.path)] == [("call_old", 40)]


def test_a_file_from_before_alerts_keeps_what_it_has(tmp_path, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(migrations, "MIGRATIONS", MIGRATIONS[: MIGRATIONS.index(migrations._create_alerts)])
        store, ledger = Store(tmp_path / "sluicegate.db"), Ledger()
        reserve(store, ledger, "a")
        store.close()
    store, ledger = Store(tmp_path / "sluicegate.db"), Ledger()
    store.load(ledger)
    assert ledger.usage(BUDGET, 2000)[:2] == (0, 10)
    assert store._conn.execute("SELECT count(*) FROM alerts, alerts_passed").fetchone() == (0,)
    store.close()


@pytest.mark.parametrize(
    ("step", "first"),
    [
        (migrations._add_limit_checks, "limits"),
        (migrations._add_tool_requests, "file_search_requests"),
        (migrations._add_attempts, "route"),
        (migrations._add_message, "message"),
    ],
)
def test_records_from_before_newer_columns_are_kept_as_they_are(step, first, files, tmp_path, monkeypatch):
    """An older file with a row, a line that is not in it, and a call in flight with its draft."""
    added = list(COLUMNS)[list(COLUMNS).index(first) :]
    older = {name: kind for name, kind in COLUMNS.items() if name not in added}
    with monkeypatch.context() as then:
        then.setattr(migrations, "MIGRATIONS", MIGRATIONS[: MIGRATIONS.index(step)])
        then.setattr(migrations, "COLUMNS", older)
        Store(tmp_path / "sluicegate.db").close()
    lines = {i: {name: record(i)[name] for name in older} for i in ("row", "line", "draft")}
    with sqlite3.connect(tmp_path / "sluicegate.db") as conn:
        conn.execute(f"INSERT INTO calls VALUES ({','.join('?' * len(older))})", tuple(lines["row"].values()))
        draft = json.dumps(list(lines["draft"].values()))
        conn.execute("INSERT INTO reservations VALUES (1, 'draft', 1000, '[]', ?)", (draft,))
    conn.close()
    (tmp_path / "audit.jsonl").write_text("".join(json.dumps(lines[i]) + "\n" for i in ("row", "line")))
    store, journal, ledger = files()
    assert recover(store, journal, ledger) == {"torn_bytes": 0, "replayed": 1, "interrupted": 1, "rewritten": 0}
    kept = {r["id"]: ([r[name] for name in added], r["cost_nano"]) for r in store.rows_since(0)}
    assert kept == {i: ([None] * len(added), 5) for i in lines}
    assert [(r["id"], r.get(first)) for r in records(journal.path)] == [("row", None), ("line", None), ("draft", None)]
    tried = [{"provider": "anthropic", "model": "m", "status": 529}]
    values = {"limits": LIMIT_CHECKS, "file_search_requests": 7, "code_interpreter_sessions": 2, "route": "r", "attempts": tried}
    store.write(ledger.take_changes(), Rows([record("new", **values)]))
    newest = store.rows_since(0)[-1]
    assert {name: newest[name] for name in values} == values


def test_a_file_from_before_adjustments_takes_them(tmp_path, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(migrations, "MIGRATIONS", MIGRATIONS[: MIGRATIONS.index(migrations._create_adjustments)])
        store, ledger = Store(tmp_path / "sluicegate.db"), Ledger()
        store.write(ledger.take_changes(), Rows([record("a")]))
        store.close()
    store = Store(tmp_path / "sluicegate.db")
    made = adjustment_of("adj_1", 1000, -3, reason="r", actor="dana", policy_revision="r", call_id="a")
    for _ in range(2):
        store.write(Ledger().take_changes(), Rows(adjustments=[made]))
    assert store.adjustments_since(0) == [made]
    store.close()


def test_the_books_of_a_real_older_gateway_are_the_same_after_the_upgrade(tmp_path):
    """``data/state-17.sql`` is the database of version 17 that a gateway of that time wrote, four calls of a quarter dollar each."""
    with sqlite3.connect(tmp_path / "sluicegate.db") as conn:
        conn.executescript((Path(__file__).parents[1] / "data/state-17.sql").read_text())
        before = {t: conn.execute(f"SELECT * FROM {t}").fetchall() for t in ("calls", "counters", "learned")}
        names = [c[1] for c in conn.execute("PRAGMA table_info(calls)")]
    conn.close()
    assert sum(dict(zip(names, row, strict=True))["cost_nano"] for row in before["calls"]) == 1_000_000_000
    store, ledger = Store(tmp_path / "sluicegate.db"), Ledger()
    store.load(ledger)
    spent = [
        ledger.usage(replace(BUDGET, scope_kind=kind, scope_id=of, counter=f"{kind}/{of}/usd/1M"), 1_795_900_000_000)[:2]
        for kind, of in (("virtual_key", "vk-alice"), ("team", "eng"))
    ]
    assert spent == [(1_000_000_000, 0)] * 2
    store.close()
    with sqlite3.connect(tmp_path / "sluicegate.db") as conn:
        assert conn.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert conn.execute(f"SELECT {','.join(names)} FROM calls").fetchall() == before["calls"]
        assert conn.execute("SELECT * FROM counters").fetchall() == before["counters"]
    conn.close()
