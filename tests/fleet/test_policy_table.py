"""The policy in the store: who comes second is told, and what became of a change whose answer was lost is found out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sluicegate.database import connection
from sluicegate.fleet.entries.rows import BY_NAME, own_entries, write_entry
from sluicegate.fleet.policy import copy
from sluicegate.fleet.policy.moving import MoveError, pull
from sluicegate.fleet.policy.source import StoreSource
from sluicegate.fleet.policy.table import KEPT_VERSIONS, PolicyTable, UnknownOutcome
from sluicegate.fleet.store.protocol import FleetError
from sluicegate.fleet.store.sqlite import SqliteEngine
from sluicegate.policy.audit_trail import AuditEntry, AuditTrail
from sluicegate.policy.loader import PolicyError
from sluicegate.policy.source import PolicyNotWritableError, Written, refusal_of_copy
from sluicegate.policy.watcher import PolicyWatcher
from sluicegate.storage.store import Store
from sluicegate.windows import iso

NOW = 1_700_000_000_000


def written(revision: str) -> Written:
    return Written(revision, "dana", "update", "vk-one: budget")


class Cut(SqliteEngine):
    """An engine whose answers can be lost: to statements that begin so, before or after they have been carried out."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, lambda: NOW)
        self.before = self.after = False

    @contextmanager
    def transaction(self, *, alone: bool = False) -> Iterator[Any]:
        if self.before:
            raise FleetError("cut")
        with super().transaction(alone=alone) as run:
            yield run
        if self.after:
            self.after, self.before = False, self.before_next
            raise FleetError("cut")

    before_next = False


@pytest.fixture
def engine(tmp_path):
    made = Cut(tmp_path / "fleet.db")
    yield made
    made.close()


def test_one_of_two_writers_wins_and_old_versions_go(engine):
    table = PolicyTable(engine)
    assert (table.head(), table.newest()) == ((0, ""), None)
    assert table.put(0, {"p.yaml": "1"}, written("a"), "north") == 1
    assert table.put(0, {"p.yaml": "2"}, written("b"), "south") is None
    assert table.put(1, {"p.yaml": "2"}, written("b"), "south") == 2
    newest = table.newest()
    assert newest is not None
    assert newest[:4] == (2, "b", {"p.yaml": "2"}, NOW)
    assert [v.revision for v in table.since(0, 10)] == ["a", "b"]
    for number in range(2, KEPT_VERSIONS + 2):
        table.put(number, {}, written("c"), "north")
    assert table.since(0, 1)[0].number == 3


@pytest.mark.parametrize("is_back", [True, False])
def test_a_change_whose_answer_was_lost_is_looked_up(engine, is_back):
    table = PolicyTable(engine)
    table.put(0, {"p.yaml": "1"}, written("a"), "north")
    engine.after, engine.before_next = True, not is_back
    if is_back:
        assert table.put(1, {"p.yaml": "2"}, written("b"), "north") == 2
    else:
        with pytest.raises(UnknownOutcome):
            table.put(1, {"p.yaml": "2"}, written("b"), "north")


def test_a_node_goes_by_its_copy_only_until_it_has_asked(engine, tmp_path):
    source = StoreSource(tmp_path / "local.yaml", tmp_path, PolicyTable(engine), "north")
    source.open()
    with pytest.raises(PolicyError, match="the store has no policy yet; put one there: sluicegate policy push FILE"):
        source.read()
    assert source.put(0, {"p.yaml": "version: 1\n"}, written("a")) == 1
    kept = copy.load(tmp_path)
    assert kept is not None
    assert (kept.number, kept.who) == (1, "")
    assert (tmp_path / copy.FILENAME).stat().st_mode & 0o777 == 0o600

    engine.before = True
    started = StoreSource(tmp_path / "local.yaml", tmp_path, PolicyTable(engine), "north")
    started.open()
    assert started.read() == {Path("store/p.yaml"): b"version: 1\n"}
    refusal = refusal_of_copy(started)
    assert refusal is not None
    assert not started.is_writable()
    with pytest.raises(PolicyNotWritableError, match="the change was not made") as refused:
        started.read_for_change()
    assert not refused.value.lasting
    engine.before = False
    assert started.fetch()
    assert refusal_of_copy(started) is None


@pytest.mark.parametrize(
    "files",
    ["{nope", "[1]", '{"p.yaml": 5}', '{"../p.yaml": "version: 1"}', '{"/tmp/p.yaml": "version: 1"}', '{".bashrc": "x"}', "{}"],
)
def test_a_row_that_is_no_policy_stops_nobody_and_is_written_nowhere(engine, tmp_path, files):
    table, state = PolicyTable(engine), tmp_path / "state"
    state.mkdir()
    source, before = StoreSource(tmp_path / "local.yaml", state, table, "north"), {"p.yaml": "version: 1\n"}
    assert source.put(0, before, written("a")) == 1
    with engine.transaction() as run:
        run(("INSERT INTO fleet_policy VALUES (2, 't', 'b', ?, 0, 'x', 'push', 'y', 'z')", (files,)), commit=True)
    assert source.fetch()
    with pytest.raises(PolicyError, match="version 2 in the store is none that sluicegate has written"):
        source.read()
    newest = table.newest()
    assert newest is not None
    with pytest.raises(MoveError, match="version 2 in the store, revision b, is none"):
        pull(newest, tmp_path / "out", replace=True, write=True)
    assert not (tmp_path / "out").exists()
    kept = copy.load(state)
    assert kept is not None
    assert kept.files == before
    # What came before and after it can be read.
    assert source.put(2, before, written("c")) == 3
    assert [bool(v.files) for v in table.since(0, 10)] == [True, False, True]


