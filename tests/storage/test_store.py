"""Store, journal and recovery on real files: what is on disk is what was in memory, and crashes are completed."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
import time

import pytest

from sluicegate.calls.record import COLUMNS
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.model import Limit
from sluicegate.services import Services
from sluicegate.storage import migrations
from sluicegate.storage.errors import StoreBusy, StoreError
from sluicegate.storage.housekeeping import checkpoint
from sluicegate.storage.journal import Journal
from sluicegate.storage.migrations import MIGRATIONS
from sluicegate.storage.recovery import recover
from sluicegate.storage.store import Rows, Store
from sluicegate.storage.writer import AGREEMENT_INTERVAL_BYTES
from sluicegate.values import NANO, usd
from sluicegate.windows import parse_period

BUDGET = Limit("virtual_key", "vk", "VK", "usd", 50 * NANO, parse_period("1M"), False, "virtual_key/vk/usd/1M")


@pytest.fixture
def files(tmp_path):
    """Opens store, journal and ledger on the same folder, as a start does."""
    opened = []

    def start():
        store, journal, ledger = Store(tmp_path / "sluicegate.db"), Journal(tmp_path / "audit.jsonl"), Ledger()
        store.load(ledger)
        opened.append((store, journal))
        return store, journal, ledger

    yield start
    for store, journal in opened:
        store.close()
        journal.close()


def record(call_id, cost=5, **changes):
    base = dict.fromkeys(COLUMNS) | {
        "id": call_id,
        "outcome": "completed",
        "cost_nano": cost,
        "started_at": "2026-01-01T00:00:00.000Z",
    }
    return (
        base
        | {"input_tokens": 1, "output_tokens": 2, "cache_read_tokens": 0, "cache_write_5m_tokens": 0, "cache_write_1h_tokens": 0}
        | changes
    )


def reserve(store, ledger, call_id, amount=10):
    assert ledger.reserve(call_id, [(BUDGET, amount)], 1000) is None
    ledger.hold_open(call_id, 1000, record(call_id, amount))
    store.write(ledger.take_changes())


def test_what_was_written_is_what_is_loaded(files):
    store, _, ledger = files()
    reserve(store, ledger, "a")
    reserve(store, ledger, "b")
    ledger.settle("a", {"usd": 7})
    store.write(ledger.take_changes(), Rows([record("a", 7)]))
    _, _, again = files()
    assert again.usage(BUDGET, 2000)[:2] == (7, 10)
    assert set(again.open) == {"b"}


def test_a_line_the_database_missed_is_booked_once(files):
    store, journal, ledger = files()
    reserve(store, ledger, "a")
    journal.append(record("a", 7))
    store2, journal2, ledger2 = files()
    assert recover(store2, journal2, ledger2) == {"torn_bytes": 0, "replayed": 1, "interrupted": 0, "rewritten": 0}
    assert ledger2.usage(BUDGET, 2000)[:2] == (7, 0)
    store3, journal3, ledger3 = files()
    assert recover(store3, journal3, ledger3)["replayed"] == 0
    assert ledger3.usage(BUDGET, 2000)[:2] == (7, 0)


def test_a_call_cut_off_is_charged_its_draft_and_marked(files):
    store, _, ledger = files()
    reserve(store, ledger, "a", 10)
    store2, journal2, ledger2 = files()
    assert recover(store2, journal2, ledger2)["interrupted"] == 1
    assert ledger2.usage(BUDGET, 2000)[:2] == (10, 0)
    (row,) = store2.rows_since(0)
    assert (row["outcome"], row["estimated"], row["cost_nano"]) == ("interrupted", 1, 10)
    assert [r["id"] for r in journal2.since(0)] == ["a"]


def test_a_refused_call_replayed_gives_its_slots_back(files):
    store, journal, ledger = files()
    reserve(store, ledger, "a")
    journal.append(record("a", 0, outcome="denied"))
    store2, journal2, ledger2 = files()
    recover(store2, journal2, ledger2)
    assert ledger2.usage(BUDGET, 2000)[:2] == (0, 0)


@pytest.mark.parametrize(
    ("ending", "requests"),
    [
        ({"outcome": "failed", "status": None, "input_tokens": 0, "output_tokens": 0}, 0),
        ({"outcome": "cancelled", "status": None, "input_tokens": 0, "output_tokens": 0}, 0),
        ({"outcome": "cancelled", "status": None}, 1),
        ({"outcome": "failed", "status": 529, "input_tokens": 0, "output_tokens": 0}, 1),
        ({"outcome": "completed", "status": 200}, 1),
    ],
)
def test_a_line_the_database_missed_takes_a_request_if_its_call_left_for_the_provider(files, ending, requests):
    store, journal, ledger = files()
    limit = Limit("virtual_key", "vk", "VK", "requests", 9, parse_period("1M"), False, "virtual_key/vk/requests/1M")
    ledger.reserve("a", [(limit, 1)], 1000)
    store.write(ledger.take_changes())
    journal.append(record("a", 0, **ending))
    store2, journal2, ledger2 = files()
    recover(store2, journal2, ledger2)
    assert ledger2.usage(limit, 2000)[:2] == (requests, 0)


def test_a_row_without_a_line_gets_one_and_a_torn_line_is_cut(files, tmp_path):
    store, _, ledger = files()
    reserve(store, ledger, "a")
    ledger.settle("a", {"usd": 7})
    store.write(ledger.take_changes(), Rows([record("a", 7)]))
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"id":"a","cos')
    store2, journal2, ledger2 = files()
    done = recover(store2, journal2, ledger2)
    assert (done["torn_bytes"], done["rewritten"], done["replayed"]) == (14, 1, 0)
    assert [r["cost_nano"] for r in journal2.since(0)] == [7]


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
    assert [(r["id"], r["cost_nano"]) for r in journal.since(0)] == [("call_old", 40)]


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


VERDICTS = [
    ["virtual_key", "vk", "usd", "1M", "soft", 50, 40, 5, 2, None, True],
    ["team", "t", "usd", "1M", "soft", 9, 8, 2, 2, 7, False],
]


def test_verdicts_are_text_in_the_table_and_a_list_in_the_journal(files, tmp_path):
    store, journal, ledger = files()
    for call_id, limits in (("a", VERDICTS), ("b", []), ("c", None)):
        journal.append(record(call_id, limits=limits))
        store.write(ledger.take_changes(), Rows([record(call_id, limits=limits)]))
    assert [r["limits"] for r in store.rows_since(0)] == [r["limits"] for r in journal.since(0)] == [VERDICTS, [], None]
    texts = store._conn.execute("SELECT limits, json_extract(limits, '$[0][6]') FROM calls ORDER BY id").fetchall()
    assert texts == [(json.dumps(VERDICTS, separators=(",", ":")), 40), ("[]", None), (None, None)]


def test_verdicts_survive_a_crash_wherever_it_comes(files):
    store, journal, ledger = files()
    reserve(store, ledger, "drafted")
    ledger.hold_open("drafted", 1000, record("drafted", limits=[tuple(v) for v in VERDICTS]))
    store.write(ledger.take_reservations())
    journal.append(record("missed", limits=VERDICTS))
    store.write(ledger.take_changes(), Rows([record("unwritten", limits=VERDICTS)]))
    store2, journal2, ledger2 = files()
    recover(store2, journal2, ledger2)
    assert {r["id"]: r["limits"] for r in store2.rows_since(0)} == dict.fromkeys(("drafted", "missed", "unwritten"), VERDICTS)
    assert {r["id"]: r["limits"] for r in journal2.since(0)} == dict.fromkeys(("drafted", "missed", "unwritten"), VERDICTS)


def test_records_from_before_verdicts_are_kept_as_they_are(files, tmp_path, monkeypatch):
    """An older file with a row, a line that is not in it, and a call in flight with its draft."""
    older = {name: kind for name, kind in COLUMNS.items() if name != "limits"}
    with monkeypatch.context() as then:
        then.setattr(migrations, "MIGRATIONS", MIGRATIONS[: MIGRATIONS.index(migrations._add_verdicts)])
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
    assert {r["id"]: (r["limits"], r["cost_nano"]) for r in store.rows_since(0)} == dict.fromkeys(lines, (None, 5))
    assert [(r["id"], r.get("limits")) for r in journal.since(0)] == [("row", None), ("line", None), ("draft", None)]
    store.write(ledger.take_changes(), Rows([record("new", limits=VERDICTS)]))
    assert store.rows_since(0)[-1]["limits"] == VERDICTS


def test_a_line_that_could_not_be_written_is_written_with_the_next(tmp_path):
    journal = Journal(tmp_path / "audit.jsonl")
    good = journal._fd
    journal._fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space"):
        journal.append(record("a"))
    journal._fd = good
    journal.append(record("b"))
    assert [r["id"] for r in journal.since(0)] == ["a", "b"]
    journal.close()


@pytest.mark.parametrize(
    ("nano", "text"), [(0, "0"), (1, "0.000000001"), (74_000_000, "0.074"), (50 * NANO, "50"), (-NANO // 4, "-0.25")]
)
def test_money_as_text_is_exact(nano, text):
    assert usd(nano) == text


def test_what_can_wait_makes_nothing_else_wait(tmp_path):
    """A stranger's refusal is counted within a second, a call is on record within 20 ms, whichever came first."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\n")
    services = Services(policy, tmp_path / "state", {})

    async def written():
        loop = asyncio.get_running_loop()
        services.writer.count_refusal(0, "127.0.0.1", "virtual_key_required")
        services.writer.flush_soon(60.0)
        services.writer.rows.calls.append(record("a"))
        services.writer.flush_soon()
        services.writer.flush_soon(60.0)
        began = loop.time()
        for _ in range(1000):
            if not services.writer.has_pending:
                break
            await asyncio.sleep(0.005)
        return loop.time() - began

    try:
        assert asyncio.run(written()) < 5
    finally:
        services.close()


