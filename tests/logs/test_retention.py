"""Retention: old records go in small steps, what they add up to stays, and a crash at any moment charges nothing twice."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sluicegate.calls.adjustment import adjustment_of, charge
from sluicegate.cli.main import app
from sluicegate.limits.ledger import Ledger
from sluicegate.logs import Logs, totals
from sluicegate.logs.filters import Filters
from sluicegate.logs.index import HOUR_MS, MEASURES
from sluicegate.logs.listing import Page
from sluicegate.logs.retention import ROWS_PER_STEP, Retention
from sluicegate.policy.limit import Limit
from sluicegate.services import Services
from sluicegate.storage.call_reader import deleted_before, old_records, oldest_call
from sluicegate.storage.errors import StoreBusy
from sluicegate.storage.store import SHIPPED, Rows, Store
from sluicegate.values import NANO
from sluicegate.windows import DAY_MS, iso, parse_iso, parse_period
from support.calls import record
from support.hypothesis_profiles import examples

T0 = parse_iso("2026-02-01")
NOW = T0 + 40 * DAY_MS
MONTH = Limit("team", "t", "Team", "usd", 500 * NANO, parse_period("1Y"), False, "team/t/usd/1Y")


def call(number: int, at: int, **changes):
    return record(f"call_{number:05}", 1_000 + number, started_at=iso(at), latency_ms=100 * number, team_id="t", **changes)


class Gateway:
    """A gateway's state, without a port; its clock stands still."""

    def __init__(self, folder: Path, calls: str = "7d") -> None:
        self.policy = folder.parent / f"{folder.name}.yaml"
        self.set_retention(calls)
        self.services = Services(self.policy, folder, {}, lambda: NOW)
        self.pauses = 0

    def set_retention(self, calls: str) -> None:
        self.policy.write_text(f"version: 1\nretention: {{calls: {calls}}}\n")

    def record(self, *records, charged: bool = True) -> None:
        services = self.services
        for row in records:
            if charged:
                services.ledger.reserve(row["id"], [(MONTH, 1)], parse_iso(row["started_at"]))
                services.ledger.settle(row["id"], {"usd": row["cost_nano"]})
                services.ledger.release(row["id"])
            services.writer.record(row)
        services.writer.flush()

    def adjust(self, call_id: str, nano: int) -> None:
        services = self.services
        made = adjustment_of(f"adj_{call_id}", NOW, nano, reason="", actor="dana", policy_revision="r", call_id=call_id)
        charge(services.ledger, made, [(MONTH.counter, services.ledger.counters[MONTH.counter].end)])
        services.writer.adjust(made)
        services.writer.flush()

    def keep_house(self) -> None:
        """Do what housekeeping does every two seconds; where agreement is wanted, have it noted as the loop does."""
        self.services.logs.catch_up()
        self.services.upkeep.forget_calls()
        self.services.writer.flush()

    def ids(self) -> list[str]:
        with sqlite3.connect(self.services.store.path) as conn:
            return [row[0] for row in conn.execute("SELECT id FROM calls ORDER BY id")]

    @property
    def used(self) -> int:
        return self.services.ledger.counters[MONTH.counter].used

    def sums(self, start=None, end=None, by=()):
        self.services.logs.index.catch_up()
        with self.services.logs.readers.reading() as conn:
            return totals.sums(conn, Filters(start=start, end=end), ["calls"] if "latency_bin" in by else list(MEASURES), by)


@pytest.fixture
def gateway(tmp_path):
    opened = Gateway(tmp_path / "state")
    yield opened
    opened.services.close()


