"""``sluicegate store migrate``: what a folder has is in the store afterwards, to the nano-dollar, once, and its gateway joins with it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import psycopg
import pytest

from sluicegate.calls.adjustment import adjustment_of, charge
from sluicegate.cli.main import app
from sluicegate.fleet.migration import move
from sluicegate.fleet.records.table import Records
from sluicegate.fleet.store.postgresql import PostgresStore
from sluicegate.fleet.store.protocol import Correction, FleetError, NodeReport
from sluicegate.fleet.store.sqlite import FILENAME as STORE
from sluicegate.fleet.store.sqlite import SqliteStore
from sluicegate.policy.audit_trail import AuditEntry
from sluicegate.services import Services, wall_clock
from sluicegate.storage.state_folder import StateFolder
from sluicegate.values import Principal
from support.calls import record
from support.command import CliRunner

POLICY = """\
version: 1
providers: {anthropic: {simulate: true}}
customers: [{id: acme, budget: {max_limit: 1000, reset_duration: 1M, calendar_aligned: true}}]
teams: [{id: core, customer_id: acme, budget: {max_limit: 500, reset_duration: 1M}}]
virtual_keys:
  - id: vk-a
    team_id: core
    budget: {max_limit: 50, reset_duration: never}
    rate_limit: {request_max_limit: 1000, request_reset_duration: 1h}
"""
COSTS = [1_000_000_007 * n + 1 for n in range(1, 8)]
SPENT = sum(COSTS)
CORRECTED = -250_000_002
WHO = Principal("vk-a", None, "core", "acme", None)


class Folder:
    """One gateway's policy and state folder, and the store that it is moved into."""

    def __init__(self, path: Path, url: str) -> None:
        self.path, self.state, self.url = path, path / "state", url
        self.policy = path / "policy.yaml"
        self.policy.write_text(POLICY)

    def services(self, **env: str) -> Services:
        return Services(self.policy, self.state, {"SLUICEGATE_NODE": "north", **env})

    def fill(self) -> None:
        """Make calls and a correction, as a gateway without a fleet does."""
        services = self.services()
        limits = services.policy.limits(WHO, "anthropic", "claude-haiku-4-5")
        for number, cost in enumerate(COSTS):
            now, call_id = services.clock(), f"call-{number}"
            assert services.ledger.reserve(call_id, [(x, 1) for x in limits], now) is None
            services.ledger.settle(call_id, {"usd": cost, "requests": 1})
            about = {"virtual_key_id": "vk-a", "team_id": "core", "customer_id": "acme", "status": 200}
            services.writer.record(record(call_id, cost, **about))
        made = adjustment_of("adj_1", now, CORRECTED, reason="x", actor="dana", policy_revision="r", call_id="call-0")
        charge(services.ledger, made, [(x.counter, services.ledger.counter(x, now).end) for x in limits if x.unit == "usd"])
        services.writer.adjust(made)
        services.audit_trail.write(
            [AuditEntry("adjust", "call", "call-0", None, None)], at=made["at"], who="dana", before="r", after="r"
        )
        services.close()

    def migrate(self, *more: str):
        return CliRunner().invoke(
            app, ["store", "migrate", "--from", "sqlite", "--to", self.url, "--state-dir", str(self.state), *more]
        )

    def sql(self, text: str) -> list[tuple]:
        with psycopg.connect(self.url) as conn:
            cursor = conn.execute(text)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def folder(tmp_path, postgres_schema_url):
    made = Folder(tmp_path, postgres_schema_url)
    made.fill()
    return made


def by_level(rows, amount="amount"):
    return {(r["what"].split()[0], r["level"]): (r["entries"], r[amount]) for r in rows if "requests" not in r[amount]}


