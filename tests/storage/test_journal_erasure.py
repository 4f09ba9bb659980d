"""Rewriting journals without a person: cut off at any step and repeated, no line is lost and nothing tells of them."""

from __future__ import annotations

import itertools
import os

import orjson
import pytest

from sluicegate.calls.personal_data import Person
from sluicegate.storage import journal_erasure, journal_files
from sluicegate.storage.journal_erasure import erase_from_journals
from sluicegate.storage.journal_files import other_files, records_in_other_files
from support.calls import record

PERSON = Person("quilla", "erased-1", {"vk-quilla": "erased-1-1"}, ("Quilla Quince",))
FILES = 3


class Cut(BaseException):
    """The process ends here."""


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "audit.jsonl"
    for number in range(FILES):
        hers = record(f"call_{number}", 5, user_id="quilla", virtual_key_id="vk-quilla", client_address="198.51.100.7")
        his = record(f"call_{number}_of_bob", 7, user_id="bob", virtual_key_id="vk-quilla-2", labels='{"of":"quilla+2"}')
        lines = [*map(orjson.dumps, (hers, his)), b'{"id": "torn", "user_id": "quilla', b"\xff\x00 no record", b"[]"]
        file = tmp_path / f"audit.jsonl.{number}"
        file.write_bytes(b"\n".join(lines) + b"\n")
        os.utime(file, ns=(10**18 + number, 10**18 + number))
    path.write_bytes(b'{"kind": "erasure", "at": "2026-11-27T12:00:00.000Z"}\n')
    return path


def traces(folder):
    return [p.name for p in folder.iterdir() for t in (b'quilla"', b'vk-quilla"', b"198.51.100.7") if t in p.read_bytes()]


def calls(path):
    return [(r["id"], r["user_id"], r["virtual_key_id"], r["cost_nano"]) for r in records_in_other_files(path)]


def cut_at(monkeypatch, step):
    """Let the process end before the given of all steps that touch the disk; return a list with what is left to do."""
    left = [step]
    for where, name in ((os, "replace"), (os, "fsync"), (os, "open"), (journal_erasure.shutil, "copystat")):
        done = getattr(where, name)

        def counted(*arguments, done=done, **named):
            if not left[0]:
                raise Cut
            left[0] -= 1
            return done(*arguments, **named)

        monkeypatch.setattr(where, name, counted)
    return left


def test_cut_off_at_any_step_it_is_finished_by_repeating(journal, monkeypatch):
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in other_files(journal)}
    wanted = []
    for i in range(FILES):
        wanted += [(f"call_{i}", "erased-1", "erased-1-1", 5), (f"call_{i}_of_bob", "bob", "vk-quilla-2", 7)]
    current = journal.read_bytes()
    for step in itertools.count():
        for name, (data, at) in before.items():
            journal.with_name(name).write_bytes(data)
            os.utime(journal.with_name(name), ns=(at, at))
        with monkeypatch.context() as patched:
            left = cut_at(patched, step)
            try:
                erase_from_journals(journal, PERSON)
            except Cut:
                pass
        # Whatever the step, what is read afterwards is each line once, in its order.
        assert [row[0] for row in calls(journal)] == [row[0] for row in wanted], step
        if left[0]:
            break
        erase_from_journals(journal, PERSON)
        assert (calls(journal), traces(journal.parent)) == (wanted, []), step
        assert {f.name: f.stat().st_mtime_ns for f in other_files(journal)} == {name: at for name, (_, at) in before.items()}
    assert step > 3 * FILES
    assert journal.read_bytes() == current
    assert sorted(p.name for p in journal.parent.iterdir()) == sorted([journal.name, *before])


def test_a_file_without_the_person_is_left_as_it_is(journal):
    erase_from_journals(journal, PERSON)
    inodes = [file.stat().st_ino for file in other_files(journal)]
    assert erase_from_journals(journal, PERSON) == 0
    assert [file.stat().st_ino for file in other_files(journal)] == inodes
    assert all(b"\xff\x00 no record\n[]\n" in file.read_bytes() for file in other_files(journal))


def test_a_journal_that_is_deleted_while_it_is_looked_at_is_left_out(journal, monkeypatch):
    read = journal_files._read

    def read_and_delete(file, start, end):
        data = read(file, start, end)
        if file.name == "audit.jsonl.1":
            file.unlink()
        return data

    monkeypatch.setattr(journal_files, "_read", read_and_delete)
    assert [file.name for file in other_files(journal)] == ["audit.jsonl.0", "audit.jsonl.2"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_rewrites_belongs_to_the_gateways_user(journal):
    for file in other_files(journal):
        os.chown(file, 12_345, 12_345)
    assert erase_from_journals(journal, PERSON) == 2 * FILES
    assert {(f.stat().st_uid, f.stat().st_gid) for f in other_files(journal)} == {(12_345, 12_345)}