def test_a_start_takes_the_newest_valid_version_and_says_so(engine, tmp_path):
    source, valid = StoreSource(tmp_path / "local.yaml", tmp_path, PolicyTable(engine), "north"), {"p.yaml": "version: 1\n"}
    source.put(0, {"p.yaml": "version: 1\nteams: [{id: first}]\n"}, written("a"))
    source.put(1, valid, written("b"))
    source.put(2, {"p.yaml": "version: 1\nteems: []\n"}, written("c"))
    with engine.transaction() as run:
        run(("INSERT INTO fleet_policy VALUES (4, 't', 'd', '[]', 0, 'x', 'push', 'y', 'z')", ()), commit=True)
    started = StoreSource(tmp_path / "local.yaml", tmp_path, PolicyTable(engine), "south")
    started.open()
    watcher = PolicyWatcher(started, {}, lambda: NOW)
    assert watcher.active.files == {Path("store/p.yaml"): b"version: 1\n"}
    assert watcher.error is not None
    assert "version 4 in the store is none that sluicegate has written" in watcher.error["message"]
    assert (watcher.has_changed(), started.number, watcher.reload_errors) == (False, 4, 1)
    # Mended by any node, it comes into force.
    source.put(4, {"p.yaml": "version: 1\nteams: [{id: last}]\n"}, written("e"))
    assert started.fetch()
    assert watcher.has_changed()
    assert watcher.reload()
    assert (watcher.error, [team.id for team in watcher.current.file.teams]) == (None, ["last"])
    # Where none is valid there is nothing to start with.
    with engine.transaction() as run:
        run(("UPDATE fleet_policy SET files = '{}'", ()), commit=True)
    nothing = StoreSource(tmp_path / "local.yaml", tmp_path / "other", PolicyTable(engine), "south")
    nothing.open()
    with pytest.raises(PolicyError, match="none that sluicegate has written"):
        PolicyWatcher(nothing, {}, lambda: NOW)


def test_a_store_that_was_restored_is_followed_and_the_log_says_so(engine, tmp_path, caplog):
    source = StoreSource(tmp_path / "local.yaml", tmp_path, PolicyTable(engine), "north")
    for number, revision in enumerate("abc"):
        source.put(number, {"p.yaml": f"# {revision}"}, written(revision))
    seen = [source.fingerprint()]
    # From a backup of version 2, and edited since: as many versions as before.
    with engine.transaction() as run:
        files = '{"p.yaml": "# other"}'
        run(("UPDATE fleet_policy SET revision = 'd', files = ? WHERE number = 3", (files,)), commit=True)
    assert source.fetch()
    assert source.read() == {Path("store/p.yaml"): b"# other"}
    seen.append(source.fingerprint())
    with engine.transaction() as run:
        run(("DELETE FROM fleet_policy WHERE number > 2", ()), commit=True)
    assert source.fetch()
    seen.append(source.fingerprint())
    assert (len(set(seen)), source.set_back) == (3, 2)
    told = [r.getMessage() for r in caplog.records]
    assert [("sluicegate policy restore c" in one, "sluicegate policy restore d" in one) for one in told] == [
        (True, False),
        (False, True),
    ]


def test_an_entry_of_a_folder_that_was_set_back_is_another_one(tmp_path):
    def entered(folder: Path, what: str) -> Any:
        folder.mkdir()
        Store(folder / "s.db").close()
        entry = AuditEntry("update", "virtual_key", what, None, {"id": what})
        AuditTrail(folder / "s.db").write([entry], at=iso(NOW), who="dana", before="a", after="b")
        with connection(folder / "s.db", "ro") as conn:
            return own_entries(conn, BY_NAME["audit"], 0, 10, ("n1", "north"))

    last, (first,) = entered(tmp_path / "one", "vk-one")
    again, (other,) = entered(tmp_path / "two", "vk-two")
    assert (last, again) == (1, 1)
    assert first.id != other.id
    with connection(tmp_path / "two/s.db", "rw") as conn:
        write_entry(conn, first)
        write_entry(conn, first._replace(kind="of a newer version"))
        for odd in ([1], {"at": {"x": 1}}, {"files": "n"}):
            with pytest.raises(ValueError, match=r"no columns|another form|base64|[Pp]adding"):
                write_entry(conn, first._replace(kind="revision", values=odd))
        assert own_entries(conn, BY_NAME["audit"], again, 10, ("n1", "north")) == (again, [])
    entries, total = AuditTrail(tmp_path / "two/s.db").read(limit=10, node="north", here="south")
    assert (total, [e["entity_id"] for e in entries]) == (1, ["vk-one"])
    with pytest.raises(sqlite3.Error), connection(tmp_path / "two/s.db", "rw") as conn:
        conn.execute("UPDATE admin_audit SET node = NULL")