def test_a_dry_run_shows_what_would_move_and_changes_nothing(folder):
    before = (folder.state / "sluicegate.db").read_bytes()
    shown = folder.migrate("--dry-run", "--json")
    assert shown.exit_code == 0, shown.output
    rows = json.loads(shown.stdout)["would_move"]
    used, cost = "$27.750000201", "$28.000000203"
    assert by_level(rows) == {
        **{("used", level): (1, used) for level in ("customer", "team", "virtual_key")},
        **{("records", level): (7, cost) for level in ("all", "customer", "team", "virtual_key")},
        ("adjustments", "all"): (1, "$-0.250000002"),
        ("audit", "all"): (1, "1 entries"),
    }
    assert [(r["level"], r["amount"]) for r in rows if r["amount"].endswith("requests")] == [("virtual_key", "7 requests")]
    assert used in folder.migrate("--dry-run").stdout
    assert folder.sql("SELECT to_regclass('fleet_nodes'), to_regclass('records')") == [(None, None)]
    assert (folder.state / "sluicegate.db").read_bytes() == before


def test_the_money_is_equal_and_the_gateway_that_joins_counts_nothing_twice(folder):
    for _ in range(2):
        done = folder.migrate("--json")
        assert done.exit_code == 0, done.output
        answer = json.loads(done.stdout)
        assert answer["differences"] == []
        assert by_level(answer["moved"]) == by_level(answer["moved"], "amount_in_store")
        assert all(r["entries"] == r["entries_in_store"] for r in answer["moved"])
    assert folder.sql("SELECT count(*), sum((record->>'cost_nano')::bigint) FROM records") == [(7, SPENT)]
    (row,) = PostgresStore(lambda: psycopg.connect(folder.url, autocommit=True)).nodes()
    assert (row.state, row.leases, row.in_doubt) == ("left", 0, 0)
    # The gateway starts on the folder, and another one on an empty one: both see the same, once.
    north = folder.services(SLUICEGATE_STORE=folder.url)
    (folder.path / "south").mkdir()
    other = Folder(folder.path / "south", folder.url)
    south = other.services(SLUICEGATE_STORE=folder.url, SLUICEGATE_NODE="south")
    try:
        for services in (north, south):
            services.fleet.shipping.round()
        for services in (south, north):
            services.fleet._look_around()
            now = services.clock()
            used = {x.scope_kind: services.ledger.usage(x, now)[0] for x in services.policy.all_limits() if x.unit == "usd"}
            assert used == dict.fromkeys(("customer", "team", "virtual_key"), SPENT + CORRECTED)
            (requests,) = (x for x in services.policy.all_limits() if x.unit == "requests")
            assert services.ledger.usage(requests, now)[0] == 7
        with sqlite3.connect(other.state / "sluicegate.db") as conn:
            assert conn.execute("SELECT count(*), sum(cost_nano) FROM calls").fetchone() == (7, SPENT)
    finally:
        north.close()
        south.close()
    assert folder.sql("SELECT count(*) FROM records") == [(7,)]
    # What the gateway would send by itself has the same ids.
    assert folder.sql("SELECT kind, count(*) FROM entries GROUP BY kind ORDER BY kind") == [("adjustment", 1), ("audit", 1)]


def test_a_folder_of_workers_takes_what_was_corrected_in_their_file_along(folder):
    file = SqliteStore(folder.state / STORE, wall_clock)
    assert file.totals().rows == ()
    folder.services().close()
    (team,) = (row for row in file.totals().rows if row.counter.startswith("team/"))
    assert file.adjust(Correction("adj_2", team.counter, team.start, team.end, -7)) == -7
    file.close()
    services = folder.services(SLUICEGATE_STORE=folder.url)
    try:
        services.fleet.shipping.round()
        services.fleet._look_around()
        now = services.clock()
        used = {x.scope_kind: services.ledger.usage(x, now)[0] for x in services.policy.all_limits() if x.unit == "usd"}
        assert used == {level: SPENT + CORRECTED - 7 * (level == "team") for level in ("customer", "team", "virtual_key")}
    finally:
        services.close()


