"""Calls read from the database, oldest first."""

from __future__ import annotations

import pytest

from sluicegate.calls.record import COLUMNS
from sluicegate.limits.ledger import Ledger
from sluicegate.storage import call_reader
from sluicegate.storage.call_reader import count_calls, read_calls, start_of_newest
from sluicegate.storage.errors import StoreError
from sluicegate.storage.store import Rows, Store
from sluicegate.windows import iso


@pytest.fixture
def path(tmp_path):
    store = Store(tmp_path / "sluicegate.db")
    # Written as they ended, not as they began, and several at the same millisecond.
    rows = [dict.fromkeys(COLUMNS) | {"id": f"c{i}", "started_at": iso(1_000 + i // 3)} for i in (*range(5, 10), *range(5))]
    store.write(Ledger().take_changes(), Rows(rows))
    yield store.path
    store.close()


@pytest.mark.parametrize("at_a_time", [1, 2, 3, 100])
def test_every_call_of_the_time_once_and_in_order(path, monkeypatch, at_a_time):
    monkeypatch.setattr(call_reader, "ROWS_PER_READ", at_a_time)
    assert [r["id"] for r in read_calls(path, ("id",), 1_000, 1_003)] == ["c0", "c1", "c2", "c5", "c3", "c4", "c6", "c7", "c8"]
    assert sorted(r["id"] for r in read_calls(path, ("id", "started_at"), 1_001, 1_002)) == ["c3", "c4", "c5"]
    assert list(read_calls(path, ("id",), 2_000, 3_000)) == []


def test_how_many_there_are_and_since_when(path):
    assert [count_calls(path, *span) for span in ((0, 9_999), (1_001, 1_003), (2_000, 9_999))] == [10, 6, 0]
    assert [start_of_newest(path, 1_003, n) for n in (1, 3, 4, 9, 10)] == [1_002, 1_002, 1_001, 1_000, None]


def test_a_database_that_is_none_says_so(tmp_path):
    (tmp_path / "no.db").write_bytes(b"x" * 5000)
    with pytest.raises(StoreError):
        count_calls(tmp_path / "no.db", 0, 1)
