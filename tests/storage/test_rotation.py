"""The journal may be renamed, copied, deleted or truncated at any moment, and the gateway killed: no line is lost, none stands twice."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluicegate.limits.ledger import Ledger
from sluicegate.policy.loader import PolicyError, load
from sluicegate.services import Services
from sluicegate.storage.journal import RECENT_BYTES, Journal
from sluicegate.storage.journal_files import other_files, records
from sluicegate.storage.journal_rotation import delete_old, rotate
from sluicegate.storage.recovery import recover
from sluicegate.storage.store import Store
from sluicegate.storage.writer import Writer
from sluicegate.windows import iso
from support.calls import BUDGET, record

COST = 10
NOW = 1_700_000_000_000
OPERATIONS = (
    "call",
    "flush",
    "rename",
    "rename and create",
    "shift",
    "rotate by size",
    "rotate by size and delete what is old",
    "copy and truncate",
    "call while it is copied and truncated",
    "delete",
    "hup",
    "crash",
    "restart",
)


class Machine:
    """A gateway's files, what is done to them, and what has to be in them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "audit.jsonl"
        self.opened: list[tuple[Store, Journal]] = []
        self.ids: list[str] = []
        self.deleted: set[str] = set()
        """Calls whose line was in a file that was deleted."""
        self.unwritten: set[str] = set()
        """Calls whose row is not in the database yet."""
        self.at_most_once: set[str] = set()
        """Calls whose line was deleted before their row was written: a start after a crash finds neither."""
        self.rotations = self.shifts = 0
        self.start()

    def start(self) -> None:
        store, journal, self.ledger = Store(self.folder / "sluicegate.db"), Journal(self.path), Ledger()
        store.load(self.ledger)
        self.opened.append((store, journal))
        recover(store, journal, self.ledger)
        self.store, self.journal, self.writer = store, journal, Writer(store, journal, self.ledger, [0, 0])
        self.at_most_once |= self.deleted & self.unwritten
        self.unwritten.clear()

    def call(self) -> None:
        call_id = f"call_{len(self.ids)}"
        self.ids.append(call_id)
        assert self.ledger.reserve(call_id, [(BUDGET, COST)], 1000) is None
        self.ledger.hold_open(call_id, 1000, lambda: record(call_id, COST))
        self.writer._write_reservations()
        self.ledger.settle(call_id, {"usd": COST})
        self.ledger.close(call_id)
        self.writer.record(record(call_id, COST))
        self.unwritten.add(call_id)

    def flush(self) -> None:
        self.writer.flush()
        self.unwritten.clear()

    def rotated(self) -> Path:
        self.rotations += 1
        return self.path.with_name(f"audit.jsonl.{self.rotations}")

    def rename(self) -> None:
        if self.path.exists():
            self.path.rename(self.rotated())

    def rename_and_create(self) -> None:
        self.rename()
        self.path.touch()

    def shift(self) -> None:
        """Rename the rotated files, as logrotate numbers them, newest last so that names say nothing of their order."""
        self.shifts += 1
        for i, file in enumerate(sorted(self.folder.glob("audit.jsonl.*"))):
            file.rename(self.folder / f"moved-{self.shifts}-{99 - i}")

    def rotate_by_size(self) -> Path | None:
        return rotate(self.path, NOW, None, 1)

    def rotate_by_size_and_delete_what_is_old(self) -> None:
        self.rotate_by_size()
        before = {file: {r["id"] for r in records(file)} for file in other_files(self.path)}
        for file in delete_old(self.path, time.time_ns() // 1_000_000 + 10_000, 0):
            self.deleted |= before[file]

    def copy_and_truncate(self) -> None:
        if self.path.exists():
            shutil.copyfile(self.path, self.rotated())
            os.truncate(self.path, 0)

    def call_while_it_is_copied_and_truncated(self) -> None:
        self.call()
        shutil.copyfile(self.path, self.rotated())
        self.call()
        os.truncate(self.path, 0)
        self.call()

    def delete(self) -> None:
        if self.path.exists():
            self.deleted |= {r["id"] for r in records(self.path)}
            self.path.unlink()

    def hup(self) -> None:
        self.writer.reopen_journal()
        assert self.path.exists()

    def crash(self) -> None:
        self.start()

    def restart(self) -> None:
        self.writer.close()
        self.unwritten.clear()
        self.start()

    def check(self) -> None:
        """Start once more, as after a crash, and compare files, table and money."""
        self.start()
        lines = Counter(r["id"] for f in (self.path, *other_files(self.path)) for r in records(f))
        once = dict.fromkeys([i for i in self.ids if i not in self.deleted], 1)
        assert {i: n for i, n in lines.items() if i not in self.at_most_once} == once
        assert all(lines[i] <= 1 for i in self.at_most_once)
        assert sorted(r["id"] for r in self.store.rows_since(0)) == sorted(self.ids)
        assert self.ledger.usage(BUDGET, 2000)[:2] == (COST * len(self.ids), 0)
        for file in self.folder.iterdir():
            if file.suffix not in (".db", ".db-wal", ".db-shm") and not file.name.startswith("sluicegate"):
                assert all(orjson.loads(line) for line in file.read_bytes().splitlines())

    def close(self) -> None:
        for store, journal in self.opened:
            store.close()
            journal.close()


@given(st.lists(st.sampled_from(OPERATIONS), max_size=14))
@example(["call", "flush", "delete", "crash"])
@example(["call", "rotate by size", "crash", "call", "rotate by size", "call", "rotate by size", "crash"])
@example(["call", "rotate by size and delete what is old", "call", "rotate by size and delete what is old", "crash"])
@example(["call", "crash", "call", "flush", "rename", "call", "crash"])
@example(["call", "rename", "crash", "call", "rename", "rename and create", "crash"])
@example(["call", "flush", "call", "copy and truncate", "call", "crash"])
@example(["call", "rename", "shift", "call", "rename", "shift", "crash"])
@example(["call", "rename", "call", "flush", "shift", "rotate by size", "shift"])
@example(["call", "call while it is copied and truncated", "crash"])
@example(["call", "flush", "delete", "call while it is copied and truncated", "crash"])
def test_whatever_is_done_to_the_journal_each_call_is_charged_and_recorded_once(operations):
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        try:
            for operation in operations:
                getattr(machine, operation.replace(" ", "_"))()
            machine.check()
        finally:
            machine.close()


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "audit.jsonl")
    yield made
    made.close()


