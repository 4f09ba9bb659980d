"""Recovery: what a crash left half-done is completed, once."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.calls.adjustment import adjustment_of, charge
from sluicegate.fleet.node import FILENAME as NODE
from sluicegate.fleet.policy.copy import FILENAME as POLICY_COPY
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import Limit
from sluicegate.services import Services
from sluicegate.storage.journal import Journal
from sluicegate.storage.journal_files import records
from sluicegate.storage.recovery import recover
from sluicegate.storage.store import Rows, Store
from sluicegate.storage.writer import AGREEMENT_INTERVAL_BYTES, Writer
from sluicegate.web.routes.erasure import NOTES
from sluicegate.windows import parse_iso, parse_period
from support.calls import BUDGET, LIMIT_CHECKS, record, reserve


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


def test_what_a_gateway_notes_beside_its_journal_is_no_record(files, tmp_path):
    """A fleet's node that has had no call: every other file might have the lines that came since."""
    store, journal, ledger = files()
    recover(store, journal, ledger)
    for name in (NODE, POLICY_COPY, NOTES):
        (tmp_path / name).write_text('{"id": "node-1"}')
    (tmp_path / "audit.old").write_text(json.dumps(record("a", 7)) + "\n")
    for _ in range(2):
        store, journal, ledger = files()
        recover(store, journal, ledger)
        assert [row["id"] for row in store.rows_since(0)] == ["a"]


def test_a_call_cut_off_is_charged_its_draft_and_marked(files):
    store, _, ledger = files()
    reserve(store, ledger, "a", 10)
    store2, journal2, ledger2 = files()
    assert recover(store2, journal2, ledger2)["interrupted"] == 1
    assert ledger2.usage(BUDGET, 2000)[:2] == (10, 0)
    (row,) = store2.rows_since(0)
    assert (row["outcome"], row["estimated"], row["cost_nano"]) == ("interrupted", 1, 10)
    assert [r["id"] for r in records(journal2.path)] == ["a"]


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
    assert [r["cost_nano"] for r in records(journal2.path)] == [7]


def test_verdicts_survive_a_crash_wherever_it_comes(files):
    store, journal, ledger = files()
    reserve(store, ledger, "drafted")
    ledger.hold_open("drafted", 1000, lambda: record("drafted", limits=[tuple(v) for v in LIMIT_CHECKS]))
    store.write(ledger.take_reservations())
    journal.append(record("missed", limits=LIMIT_CHECKS))
    store.write(ledger.take_changes(), Rows([record("unwritten", limits=LIMIT_CHECKS)]))
    store2, journal2, ledger2 = files()
    recover(store2, journal2, ledger2)
    assert {r["id"]: r["limits"] for r in store2.rows_since(0)} == dict.fromkeys(("drafted", "missed", "unwritten"), LIMIT_CHECKS)
    assert {r["id"]: r["limits"] for r in records(journal2.path)} == dict.fromkeys(("drafted", "missed", "unwritten"), LIMIT_CHECKS)


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


CALENDAR = Limit(
    "team",
    "t",
    "T",
    "usd",
    90,
    parse_period("1M", aligned=True, timezone="Europe/Berlin"),
    False,
    "team/t/usd/1M/aligned/Europe/Berlin",
)
CALLS = Limit("virtual_key", "vk", "VK", "requests", 99, parse_period("1h"), False, "virtual_key/vk/requests/1h")
AT_ONCE = Limit("virtual_key", "vk", "VK", "concurrent", 9, None, True, "virtual_key/vk/concurrent/-")
LIMITS = (BUDGET, CALENDAR, CALLS, AT_ONCE)


