"""The store on real files: what is on disk is what was in memory."""

from __future__ import annotations

import json
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.calls.record import COLUMNS, DETAIL_COLUMNS
from sluicegate.storage.errors import StoreBusy
from sluicegate.storage.journal_files import records
from sluicegate.storage.migrations import migrate
from sluicegate.storage.store import Rows, write_counters
from support.calls import BUDGET, LIMIT_CHECKS, record, reserve


def test_what_was_written_is_what_is_loaded(files):
    store, _, ledger = files()
    reserve(store, ledger, "a")
    reserve(store, ledger, "b")
    ledger.settle("a", {"usd": 7})
    store.write(ledger.take_changes(), Rows([record("a", 7)]))
    _, _, again = files()
    assert again.usage(BUDGET, 2000)[:2] == (7, 10)
    assert set(again.open) == {"b"}


def test_a_foreign_lock_is_told_apart_and_loses_nothing(files, tmp_path):
    store, _, ledger = files()
    other = sqlite3.connect(tmp_path / "sluicegate.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ledger.reserve("a", [(BUDGET, 10)], 1000)
    changes = ledger.take_changes()
    with pytest.raises(StoreBusy):
        store.write(changes)
    assert not ledger.has_changes
    ledger.put_back(changes)
    assert ledger.has_changes
    other.execute("ROLLBACK")
    other.close()
    again = ledger.take_changes()
    assert again == changes
    store.write(again)
    assert not ledger.has_changes


def test_verdicts_are_text_in_the_table_and_a_list_in_the_journal(files, tmp_path):
    store, journal, ledger = files()
    for call_id, limits in (("a", LIMIT_CHECKS), ("b", []), ("c", None)):
        journal.append(record(call_id, limits=limits))
        store.write(ledger.take_changes(), Rows([record(call_id, limits=limits)]))
    assert [r["limits"] for r in store.rows_since(0)] == [r["limits"] for r in records(journal.path)] == [LIMIT_CHECKS, [], None]
    texts = store._conn.execute("SELECT limits, json_extract(limits, '$[0][6]') FROM calls ORDER BY id").fetchall()
    assert texts == [(json.dumps(LIMIT_CHECKS, separators=(",", ":")), 40), ("[]", None), (None, None)]


FULL = record(
    "full", reason="interrupted", route="r", labels="{}", node="a", attempts=[{"status": 500}], cache="miss", saved_nano=0
)
OLDER = {name: value for name, value in record("older").items() if name not in ("node", "cache", "user_id")}


def test_a_row_has_what_its_record_has_however_much_that_is(files):
    store, _, ledger = files()
    one_each = [record(name, **{name: [] if name in DETAIL_COLUMNS else "x"}) for name in COLUMNS if name != "id"]
    rows = [
        *one_each,
        record("a"),
        FULL,
        record("b", session_id="s", agent_id="x"),
        OLDER,
        record("c", limits=LIMIT_CHECKS),
        record("a", 9),
    ]
    store.write(ledger.take_changes(), Rows(rows))
    # In their order, and each once.
    assert store.rows_since(0) == [dict.fromkeys(COLUMNS) | row for row in rows[:-1]]


def numbers(draw_before: bool) -> st.SearchStrategy[tuple[int | None, ...]]:
    few = st.integers(0, 1)
    before = st.tuples(few, few, few) if draw_before else st.just((None, None, None))
    return st.tuples(few, few, st.none() | few, few, before).map(lambda row: (*row[:4], *row[4]))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("ab"), numbers(False) | numbers(True), min_size=1), min_size=2, max_size=6))
def test_counters_are_on_file_as_they_were_last_written(written):
    with sqlite3.connect(":memory:", isolation_level=None) as conn:
        migrate(conn)
        last = {}
        for rows in written:
            write_counters(conn, [(name, *row) for name, row in rows.items()])
            last |= rows
        assert {name: tuple(row) for name, *row in conn.execute("SELECT * FROM counters")} == last
    conn.close()