def ids(path: Path) -> list[str]:
    return [r["id"] for r in records(path)]


def test_the_line_after_a_rotation_is_in_the_new_file_and_the_files_are_the_owners_alone(journal):
    journal.append(record("a"))
    old = journal.path.rename(journal.path.with_suffix(".1"))
    journal.append(record("b"))
    assert (ids(old), ids(journal.path)) == (["a"], ["b"])
    assert journal.path.stat().st_mode & 0o777 == 0o600


def test_a_line_written_to_a_file_that_was_deleted_that_moment_is_in_the_next_one_too(journal, monkeypatch):
    write = os.write

    def write_and_delete(fd: int, data: bytes) -> int:
        journal.path.unlink(missing_ok=True)
        monkeypatch.setattr(os, "write", write)
        return write(fd, data)

    journal.append(record("a"))
    monkeypatch.setattr(os, "write", write_and_delete)
    journal.append(record("b"))
    assert ids(journal.path) == ["b"]
    assert journal.backlog == []


@pytest.mark.parametrize("how", ["rename", "truncate"])
def test_a_half_written_line_is_whole_in_the_new_file_and_not_in_the_old(journal, monkeypatch, how):
    write = os.write
    journal.append(record("a"))
    parts = iter([lambda fd, data: write(fd, data[:20]), full_disk])
    monkeypatch.setattr(os, "write", lambda fd, data: next(parts)(fd, data))
    with pytest.raises(OSError, match="No space"):
        journal.append(record("b"))
    monkeypatch.setattr(os, "write", write)
    old = journal.path.with_suffix(".1")
    if how == "rename":
        journal.path.rename(old)
    else:
        os.truncate(journal.path, 0)
    journal.append(record("c"))
    assert ids(journal.path) == ["b", "c"]
    if how == "rename":
        assert [orjson.loads(x)["id"] for x in old.read_bytes().splitlines()] == ["a"]


