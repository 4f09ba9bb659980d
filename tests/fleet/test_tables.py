"""The fleet store's tables: made once by whoever comes first, forward only, and of use to the version before."""

from __future__ import annotations

import re
import sqlite3
import threading
from types import SimpleNamespace

import psycopg
import pytest

from sluicegate.fleet.store import tables
from sluicegate.fleet.store.alert_claims import AlertClaim
from sluicegate.fleet.store.postgresql import MIGRATION_LOCK, MIGRATION_TIMEOUT_MS, PostgresStore
from sluicegate.fleet.store.protocol import Correction, FleetError, HeldCall, NodeReport, Position
from sluicegate.fleet.store.sqlite import SqliteStore

NOW, DAY_MS = 1_000_000, 86_400_000


@pytest.fixture(params=["sqlite", "postgresql"])
def open_store(request, tmp_path):
    opened = []

    def make():
        if request.param == "sqlite":
            opened.append(SqliteStore(tmp_path / "fleet.db", lambda: NOW))
        else:
            url = request.getfixturevalue("postgres_schema_url")
            opened.append(PostgresStore(lambda: psycopg.connect(url, autocommit=True), lambda: NOW))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def use_all(store, node: str) -> None:
    """Do everything that writes a row."""
    report = NodeReport(node, node, store.join(NodeReport(node, node, 0, 0)).epoch, 1)
    store.anchors({f"a-{node}": 5})
    held = HeldCall(f"call-{node}", (("a", NOW, 6),), {"id": f"call-{node}"})
    position = Position("a", "usd", NOW, NOW + DAY_MS, 100, False, 1, 2, want=3)
    assert store.sync(report, [position], [held]).positions[0].allowed
    assert store.adjust(Correction(f"c-{node}", "a", NOW, NOW + DAY_MS, 4)) == 4
    claim = AlertClaim("a", NOW, 50, f"hook-{node}", f"alert-{node}", "{}", NOW, None)
    assert store.claim_alerts(node, [claim]) == [claim]
    store.mark_delivered([(f"alert-{node}", f"hook-{node}")])
    assert store.known_alerts(node, [f"alert-{node}"])[0].is_delivered
    store.totals()
    store.settle_expired()
    store._purge()
    store.leave(report._replace(number=2))


def test_gateways_that_start_at_once_on_an_empty_database_make_the_tables_once(open_store):
    stores = [open_store() for _ in range(4)]
    go, failed = threading.Barrier(len(stores)), []

    def start(number: int) -> None:
        go.wait()
        try:
            stores[number].join(NodeReport(f"n{number}", f"n{number}", 0, 0))
        except FleetError as e:
            failed.append(e)

    threads = [threading.Thread(target=start, args=(i,)) for i in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(stores[0].nodes()) == len(stores)


def test_a_version_works_with_the_tables_of_the_next_one(open_store):
    store = open_store()
    use_all(store, "before")
    with store._engine.transaction() as run:
        names = sorted(re.findall(r"CREATE TABLE (\w+)", " ".join(s for step in tables.STEPS for s in step)))
        run(*((f"ALTER TABLE {name} ADD COLUMN later bigint", ()) for name in names), ("CREATE TABLE fleet_later (id text)", ()))
        run(("UPDATE fleet_meta SET value = value + 1 WHERE name = 'version'", ()), commit=True)
    # The gateway that is running, and one of its version that starts.
    use_all(store, "running")
    use_all(open_store(), "started")


def test_steps_only_add():
    """What a step may do so that the version before goes on; ``usable_by`` tells older ones otherwise."""
    assert len(tables.STEPS) > tables.USABLE_BY
    for step in tables.STEPS:
        for statement in step:
            adds = re.match(
                r"CREATE TABLE |CREATE (UNIQUE )?INDEX |ALTER TABLE \w+ ADD COLUMN \w+ \w+( DEFAULT [^,]+)?$", statement
            )
            assert adds, statement


def test_tables_of_each_version_before_are_brought_forward(open_store, monkeypatch):
    for version in range(1, len(tables.STEPS)):
        store = open_store()
        with monkeypatch.context() as patched:
            patched.setattr(tables, "STEPS", tables.STEPS[:version])
            store.anchors({"a": 7})
        forward = open_store()
        use_all(forward, f"v{version}")
        assert forward.anchors({"a": 8}) == {"a": 7}
        with forward._engine.transaction() as run:
            (rows,) = run(("SELECT value FROM fleet_meta WHERE name = 'version'", ()))
        assert rows == [(len(tables.STEPS),)]


def test_a_step_that_fails_leaves_the_tables_as_they_were(open_store, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(tables, "STEPS", (*tables.STEPS[:1], ("CREATE TABLE fleet_extra (id text)", "CREATE TABLE broken (")))
        with pytest.raises(FleetError):
            open_store().nodes()
    use_all(open_store(), "again")
    store = open_store()
    store.nodes()
    with pytest.raises((psycopg.errors.UndefinedTable, sqlite3.OperationalError, FleetError)), store._engine.transaction() as run:
        run(("SELECT * FROM fleet_extra", ()))


def test_a_migration_waits_for_another_and_may_take_longer_than_a_message(postgres_schema_url):
    store = PostgresStore(lambda: psycopg.connect(postgres_schema_url, autocommit=True))
    with store._engine.transaction(alone=True) as run:
        assert run(("SELECT current_setting('statement_timeout')", ())) == [[(f"{MIGRATION_TIMEOUT_MS // 60_000}min",)]]
        with psycopg.connect(postgres_schema_url, autocommit=True) as other:
            assert other.execute("SELECT pg_try_advisory_lock(%s)", (MIGRATION_LOCK,)).fetchone() == (False,)
    with store._engine.transaction() as run:
        assert run(("SELECT current_setting('statement_timeout')", ()), commit=True) == [[("2s",)]]
    store.close()


class Pooled(psycopg.Connection):
    """A connection to a pooler, which has a number of its own for whoever would cancel."""

    @property
    def info(self):
        return SimpleNamespace(backend_pid=self.pgconn.backend_pid + 1)


@pytest.mark.parametrize(("connection", "kept"), [(psycopg.Connection, True), (Pooled, False)])
def test_the_server_keeps_plans_but_not_behind_a_pooler(postgres_schema_url, connection, kept):
    store = PostgresStore(lambda: connection.connect(postgres_schema_url, autocommit=True))
    report = NodeReport("n", "n", store.join(NodeReport("n", "n", 0, 0)).epoch, 0)
    for number in range(1, 5):
        store.sync(report._replace(number=number), [])
    with store._engine.transaction() as run:
        (found,) = run(("SELECT name FROM pg_prepared_statements", ()), commit=True)
    store.close()
    assert (len(found) >= 3) == kept
    assert kept or found == []