@settings(max_examples=25)
@given(calls=st.lists(st.sampled_from(["completed", "denied", "open"]), max_size=8), copied=st.integers(0, 8))
def test_a_database_older_than_its_journal_catches_up_to_the_nanodollar(tmp_path_factory, calls, copied):
    """As after a backup of a gateway at work: the database is copied first, and calls come and go before the journal is."""
    live, folder = tmp_path_factory.mktemp("live"), tmp_path_factory.mktemp("copy")
    store, journal, ledger = Store(live / "sluicegate.db"), Journal(live / "audit.jsonl"), Ledger()
    writer = Writer(store, journal, ledger, [0, 0])
    for i, outcome in enumerate([*calls, None]):
        if i == min(copied, len(calls)):
            shutil.copy(live / "sluicegate.db", folder)
        at, checks = parse_iso("2026-01-01T00:00:00.000Z") + 7 + i, []
        if outcome in ("completed", "open"):
            assert ledger.reserve(f"{i}", [(limit, 1) for limit in LIMITS], at, checks) is None
            ledger.hold_open(f"{i}", at, partial(record, f"{i}", 1, status=200, limits=checks))
        if outcome == "completed":
            ledger.settle(f"{i}", {"usd": 3 + i, "requests": 1, "tokens": 3, "concurrent": 0})
            writer.record(record(f"{i}", 3 + i, status=200, limits=checks))
        elif outcome == "denied":
            writer.record(record(f"{i}", 0, outcome="denied", limits=[[*LIMIT_CHECKS[0][:-1], True], LIMIT_CHECKS[1]]))
        writer.flush()
        store._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(live / "audit.jsonl", folder)
    store.close()
    journal.close()

    store, journal, ledger = Store(folder / "sluicegate.db"), Journal(folder / "audit.jsonl"), Ledger()
    store.load(ledger)
    recover(store, journal, ledger, lambda: LIMITS)
    charged = [c for i, c in enumerate(calls) if c == "completed" or (c == "open" and i < copied)]
    spent = sum(3 + i if c == "completed" else 1 for i, c in enumerate(calls) if c == "completed" or (c == "open" and i < copied))
    used = [ledger.usage(limit, at)[:2] for limit in LIMITS]
    assert used == [(spent, 0), (spent, 0), (len(charged), 0), (0, 0)]
    assert {r["id"] for r in store.rows_since(0)} >= {f"{i}" for i, c in enumerate(calls) if c in ("completed", "denied")}
    store.close()
    journal.close()


def full_disk():
    raise OSError(28, "No space left on device")


def adjusted(files, *, flush: bool, lose_line: bool = False):
    """Charge a call 7, take 3 off, and stop as a crash does; ``flush`` writes the adjustment's row first."""
    store, journal, ledger = files()
    writer = Writer(store, journal, ledger, [0, 0])
    reserve(store, ledger, "a")
    ledger.settle("a", {"usd": 7})
    ledger.close("a")
    writer.record(record("a", 7))
    writer.flush()
    size = journal.size
    made = adjustment_of("adj_1", 2000, -3, reason="wrong", actor="dana", policy_revision="r", call_id="a")
    charge(ledger, made, [(BUDGET.counter, ledger.counters[BUDGET.counter].end)])
    writer.adjust(made)
    if flush:
        writer.flush()
    if lose_line:
        os.truncate(journal.path, size)
    return made


@pytest.mark.parametrize(("flush", "lose_line"), [(False, False), (True, False), (True, True)])
def test_an_adjustment_survives_a_crash_and_counts_once(files, flush, lose_line):
    made = adjusted(files, flush=flush, lose_line=lose_line)
    for _ in range(2):
        store, journal, ledger = files()
        recover(store, journal, ledger)
        assert ledger.usage(BUDGET, 2000)[:2] == (4, 0)
        (kept,) = store.adjustments_since(0)
        assert kept | {"charges": made["charges"]} == made
        assert [tuple(c) for c in kept["charges"]] == made["charges"]
        assert [(r.get("kind"), r["id"]) for r in records(journal.path)] == [(None, "a"), ("adjustment", "adj_1")]


def test_an_adjustment_whose_line_and_row_are_lost_was_never_charged(files):
    adjusted(files, flush=False, lose_line=True)
    store, journal, ledger = files()
    recover(store, journal, ledger)
    assert ledger.usage(BUDGET, 2000)[:2] == (7, 0)
    assert store.adjustments_since(0) == []