def full_disk(fd: int, data: bytes) -> int:
    raise OSError(28, "No space left on device")


def test_a_file_emptied_by_hand_stays_empty_of_what_it_had(journal):
    for name in "abc":
        journal.append(record(name))
    os.truncate(journal.path, 0)
    journal.append(record("d"))
    assert ids(journal.path) == ["d"]


def test_a_file_cut_in_the_middle_of_a_line_does_not_spoil_the_next(journal):
    for name in "ab":
        journal.append(record(name))
    os.truncate(journal.path, journal.size - 30)
    journal.append(record("c"))
    assert ids(journal.path) == ["a", "c"]
    assert len(journal.path.read_bytes().splitlines()) == 2


def test_few_lines_are_remembered(journal):
    for i in range(400):
        journal.append(record(f"call_{i}"))
    assert sum(map(len, journal._recent)) == journal._recent_bytes <= RECENT_BYTES


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "audit.jsonl")
    with pytest.raises(OSError, match="regular"):
        Journal(tmp_path / "audit.jsonl")


def test_a_start_does_not_journal_again_what_a_file_moved_elsewhere_holds(files, tmp_path_factory):
    store, journal, ledger = files()
    recover(store, journal, ledger)
    writer = Writer(store, journal, ledger, [0, 0])
    for name in "abc":
        writer.record(record(name))
        writer.flush()
    elsewhere = shutil.move(journal.path, tmp_path_factory.mktemp("old"))
    store, journal, ledger = files()
    assert recover(store, journal, ledger) == {"torn_bytes": 0, "replayed": 0, "interrupted": 0, "rewritten": 0}
    assert (ids(Path(elsewhere)), ids(journal.path)) == (["a", "b", "c"], [])


def test_a_look_at_the_other_files_leaves_the_locks_of_the_database(tmp_path):
    """Without them the next reader takes the database for unused and truncates what it has in memory: the gateway was killed."""
    store = Store(tmp_path / "sluicegate.db")
    store.load(Ledger())

    def locked():
        held = {line.split()[5].rpartition(":")[2] for line in Path("/proc/locks").read_text().splitlines() if "POSIX" in line}
        return {file.name for file in tmp_path.iterdir() if str(file.stat().st_ino) in held}

    before = locked()
    (tmp_path / "audit.jsonl.1").write_bytes(b'{"id":"x"}\n')
    assert other_files(tmp_path / "audit.jsonl") == [tmp_path / "audit.jsonl.1"]
    assert "sluicegate.db-shm" in before
    assert locked() == before
    store.close()


DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("began", "every_ms", "max_bytes", "is_due"),
    [
        ("2023-11-14T22:13:19.000Z", None, None, False),
        ("2023-11-14T00:00:00.000Z", DAY_MS, None, False),
        ("2023-11-13T23:59:59.999Z", DAY_MS, None, True),
        ("2023-11-14T22:13:19.000Z", DAY_MS, 10, True),
        ("2023-11-14T22:13:19.000Z", DAY_MS, 1 << 20, False),
        ("2023-11-14T21:59:59.000Z", 3_600_000, None, True),
        ("no time at all", DAY_MS, None, False),
    ],
)
def test_a_journal_is_rotated_when_it_is_long_or_its_first_line_is_of_an_earlier_period(
    tmp_path, began, every_ms, max_bytes, is_due
):
    path = tmp_path / "audit.jsonl"
    assert rotate(path, NOW, 1, 1) is None
    path.write_bytes(b"")
    assert rotate(path, NOW, 1, 1) is None
    path.write_bytes(orjson.dumps({"id": "call_1", "started_at": began}) + b"\n")
    made = rotate(path, NOW, every_ms, max_bytes)
    assert (made is not None, path.exists()) == (is_due, not is_due)
    if made is not None:
        assert made.name == "audit.jsonl.20231114T221320Z"