def test_a_start_after_a_crash_reads_the_last_of_the_journal_and_not_all_of_it(tmp_path, monkeypatch):
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\n")
    services = Services(policy, tmp_path / "state", {})
    for i in range(3000):
        services.writer.record(record(f"call_{i}"))
        if i % 50 == 0:
            services.writer.flush()
    size, marked = services.journal.size, services.store.read_meta("journal_offset")
    assert size > AGREEMENT_INTERVAL_BYTES
    assert marked > 0
    assert size - marked < AGREEMENT_INTERVAL_BYTES + (AGREEMENT_INTERVAL_BYTES >> 3)
    lines = (tmp_path / "state" / "audit.jsonl").read_bytes()
    assert len(lines[:marked].splitlines()) == services.store.read_meta("calls_rowid")

    # A line that could not be written has only its row: the mark waits for it.
    monkeypatch.setattr(services.journal, "catch_up", full_disk)
    for i in range(3000, 6000):
        services.writer.record(record(f"call_{i}"))
    services.writer.flush()
    assert services.store.read_meta("journal_offset") == marked
    services.state_folder.close()
    again = Services(policy, tmp_path / "state", {})
    assert again.recovered == {"torn_bytes": 0, "replayed": 0, "interrupted": 0, "rewritten": 3000}
    assert len({json.loads(x)["id"] for x in (tmp_path / "state" / "audit.jsonl").read_bytes().splitlines()}) == 6000
    again.close()


def full_disk():
    raise OSError(28, "No space left on device")


def test_the_log_of_writes_begins_anew_though_calls_go_on(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\n")
    services = Services(policy, tmp_path / "state", {})
    over, written = threading.Event(), []

    def write():
        pause = 0.002
        while not over.wait(pause):
            services.writer.rows.calls.append(record(f"call_{len(written)}", path="x" * 20_000))
            services.writer.flush()
            written.append(wal.stat().st_size)
            # A checkpoint waits for the disk. What is tested is that calls go on, not that they are faster than a busy disk.
            began = time.perf_counter()
            with wal.open("rb") as file:
                os.fsync(file.fileno())
            pause = max(0.002, 1.5 * (time.perf_counter() - began))

    wal = tmp_path / "state" / "sluicegate.db-wal"
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for rounds in range(1, 41):
            while len(written) < rounds * 50 and writer.is_alive():
                over.wait(0.001)
            if rounds > 6 and written[-1] < len(written) * 10_000:
                break
            checkpoint(services.store.path)
    finally:
        over.set()
        writer.join()
        services.close()
    assert written[-1] < len(written) * 10_000
