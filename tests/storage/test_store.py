"""The store on real files: what is on disk is what was in memory."""

from __future__ import annotations

import json
import sqlite3

import pytest

from sluicegate.storage.errors import StoreBusy
from sluicegate.storage.journal_files import records
from sluicegate.storage.store import Rows
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