def test_two_rotations_within_a_second_overwrite_nothing(tmp_path):
    path = tmp_path / "audit.jsonl"
    for i in range(3):
        path.write_text(f'{{"id":"call_{i}"}}\n')
        assert rotate(path, NOW, None, 1) is not None
    assert sorted(i for file in other_files(path) for i in ids(file)) == ["call_0", "call_1", "call_2"]


def test_old_rotated_journals_are_deleted_but_for_the_newest_and_for_files_of_other_names(tmp_path):
    path = tmp_path / "audit.jsonl"
    for age, name in enumerate(("audit.jsonl", "audit.jsonl.3", "audit.jsonl.2", "audit.jsonl.1", "copy-of-mine.jsonl")):
        (tmp_path / name).write_text('{"id":"call"}\n')
        at = (NOW - age * DAY_MS) * 1_000_000
        os.utime(tmp_path / name, ns=(at, at))
    assert delete_old(path, NOW, 5 * DAY_MS) == []
    assert [f.name for f in delete_old(path, NOW, 2 * DAY_MS)] == ["audit.jsonl.1"]
    assert [f.name for f in delete_old(path, NOW, 0)] == ["audit.jsonl.2"]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["audit.jsonl", "audit.jsonl.3", "copy-of-mine.jsonl"]


def test_the_policy_says_when_and_a_gateway_does_it(tmp_path):
    policy, now = tmp_path / "policy.yaml", [NOW]
    policy.write_text("version: 1\nretention: {audit: 10d, rotate_every: 1d, rotate_megabytes: 100}\n")
    services = Services(policy, tmp_path / "state", {}, clock=lambda: now[0])
    try:
        path = services.journal.path
        for day in range(3):
            services.journal.append(record(f"call_{day}") | {"started_at": iso(now[0])})
            services.upkeep.rotate_journal()
            assert ids(path) == [f"call_{day}"]
            now[0] += DAY_MS
            services.upkeep.rotate_journal()
            assert not path.exists()
        assert len(other_files(path)) == 3
        for file in other_files(path):
            os.utime(file, ns=(NOW * 1_000_000, NOW * 1_000_000))
        now[0] += 11 * DAY_MS
        services.upkeep.rotate_journal()
        assert len(other_files(path)) == 1
    finally:
        services.close()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("retention: {content: 1d}\ncontent_retention: 2d", "write retention.content alone"),
        ("retention: {audit: soon}", "'soon' is not a duration"),
        ("retention: {rotate_megabytes: 0}", "retention.rotate_megabytes"),
        ("retention: {calls: forever}", "retention.calls"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, said, words):
    (tmp_path / "policy.yaml").write_text(f"version: 1\n{said}\n")
    with pytest.raises(PolicyError, match=re.escape(words)):
        load(tmp_path / "policy.yaml", env={}, now=NOW)


@pytest.mark.parametrize(
    ("said", "wanted"), [("", 30), ("content_retention: 2d", 2), ("retention: {content: 3d}", 3), ("retention: {audit: 1d}", 30)]
)
def test_both_names_say_how_long_bodies_stay(tmp_path, said, wanted):
    (tmp_path / "policy.yaml").write_text(f"version: 1\n{said}\n")
    assert load(tmp_path / "policy.yaml", env={}, now=NOW).content_retention == wanted * DAY_MS
