"""The journal: no line is lost."""

from __future__ import annotations

import os

import pytest

from sluicegate.storage.journal import Journal
from sluicegate.storage.journal_files import records
from support.calls import record


def test_a_line_that_could_not_be_written_is_written_with_the_next(tmp_path):
    journal = Journal(tmp_path / "audit.jsonl")
    good = journal._fd
    journal._fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space"):
        journal.append(record("a"))
    journal._fd = good
    journal.append(record("b"))
    assert [r["id"] for r in records(journal.path)] == ["a", "b"]
    journal.close()
