"""Records of workers in one database: each once, whatever is repeated, and a worker's own in place of what others had found."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sluicegate.calls.limit_checks import to_row
from sluicegate.fleet.records import gathering
from sluicegate.fleet.records.gathering import Gathering
from sluicegate.fleet.records.rounds import Ends
from sluicegate.storage.store import AGREED_CALL, DELETED_BEFORE_MS, INSERT_CALL, SHIPPED, Store
from support.ended_calls import CALL


class Worker:
    """One worker's database and the shared one."""

    def __init__(self, folder: Path) -> None:
        self.own, self.shared = folder / "own.db", folder / "shared.db"
        for file in (self.own, self.shared):
            Store(file).close()
        self.unconfirmed: list[dict[str, Any]] = []
        self.replaced = 0
        ends = Ends(self.own, lambda: "node", lambda: self.unconfirmed, self.note, self.shared, lambda: True)
        self.gathering = Gathering(ends)

    def note(self) -> None:
        self.replaced += 1

    def run(self, file: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with sqlite3.connect(file) as conn:
            return conn.execute(sql, values).fetchall()

    def write(self, *calls: dict[str, Any]) -> None:
        with sqlite3.connect(self.own) as conn:
            conn.executemany(INSERT_CALL, [to_row(call) for call in calls])

    @property
    def gathered(self) -> list[tuple[Any, ...]]:
        return self.run(self.shared, "SELECT id, cost_nano FROM calls ORDER BY id")


def call(number: int, **fields: Any) -> dict[str, Any]:
    return CALL | {"id": f"call_{number:04}"} | fields


def test_each_record_is_there_once_though_a_crash_repeats_some(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.write(*(call(n) for n in range(120)))
    worker.gathering.round()
    assert len(worker.gathered) == 120
    # As if the worker had ended before it noted how far it was.
    worker.run(worker.own, "UPDATE meta SET value = 40 WHERE name = ?", SHIPPED)
    worker.write(call(120))
    worker.gathering.round()
    assert [name for name, _ in worker.gathered] == [f"call_{n:04}" for n in range(121)]
    assert worker.gathering.delivered == 120 + 81
    assert worker.replaced == 0


def test_a_worker_s_own_record_takes_the_place_of_what_others_found(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.unconfirmed = [call(1, cost_nano=5)]
    worker.gathering.round()
    assert worker.gathered == [("call_0001", 5)]
    worker.unconfirmed = []
    worker.write(call(1, cost_nano=7), call(2, cost_nano=1))
    worker.gathering.round()
    assert worker.gathered == [("call_0001", 7), ("call_0002", 1)]
    assert worker.replaced == 1
    assert worker.run(worker.shared, "SELECT * FROM fetched_calls") == []


def test_gathered_rows_leave_the_worker_s_database_once_no_start_needs_them(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.write(*(call(n) for n in range(60)))
    worker.gathering.round()
    assert len(worker.run(worker.own, "SELECT 1 FROM calls")) == 60
    worker.run(worker.own, "INSERT OR REPLACE INTO meta VALUES (?, ?)", AGREED_CALL, 50)
    worker.gathering.round()
    left = [n for (n,) in worker.run(worker.own, "SELECT rowid FROM calls ORDER BY rowid")]
    assert left == list(range(50, 61))
    (deleted_before,) = worker.run(worker.own, "SELECT value FROM meta WHERE name = ?", DELETED_BEFORE_MS)
    assert deleted_before[0] > 0
    # A gateway without workers that starts on the shared folder misses none of these in its journal.
    assert worker.run(worker.shared, "SELECT value FROM meta WHERE name = ?", AGREED_CALL) == [(60,)]
    assert gathering.DELETED_AT_ONCE < 50
