"""Kept answers that one worker has or deletes are so for the others."""

from __future__ import annotations

from pathlib import Path

from sluicegate.caching.answer_file import AnswerFile
from sluicegate.caching.cache_key import KEY_BYTES
from sluicegate.caching.entry import Entry, Owner
from sluicegate.workers.clears import Clears


def test_a_worker_is_told_what_others_delete_from_its_start_on(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    first = Clears(tmp_path)
    first.note({"user_id": "alice"})
    second = Clears(tmp_path)
    assert second.news() == []
    first.note({})
    first.note({"virtual_key_id": "vk-1"})
    assert second.news() == [{}, {"virtual_key_id": "vk-1"}]
    assert second.news() == []
    assert first.news() == [{"user_id": "alice"}, {}, {"virtual_key_id": "vk-1"}]


def test_a_gateway_without_workers_is_told_nothing() -> None:
    alone = Clears(None)
    alone.note({})
    assert alone.news() == []


def test_what_another_worker_keeps_is_found_and_counted(tmp_path: Path) -> None:
    one, two = AnswerFile(tmp_path / "cache.db"), AnswerFile(tmp_path / "cache.db")
    owner = Owner("virtual_key", "vk", "vk", None, None, None)
    assert one.keys_since(0) == (0, [])
    entry = Entry(b"k" * KEY_BYTES, 1_000, 9_000, owner, "anthropic", "claude", "application/json", body=b"{}")
    assert two.put(entry, 1 << 20) == []
    number, keys = one.keys_since(0)
    assert keys == [entry.key]
    assert one.count == 1
    assert one.keys_since(number) == (number, [])
    one.close()
    two.close()