def old_and_new(number: int = 100) -> list:
    """Return calls of which the first half is older than a week."""
    return [call(i, NOW - 14 * DAY_MS + i * 14 * DAY_MS // number) for i in range(number)]


def test_old_calls_go_and_the_sums_and_the_budget_stay(gateway):
    gateway.record(*old_and_new())
    gateway.adjust("call_00003", 5_000)
    sums, used = gateway.sums(), gateway.used
    by_model = gateway.sums(by=("model", "latency_bin"))
    for _ in range(3):
        gateway.keep_house()
    assert gateway.ids() == [f"call_{i:05}" for i in range(50, 100)]
    assert (gateway.sums(), gateway.used) == (sums, used)
    assert gateway.sums(by=("model", "latency_bin")) == by_model
    gateway.services.logs.index.discard()
    assert (gateway.sums(), gateway.sums(by=("model", "latency_bin"))) == (sums, by_model)
    page = gateway.services.logs.page(Filters(), Page(limit=200))
    assert [row["id"] for row in page["logs"]] == gateway.ids()[::-1]
    assert deleted_before(gateway.services.store.path) == NOW - 7 * DAY_MS
    assert oldest_call(gateway.services.store.path) == NOW - 7 * DAY_MS


def test_by_default_nothing_is_deleted_and_an_edit_of_the_policy_is_followed_at_once(gateway):
    gateway.set_retention("never")
    gateway.services.policy_watcher.reload()
    gateway.record(*old_and_new())
    gateway.keep_house()
    assert len(gateway.ids()) == 100
    gateway.set_retention("10000Y")
    gateway.services.policy_watcher.reload()
    gateway.keep_house()
    assert len(gateway.ids()) == 100
    gateway.set_retention("1d")
    gateway.services.policy_watcher.reload()
    for _ in range(4):
        gateway.keep_house()
    assert len(gateway.ids()) == 7


def test_calls_that_the_journal_may_still_have_to_tell_of_wait_until_agreement_is_noted(gateway):
    gateway.record(call(0, NOW))
    gateway.record(call(1, T0), call(2, T0), call(3, NOW))
    store = gateway.services.store
    assert store.read_meta("calls_rowid") == 1
    gateway.services.logs.catch_up()
    gateway.services.upkeep.forget_calls()
    assert len(gateway.ids()) == 4
    gateway.services.writer.flush()
    assert store.read_meta("calls_rowid") == 4
    gateway.keep_house()
    assert gateway.ids() == ["call_00000", "call_00003"]


def test_the_newest_call_stays_so_that_its_number_is_not_given_away(gateway):
    gateway.record(call(0, T0), call(1, T0))
    gateway.keep_house()
    gateway.keep_house()
    assert gateway.ids() == ["call_00001"]
    gateway.record(call(2, T0), call(3, NOW))
    for _ in range(3):
        gateway.keep_house()
    assert gateway.ids() == ["call_00003"]
    assert gateway.sums()[()][0] == 4


def test_own_calls_wait_until_the_store_of_several_gateways_has_them(gateway):
    gateway.record(*old_and_new(20))
    services = gateway.services
    services.logs.retention = Retention(services.logs.index, services.writer.want_agreement, keeps_undelivered=True)
    services.writer.want_agreement()
    services.writer.flush()
    before = gateway.ids()
    with sqlite3.connect(services.store.path) as conn:
        # One that was fetched has its place in the store already.
        (fetched,) = conn.execute("SELECT id FROM calls WHERE rowid = 5").fetchone()
        conn.execute("INSERT INTO fetched_calls VALUES (5, 'store')")
    gateway.keep_house()
    assert set(before) - set(gateway.ids()) == {fetched}
    with sqlite3.connect(services.store.path) as conn:
        conn.execute("INSERT INTO meta VALUES (?, 3)", (SHIPPED,))
    gateway.keep_house()
    assert len(before) - len(gateway.ids()) == 4


def test_an_adjusted_call_waits_until_the_sums_have_its_adjustment(gateway):
    gateway.record(*old_and_new())
    gateway.services.logs.catch_up()
    gateway.adjust("call_00000", 77)
    gateway.services.upkeep.forget_calls()
    gateway.services.writer.flush()
    assert "call_00000" in gateway.ids()
    total = gateway.sums()
    for _ in range(3):
        gateway.keep_house()
    assert "call_00000" not in gateway.ids()
    gateway.services.logs.index.discard()
    assert gateway.sums() == total
    assert [a["call_id"] for a in gateway.services.adjustments.page(10, None)] == ["call_00000"]


def test_connections_and_refusals_of_strangers_go_too(gateway):
    writer = gateway.services.writer
    for i, at in enumerate((T0, NOW - 8 * DAY_MS, NOW - DAY_MS)):
        writer.record_connection({"id": f"con_{i}", "started_at": iso(at), "host": "example.com"})
        writer.count_refusal(at, "192.0.2.1", "virtual_key_required")
    writer.flush()
    assert old_records(gateway.services.store.path, NOW - 7 * DAY_MS)[1:] == (0, 2, 2)
    gateway.keep_house()
    with sqlite3.connect(gateway.services.store.path) as conn:
        assert conn.execute("SELECT id FROM connections").fetchall() == [("con_2",)]
        assert conn.execute("SELECT count(*) FROM refusals").fetchall() == [(1,)]


def killed_copies(gateway: Gateway, folder: Path) -> list[Path]:
    """Keep house, and return copies of the state as a kill between any two steps would leave it, last of all the end."""
    made: list[Path] = []

    def copy(*_):
        target = folder / f"killed-{len(made)}"
        shutil.copytree(gateway.services.state_dir, target, ignore=lambda _, names: [n for n in names if n == "lock"])
        made.append(target)
        return False

    retention = gateway.services.logs.retention
    held = retention._index.held

    class Copying:
        def __init__(self, conn):
            self.conn = conn

        def execute(self, sql, *values):
            if sql.startswith("DELETE"):
                copy()
            return self.conn.execute(sql, *values)

    class Held:
        def __enter__(self):
            self.inner = held()
            return Copying(self.inner.__enter__())

        def __exit__(self, *error):
            return self.inner.__exit__(*error)

    retention._index.held = Held
    for _ in range(3):
        gateway.services.logs.catch_up()
        retention.delete_before(NOW - 7 * DAY_MS, copy)
        gateway.services.writer.flush()
        copy()
    return made


@pytest.mark.parametrize("damage", ["none", "torn", "truncated"])
def test_a_kill_at_any_step_charges_nothing_again_and_brings_no_call_back(gateway, tmp_path, damage):
    gateway.record(*old_and_new(2 * ROWS_PER_STEP + 20))
    gateway.adjust("call_00001", 500)
    sums, used, before = gateway.sums(), gateway.used, set(gateway.ids())
    copies = killed_copies(gateway, tmp_path)
    assert len(copies) > 5
    for folder in copies:
        with sqlite3.connect(folder / "sluicegate.db") as conn:
            kept = {row[0] for row in conn.execute("SELECT id FROM calls")}
        journal = folder / "audit.jsonl"
        if damage == "torn":
            journal.write_bytes(journal.read_bytes()[:-9])
        elif damage == "truncated":
            journal.write_bytes(journal.read_bytes().split(b"\n", 1)[1])
        again = Gateway(folder)
        # What has been deleted does not come back; what was not is deleted in the next round.
        assert set(again.ids()) <= kept
        assert again.used == used
        assert again.sums() == sums
        for _ in range(4):
            again.keep_house()
        assert (again.sums(), again.used) == (sums, used)
        again.services.logs.index.discard()
        assert again.sums() == sums
        assert len(again.ids()) == (len(before)) // 2
        again.services.close()


@given(
    ats=st.lists(st.integers(0, 5 * 24), min_size=1, max_size=60),
    cutoffs=st.lists(st.integers(0, 5 * 24), min_size=1, max_size=3),
    rebuilt=st.booleans(),
)
@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whole_days_add_up_to_what_they_did_whatever_was_deleted(tmp_path_factory, ats, cutoffs, rebuilt):
    folder = tmp_path_factory.mktemp("logs")
    store = Store(folder / "sluicegate.db")
    logs = Logs(store.path, lambda: NOW)
    store.write(
        Ledger().take_changes(),
        Rows(
            [
                call(i, T0 + at * HOUR_MS, outcome=("completed", "failed")[i % 2], virtual_key_id=f"vk{i % 3}")
                for i, at in enumerate(ats)
            ]
        ),
    )
    store.write_meta(calls_rowid=len(ats))

    def days():
        logs.index.catch_up()
        with logs.readers.reading() as conn:
            return [
                totals.sums(conn, Filters(start=T0 + day * DAY_MS, end=T0 + (day + 1) * DAY_MS), measures, by)
                for day in range(6)
                for by, measures in (
                    ((), list(MEASURES)),
                    (("virtual_key_id",), list(MEASURES)),
                    (("outcome", "latency_bin"), ["calls"]),
                )
            ]

    before = days()
    for cutoff in cutoffs:
        logs.retention.delete_before(T0 + cutoff * HOUR_MS, lambda _: False)
        left = store.rows_since(0)
        assert {r["id"] for r in left if parse_iso(r["started_at"]) < T0 + cutoff * HOUR_MS} <= {f"call_{len(ats) - 1:05}"}
        if rebuilt:
            logs.index.discard()
        assert days() == before
    logs.close()
    store.close()


def test_calls_are_written_while_old_ones_are_deleted(gateway):
    gateway.record(*old_and_new(1_000))
    gateway.services.logs.catch_up()
    gateway.services.writer.want_agreement()
    gateway.services.writer.flush()
    over = threading.Event()
    thread = threading.Thread(target=lambda: (gateway.services.upkeep.forget_calls(), over.set()))
    thread.start()
    busy = written = 0
    while not over.is_set():
        gateway.services.writer.rows.calls.append(call(10_000 + written, NOW))
        try:
            gateway.services.writer.flush()
        except StoreBusy:
            busy += 1
        written += 1
        over.wait(0.002)
    thread.join()
    gateway.services.writer.flush()
    assert len(gateway.ids()) == 500 + written
    assert busy < written / 4


def test_the_command_shows_what_would_be_deleted_and_deletes_nothing(gateway):
    gateway.record(*old_and_new())
    named = ["--policy", str(gateway.policy), "--state-dir", str(gateway.services.state_dir)]

    def shown(*more):
        answer = CliRunner().invoke(app, ["retention", "--json", *more, *named])
        assert answer.exit_code == 0, answer.output
        return {row["what"]: row for row in json.loads(answer.stdout)["retention"]}

    every = shown("--calls", "1h")["calls"]
    assert (every["kept"], every["deleted_now"], every["oldest"]) == ("1h", 100, iso(NOW - 14 * DAY_MS))
    assert shown("--calls", "never")["calls"]["deleted_now"] == 0
    assert shown()["journals"]["deleted_now"] == 0
    assert CliRunner().invoke(app, ["retention", "--calls", "soon", *named]).exit_code == 2
    assert "would be deleted now" in CliRunner().invoke(app, ["retention", *named]).stdout
    assert len(gateway.ids()) == 100