def test_a_move_that_was_interrupted_is_run_again_and_counts_nothing_twice(folder, monkeypatch):
    put, batches = Records.put, []

    def fail_later(self, node, records):
        if batches:
            raise FleetError("the connection was lost")
        batches.append(records)
        put(self, node, records)

    monkeypatch.setattr(move, "RECORDS_PER_BATCH", 3)
    monkeypatch.setattr(move, "PROGRESS_S", 0)
    with monkeypatch.context() as patched:
        patched.setattr(Records, "put", fail_later)
        cut = folder.migrate()
    assert (cut.exit_code, "run the same command again" in cut.output) == (1, True), cut.output
    assert folder.sql("SELECT count(*) FROM records") == [(3,)]
    # The store counts the node as gone after ten seconds.
    monkeypatch.setattr(move.time, "sleep", lambda _: folder.sql("UPDATE fleet_nodes SET seen_at = seen_at - 20000"))
    again = folder.migrate()
    assert again.exit_code == 0, again.output
    assert "waiting until the store counts this node as gone" in again.output
    assert "records: 7 of 7" in again.output
    assert "equal to the nano-dollar" in again.output
    assert folder.sql("SELECT count(*), sum((record->>'cost_nano')::bigint) FROM records") == [(7, SPENT)]
    assert {spent for (spent,) in folder.sql("SELECT spent FROM fleet_positions WHERE counter LIKE '%/usd/%'")} == {
        SPENT + CORRECTED
    }


def test_differences_are_said_and_end_with_1(folder):
    assert folder.migrate().exit_code == 0
    folder.sql("UPDATE records SET record = jsonb_set(record::jsonb, '{cost_nano}', '5')::json WHERE id = 'call-2'")
    folder.sql("UPDATE fleet_positions SET spent = spent + 7 WHERE counter LIKE 'team/core/usd%'")
    done = folder.migrate()
    assert done.exit_code == 1
    assert f"call call-2: it cost {COSTS[2]} nano-dollars here, and 5 in the store" in done.output
    assert "team/core/usd/1M" in done.output
    assert f"{SPENT + CORRECTED} used here, {SPENT + CORRECTED + 7} in the store: this folder is an older copy" in done.output


def test_it_refuses_where_a_gateway_uses_the_folder_or_a_copy_of_it(folder, monkeypatch):
    lock = StateFolder(folder.state)
    try:
        busy = folder.migrate()
        assert (busy.exit_code, "a gateway is using the state folder" in busy.output) == (1, True)
        assert folder.migrate("--dry-run").exit_code == 0
    finally:
        lock.close()
    assert folder.migrate().exit_code == 0
    store = PostgresStore(lambda: psycopg.connect(folder.url, autocommit=True))
    node = json.loads((folder.state / "node.json").read_text())["id"]
    report = NodeReport(node, "copy", store.join(NodeReport(node, "copy", 0, 0)).epoch, 0)

    def beat(_: float) -> None:
        nonlocal report
        report = report._replace(number=report.number + 1)
        folder.sql("SELECT pg_sleep(0.002)")
        store.sync(report, [])

    (folder.state / "fleet.db").touch()
    for options in ((), ("--dry-run",)):
        workers = folder.migrate(*options)
        assert (workers.exit_code, "start them with server.store" in workers.output) == (1, True), workers.output
    (folder.state / "fleet.db").unlink()
    monkeypatch.setattr(move.time, "sleep", beat)
    copied = folder.migrate()
    store.close()
    assert copied.exit_code == 1
    assert "as the node copy: another copy of the folder is in use" in copied.output


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--from", "postgresql://h/d", "--to", "sqlite"], 2, "To go back, stop all gateways but one"),
        (["--to", "postgresql://u:secret@db.example.com/d"], 2, "a password is not written into the policy"),
        (["--to", "mysql://db/d"], 2, "is not the URL of a PostgreSQL database"),
        (["--to", "env.NO_SUCH_VARIABLE"], 2, "--to is not usable"),
        (["--to", "postgresql://u@127.0.0.1/d"], 1, "there is nothing to move"),
    ],
)
def test_what_cannot_be_moved_is_refused_in_words(tmp_path, options, code, says):
    done = CliRunner().invoke(app, ["store", "migrate", *options, "--state-dir", str(tmp_path)])
    assert (done.exit_code, says in done.output) == (code, True), done.output
    assert "secret" not in done.output
