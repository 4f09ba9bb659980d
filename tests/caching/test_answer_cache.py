"""Kept answers: what is found again, how much room they take, what survives, and calls that wait for one another."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.caching import answer_file
from sluicegate.caching.answer_cache import AnswerCache
from sluicegate.caching.answer_file import EVICTED_AT_ONCE, MOST_EVICTIONS, AnswerFile
from sluicegate.caching.cache_key import KEY_BYTES, CacheKey
from sluicegate.caching.coalescing import PendingAnswers
from sluicegate.caching.entry import Entry, Owner, fresh_id, identity_of
from sluicegate.caching.forms.asked import Asked
from sluicegate.caching.keyed_hash import SHORT_HASH_BYTES
from sluicegate.caching.rules import ExactRules
from sluicegate.policy.cache_schema import ExactCache
from sluicegate.policy.loader import load
from sluicegate.values import Usage
from support.hypothesis_profiles import examples

ALICE, BOB = Owner("user", "alice", "vk-1", "alice", "eng"), Owner("team", "eng", "vk-2", "bob", "eng")
RULES = ExactRules.of(ExactCache(enabled=True))
MUCH = 1 << 30
AS_KEPT = Asked(None)


class Made(CacheKey):
    """A key that is made already."""

    __slots__ = ()

    def __init__(self, whole: bytes) -> None:
        self._whole, self._meaning = whole, None
        self.short = whole[:SHORT_HASH_BYTES]
        self._hash_value = hash(self.short)


class Whole:
    """An answer that is to be kept as it is here."""

    def __init__(self, entry: Entry) -> None:
        self._entry, self.size = entry, len(entry.body)

    def entry(self, key: bytes) -> Entry:
        return replace(self._entry, key=key)


def entry(number: int = 1, body: bytes = b'{"id": "msg_01abc"}', owner: Owner = ALICE, at: int = 1000, **more: Any) -> Entry:
    fields: dict[str, Any] = {"until": at + 3_600_000, "provider": "anthropic", "model": "m", "content_type": "application/json"}
    return Entry(number.to_bytes(KEY_BYTES), at, owner=owner, body=body, **(fields | more))


@pytest.fixture
def file(tmp_path: Path) -> AnswerFile:
    return AnswerFile(tmp_path / "cache.db")


def test_what_is_kept_is_found_as_it_was_and_by_nobody_else(file):
    usage = Usage(input_tokens=3, cache_write_1h_tokens=2, model="m", iterations=(Usage(output_tokens=1, speed="fast"),))
    kept = entry(body=os.urandom(10_000), usage=usage, answer_id="msg_01", created_s=5)
    assert file.put(kept, MUCH) == []
    assert file.get(kept.key) == kept
    file.close()
    again = AnswerFile(file.path)
    assert again.kept_keys() == [kept.key]
    assert again.get(kept.key) == kept
    assert (again.secret, again.count, again.size) == (file.secret, 1, file.size)
    assert again.get(entry(2).key) is None
    assert file.path.stat().st_mode & 0o777 == 0o600
    again.close()


def test_a_new_answer_takes_the_place_of_the_one_before(file):
    file.put(entry(body=b"one"), MUCH)
    file.put(entry(body=b"two"), MUCH)
    assert file.get(entry().key).body == b"two"
    assert file.count == 1
    file.close()


@settings(max_examples=examples(15))
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40_000)), min_size=1, max_size=25), st.integers(50_000, 200_000))
def test_they_never_take_more_room_than_they_may(tmp_path_factory, puts, most):
    file = AnswerFile(tmp_path_factory.mktemp("room") / "cache.db")
    alive: set[bytes] = set()
    for at, (number, size) in enumerate(puts):
        kept = entry(number, os.urandom(size), at=at)
        gone = file.put(kept, most)
        assert gone is not None
        alive = (alive | {kept.key}) - set(gone)
        assert file.size <= most
        assert {*file.kept_keys()} == alive
        assert kept.key in alive
    file.close()
    assert file.path.stat().st_size <= most + 40_960
    assert AnswerFile(file.path).get(kept.key) == kept


@pytest.mark.parametrize("sizes", [(100, 20_000), (100_000, 200_000)])
def test_all_that_is_on_the_disk_stays_within_the_room_log_and_free_pages_too(file, monkeypatch, sizes):
    monkeypatch.setattr(answer_file, "LOG_BYTES", 200_000)
    most, chance, written, number = 2_000_000, Random(1), 0, 0
    while written < 3 * most and number < 1000:
        size, number = chance.randint(*sizes), number + 1
        written += size
        file.put(entry(number, chance.randbytes(size), at=number), most)
        assert sum(p.stat().st_size for p in file.path.parent.iterdir()) <= most
    assert file.size > most // 3
    # Less room, of an operator's disk that is full, is reached step by step: no look-up waits for all of it.
    kept, gone = file.count, file.put(entry(number + 1, at=number + 1), most // 20)
    assert 0 < len(gone) <= MOST_EVICTIONS * EVICTED_AT_ONCE
    for more in range(number + 2, number + 2 + kept // 200):
        file.put(entry(more, at=more), most // 20)
    assert file.size <= most // 20
    file.close()


def test_no_more_answers_are_kept_than_may_be(file, monkeypatch):
    monkeypatch.setattr(answer_file, "MAX_ENTRIES", 50)
    for number in range(200):
        file.put(entry(number, at=number), MUCH)
        assert file.count <= 50
    assert {int.from_bytes(k) for k in file.kept_keys()} == {*range(150, 200)}
    assert file.evicted == 150
    file.close()


def test_room_is_made_though_another_process_has_deleted_what_was_counted(file):
    for number in range(5):
        file.put(entry(number, os.urandom(3000), at=number), 100_000)
    other = AnswerFile(file.path)
    while other.clear({}):
        pass
    other.close()
    assert file.put(entry(9, os.urandom(9000)), 20_000) == []
    assert (file.count, file.kept_keys()) == (1, [entry(9).key])
    file.close()


def test_what_was_used_last_stays(file):
    for number in range(3):
        file.put(entry(number, os.urandom(3000), at=number), 26_000)
    file.note_hits({entry(0).key: (1, 7, 100)})
    file.put(entry(3, os.urandom(9000), at=101), 26_000)
    assert {int.from_bytes(k) for k in file.kept_keys()} == {0, 3}
    assert [(r["hits"], r["saved_nano"], r["used"]) for r in file.page(9, None, {})] == [(0, 0, 101), (1, 7, 100)]
    file.close()


def test_an_answer_that_is_larger_than_all_room_is_not_kept(file):
    assert file.put(entry(body=os.urandom(9000)), 8000) is None
    assert file.get(entry().key) is None
    file.close()


def test_old_answers_and_those_beyond_a_smaller_room_go(file):
    for number in range(40):
        file.put(entry(number, os.urandom(3000), at=number), MUCH)
    while file.trim(3_600_010, MUCH):
        pass
    assert {int.from_bytes(k) for k in file.kept_keys()} == {*range(11, 40)}
    while file.trim(0, 30_000):
        pass
    assert file.size <= 30_000
    assert file.count == 5
    file.close()


def test_the_answers_of_one_user_are_gone_from_the_disk_too(file):
    secret = os.urandom(500)
    file.put(entry(1, secret), MUCH)
    file.put(entry(2, b"bobs", owner=BOB), MUCH)
    assert secret[100:400] in on_disk(file)
    row = file.page(1, 2, {})[0]
    assert row["user_id"] == "alice"
    assert file.clear({"user_id": "alice"}) == [entry(1).key]
    assert file.clear({"user_id": "alice"}) == []
    assert [r["user_id"] for r in file.page(9, None, {})] == ["bob"]
    assert secret[100:116] not in on_disk(file)
    assert file.count == 1
    file.close()


def on_disk(file: AnswerFile) -> bytes:
    return b"".join(p.read_bytes() for p in file.path.parent.iterdir())


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM secret",
        "UPDATE secret SET value = 'x'",
        "DROP TABLE bodies",
        "DROP TABLE answers",
        "UPDATE answers SET key = NULL",
        "PRAGMA user_version = 0; CREATE TABLE of_others (x)",
    ],
)
def test_a_file_that_lacks_what_it_must_hold_costs_answers_and_nothing_else(tmp_path, damage):
    async def work() -> None:
        first = AnswerCache(tmp_path)
        await first.open()
        await kept(first, entry(1))
        first.close()
        with sqlite3.connect(tmp_path / "cache.db") as conn:
            conn.executescript(damage)
        conn.close()
        again = AnswerCache(tmp_path)
        assert await again.open() is None or await again.find(entry(1).key, 2000, MUCH, AS_KEPT) is None
        assert await again.open() is not None
        await kept(again, entry(2))
        secret = again.file.secret
        again.close()
        last = AnswerCache(tmp_path)
        await last.open()
        assert (await last.find(entry(2).key, 2000, MUCH, AS_KEPT)).body == entry(2).body
        assert last.file.secret == secret
        last.close()

    run(work())


async def kept(cache: AnswerCache, one: Entry) -> None:
    pending = cache.pending.begin(Made(one.key))
    assert pending is not None
    cache.keep(Whole(one), pending, RULES)
    await pending.result


def test_a_full_disk_costs_one_answer_and_the_counts_stay_right(file, caplog):
    file.put(entry(1, os.urandom(3000)), MUCH)
    before = file.size, file.count
    conn = file._conn
    (pages,) = conn.execute("PRAGMA page_count").fetchone()
    conn.execute(f"PRAGMA max_page_count = {pages}")
    assert file.put(entry(2, os.urandom(30_000)), MUCH) is None
    assert "cannot be kept" in caplog.text
    assert "discarded" not in caplog.text
    assert (file.size, file.count) == before
    conn.execute("PRAGMA max_page_count = 100000")
    assert file.put(entry(2, os.urandom(30_000)), MUCH) == []
    assert file.count == 2
    file.close()


def test_a_file_elsewhere_is_used_through_a_link_and_nothing_else_is_touched(tmp_path):
    """An operator may put the file on another disk; what is not a file of ours loses the link alone."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "state").mkdir()
    target = tmp_path / "disk" / "answers.db"
    target.touch()
    (tmp_path / "state" / "cache.db").symlink_to(target)
    linked = AnswerFile(tmp_path / "state" / "cache.db")
    linked.put(entry(1), MUCH)
    linked.close()
    assert AnswerFile(target).get(entry(1).key) == entry(1)
    with sqlite3.connect(tmp_path / "disk" / "others.db") as conn:
        conn.execute("CREATE TABLE answers_of_others (x)")
        assert conn.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)
    conn.close()
    linked.path.unlink()
    linked.path.symlink_to(tmp_path / "disk" / "others.db")
    assert linked.put(entry(2), MUCH) is None
    assert linked.put(entry(2), MUCH) == []
    assert not linked.path.is_symlink()
    linked.close()
    with sqlite3.connect(tmp_path / "disk" / "others.db") as conn:
        assert conn.execute("SELECT name FROM sqlite_master").fetchall() == [("answers_of_others",)]
    conn.close()


@pytest.mark.parametrize("how", ["truncated", "swapped", "deleted", "unwritable"])
def test_what_is_done_to_the_file_of_a_running_gateway_costs_answers_and_nothing_else(tmp_path, how, caplog):
    async def work() -> None:
        cache = AnswerCache(tmp_path)
        await cache.open()
        for n in range(3):
            await kept(cache, entry(n, b'{"id": "msg_01abc", "x": "%s"}' % os.urandom(9000).hex().encode()))
        cache._hot.clear()
        file = tmp_path / "cache.db"
        if how == "truncated":
            os.truncate(file, 0)
        elif how == "swapped":
            (tmp_path / "other").mkdir()
            other = AnswerFile(tmp_path / "other" / "cache.db")
            other.put(entry(0, b'{"id": "msg_of_another"}'), MUCH)
            other.close()
            other.path.replace(file)
        elif how == "deleted":
            file.unlink()
        else:
            cache.file._conn.execute("PRAGMA query_only = 1")
        found = [await cache.find(entry(n).key, 2000, MUCH, AS_KEPT) for n in range(3)]
        assert all(one is None or one.body.startswith(b'{"id": "msg_01abc"') for one in found)
        for n in range(2):
            pending = cache.pending.begin(Made(entry(10 + n).key))
            cache.keep(Whole(entry(10 + n)), pending, RULES)
            result = await pending.result
            assert result == "not_shared" or result.body == entry().body
        cache.close()
        again = AnswerCache(tmp_path)
        await again.open()
        found = [await again.find(entry(n).key, 2000, MUCH, AS_KEPT) for n in (1, 2, 10)]
        assert all(one is None or b"msg_01abc" in one.body for one in found)
        await again.open()
        await kept(again, entry(20))
        assert await again.find(entry(20).key, 2000, MUCH, AS_KEPT) is not None
        again.close()

    run(work())
    assert "Traceback" not in caplog.text


def test_of_many_answers_memory_and_file_know_the_same_ones_before_and_after_a_restart(tmp_path, monkeypatch):
    """What a run of 400,000 against the real limit shows, in small; docs/caching.md has its figures."""
    monkeypatch.setattr(answer_file, "MAX_ENTRIES", 100)

    async def work() -> None:
        cache = AnswerCache(tmp_path)
        await cache.open()
        for n in range(400):
            await kept(cache, entry(n << 80, at=1000 + n))
        newest = {entry(n << 80).key for n in range(300, 400)}
        assert {row["at"] for row in cache.page(1000, None, {})} == set(range(1300, 1400))
        assert (len(cache._known), all(key in cache._known for key in newest)) == (100, True)
        assert set(cache._hot) == newest
        assert (cache.file.count, cache.file.evicted) == (100, 300)
        cache.close()
        again = AnswerCache(tmp_path)
        await again.open()
        assert again._known._of_short == cache._known._of_short
        assert (again.file.count, again.file.size) == (cache.file.count, cache.file.size)
        again.close()

    run(work())


def test_old_answers_are_gone_from_the_log_of_the_file_too(tmp_path):
    async def work() -> None:
        cache = AnswerCache(tmp_path)
        await cache.open()
        await kept(cache, entry(1, owner=Owner("user", "x", "vk-of-nobody")))
        assert b"vk-of-nobody" in on_disk(cache.file)
        file = tmp_path / "policy.yaml"
        file.write_text("version: 1\ncache: {exact: {enabled: true}}")
        cache.housekeep(1 << 60, load(file, env={}, now=0))
        assert b"vk-of-nobody" not in on_disk(cache.file)
        cache.close()

    run(work())


@pytest.mark.parametrize("damage", ["text", "cut", "flipped"])
def test_a_damaged_file_costs_answers_and_nothing_else(file, caplog, damage):
    for number in range(60):
        file.put(entry(number, os.urandom(3000)), MUCH)
    file.close()
    raw = file.path.read_bytes()
    spoilt = {"text": b"no database" * 999, "cut": raw[: len(raw) // 3], "flipped": raw[:8192] + bytes(8192) + raw[16384:]}
    file.path.write_bytes(spoilt[damage])
    again = AnswerFile(file.path)
    with caplog.at_level(logging.WARNING, "sluicegate"):
        found = [again.get(entry(number).key) for number in range(60)]
    assert None in found
    assert "discarded" in caplog.text
    again.put(entry(99), MUCH)
    assert again.get(entry(99).key) == entry(99)
    again.close()


def test_one_answer_that_is_damaged_is_asked_for_again(file, caplog):
    file.put(entry(1, os.urandom(500)), MUCH)
    file.close()
    with sqlite3.connect(file.path) as conn:
        (body,) = conn.execute("SELECT body FROM bodies").fetchone()
        conn.execute("UPDATE bodies SET body = ?", (body[:100] + bytes([body[100] ^ 1]) + body[101:],))
    conn.close()
    assert file.get(entry(1).key) is None
    assert file.kept_keys() == []
    assert "damaged" in caplog.text
    file.close()


# -- an answer given again --


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"content": [{"id": "toolu_0123456"}], "id": "msg_0123456"}', ("msg_0123456", None)),
        (b'event: message_start\ndata: {"message": {"id": "msg_0123456"}, "type": "message_start"}\n\n', ("msg_0123456", None)),
        (
            b'data: {"id":"chatcmpl-123456","created":1700000000,"choices":[]}\n\ndata: [DONE]\n\n',
            ("chatcmpl-123456", 1_700_000_000),
        ),
        (b'data: {"type":"response.created","response":{"id":"resp_123456","created_at":17}}\n\n', ("resp_123456", 17)),
        (b'data: {"candidates":[],"responseId":"abcdefghij"}\r\n\r\n', ("abcdefghij", None)),
        (b'[{"candidates":[]}]', (None, None)),
        ('{"id": "é23456789"}'.encode(), (None, None)),
        (b'{"id": 7, "created": true}', (None, None)),
    ],
)
def test_what_must_be_fresh_is_found_in_every_form(body, found):
    assert identity_of(body) == found


def test_only_the_answers_own_id_and_time_are_renewed():
    text = b'{"id":"resp_abcdefgh","created_at": 17,"completed_at":17,"text":"\\"created_at\\":17 resp_abcdefgh","n":17,"x":"resp_abcdefgh"}'
    again = entry(body=text, answer_id="resp_abcdefgh", created_s=17).given_again(99_000)
    new = again[7:20]
    assert new != b"resp_abcdefgh"
    assert again == (
        b'{"id":"%s","created_at": 99,"completed_at":99,"text":"\\"created_at\\":17 resp_abcdefgh","n":17,"x":"%s"}' % (new, new)
    )


@pytest.mark.parametrize("known", ["msg_01XFDUDYJgAACzvnptvVoYEL", "chatcmpl-abc123", "resp_67ccd2bed1ec8190", "gen9876543"])
def test_a_fresh_id_is_of_the_same_form(known):
    made = {fresh_id(known) for _ in range(20)}
    assert len(made) == 20
    assert {len(x) for x in made} == {len(known)}
    assert {x[:4] for x in made} == {known[:4]} or known == "gen9876543"


@pytest.mark.parametrize(
    ("age", "read", "written"), [(299_999, 107, 0), (300_000, 105, 2), (3_600_000, 100, 7)], ids=["minutes", "an hour", "later"]
)
def test_what_is_saved_is_what_asking_again_would_cost(age, read, written):
    used = Usage(input_tokens=1, cache_read_tokens=100, cache_write_5m_tokens=2, cache_write_1h_tokens=5)
    again = entry(at=0, usage=used).repeated_usage(age)
    assert (again.cache_read_tokens, again.cache_write_5m_tokens + again.cache_write_1h_tokens) == (read, written)
    assert again.total_tokens == used.total_tokens


# -- in the event loop --


def run(work: Any) -> Any:
    return asyncio.run(work)


def test_an_answer_is_found_after_a_restart_and_not_when_it_is_too_old(tmp_path):
    async def first() -> None:
        cache = AnswerCache(tmp_path)
        await cache.open()
        begun = cache.pending.begin(Made(entry().key))
        cache.keep(Whole(entry()), begun, RULES)
        assert await begun.result == entry(answer_id="msg_01abc")
        cache.close()

    async def second() -> None:
        cache = AnswerCache(tmp_path)
        await cache.open()
        found = [
            await cache.find(entry().key, *asked, AS_KEPT)
            for asked in ((2000, 3_600_000), (2000, 1000), (3_601_000, MUCH), (0, MUCH))
        ]
        assert [f is not None for f in found] == [True, False, False, False]
        cache.note_hit(found[0], 2000, 9)
        file = tmp_path / "policy.yaml"
        file.write_text("version: 1\ncache: {exact: {enabled: true}}")
        cache.housekeep(2000, load(file, env={}, now=0))
        assert [(r["hits"], r["saved_nano"]) for r in cache.page(9, None, {})] == [(1, 9)]
        assert [cache.matching(owned) for owned in (None, {"model": "m"}, {"model": "other"})] == [1, 1, 0]
        assert cache.clear({"model": "m"}) == 1
        assert cache.matching() == 0
        assert await cache.find(entry().key, 2000, MUCH, AS_KEPT) is None
        cache.close()

    run(first())
    run(second())


def test_that_nothing_is_kept_is_known_without_a_look_at_the_disk(tmp_path):
    async def work() -> None:
        first = AnswerCache(tmp_path)
        await first.open()
        await kept(first, entry(1 << 130))
        first.close()
        cache = AnswerCache(tmp_path)
        assert cache.hashed is None
        await cache.open()
        assert [cache.may_have(Made(entry(number << 130).key)) for number in (1, 2)] == [True, False]
        cache.clear()
        assert not cache.may_have(Made(entry(1 << 130).key))
        cache.close()

    run(work())


def test_what_nobody_can_read_is_no_answer_for_others(tmp_path):
    async def work() -> None:
        cache = AnswerCache(tmp_path)
        begun = cache.pending.begin(Made(b"k"))
        cache.keep(Whole(entry(body=b"data: nothing")), begun, RULES)
        assert await begun.result == "not_shared"
        assert await cache.find(entry().key, 2000, MUCH, AS_KEPT) is None
        cache.close()

    run(work())


def test_what_is_cleared_is_gone_from_memory_and_no_call_under_way_brings_it_back(tmp_path):
    async def work() -> None:
        cache = AnswerCache(tmp_path)
        await cache.open()
        pending = cache.pending.begin(Made(entry(1).key))
        cache.clear({"user_id": "alice"})
        cache.keep(Whole(entry(1)), pending, RULES)
        assert (await pending.result).body == entry(1).body
        assert await cache.find(entry(1).key, 2000, MUCH, AS_KEPT) is None
        await kept(cache, entry(2))
        await kept(cache, entry(3, owner=BOB))
        # The file loses them by itself.
        cache.file.clear({})
        cache.clear({"user_id": "alice", "model": "m"})
        assert await cache.find(entry(2).key, 2000, MUCH, AS_KEPT) is None
        assert await cache.find(entry(3).key, 2000, MUCH, AS_KEPT) is not None
        cache.clear()
        assert await cache.find(entry(3).key, 2000, MUCH, AS_KEPT) is None
        assert cache._hot_bytes == 0
        cache.close()

    run(work())


def test_an_answer_that_is_being_read_while_it_is_cleared_is_not_remembered(tmp_path, monkeypatch):
    async def work() -> None:
        first = AnswerCache(tmp_path)
        await first.open()
        await kept(first, entry(1))
        first.close()
        cache = AnswerCache(tmp_path)
        await cache.open()
        reading = asyncio.ensure_future(cache.find(entry(1).key, 2000, MUCH, AS_KEPT))
        await asyncio.sleep(0)
        # The file is read by now or soon, and the loop has not taken what was found.
        assert cache.clear() == 1
        await reading
        assert await cache.find(entry(1).key, 2000, MUCH, AS_KEPT) is None
        cache.close()

    run(work())


def test_memory_is_bounded_whatever_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("sluicegate.caching.answer_cache.MAX_MEMORY_BYTES", 8000)

    async def work() -> None:
        cache = AnswerCache(tmp_path)
        await cache.open()
        for number in range(20):
            begun = cache.pending.begin(Made(entry(number).key))
            cache.keep(Whole(entry(number, b'{"x": "' + bytes([48 + number]) * 900 + b'"}')), begun, RULES)
            await begun.result
        # Small answers take more memory than their bodies have bytes.
        assert sum(1024 + len(e.body) for e in cache._hot.values()) == cache._hot_bytes <= 8000
        assert [(await cache.find(entry(n).key, 2000, MUCH, AS_KEPT)).body[7] for n in range(20)] == [*range(48, 68)]
        cache.close()

    run(work())


@pytest.mark.parametrize("result", [entry(), "not_shared", None], ids=["answer", "not_shared", "left"])
def test_whoever_waits_is_told_what_came_of_it(result):
    async def work() -> None:
        pending = PendingAnswers()
        begun = pending.begin(Made(b"k"))
        assert pending.begin(Made(b"k")) is None
        waiting = [asyncio.create_task(pending.wait(Made(b"k"), 60)) for _ in range(5)]
        await asyncio.sleep(0)
        assert pending.waiting == 5
        waiting[0].cancel()
        pending.finish(begun, result)
        pending.finish(begun, "not_shared")
        assert await asyncio.gather(*waiting[1:]) == [result] * 4
        assert pending.waiting == 0
        assert pending.begin(Made(b"k")) is not None

    run(work())


def test_a_call_whose_client_has_left_waits_no_longer(monkeypatch):
    monkeypatch.setattr("sluicegate.caching.coalescing._LOOK_S", 0.001)

    async def work() -> None:
        pending, looks = PendingAnswers(), iter([False, False, True])
        begun = pending.begin(Made(b"k"))
        assert await pending.wait(Made(b"k"), 60, lambda: next(looks)) == "not_shared"
        assert (pending.waiting, pending.by_key) == (0, {Made(b"k"): begun})

    run(work())


def test_no_call_waits_for_ever():
    async def work() -> None:
        pending = PendingAnswers()
        begun = pending.begin(Made(b"k"))
        assert await pending.wait(Made(b"k"), 0.001) == "not_shared"
        # Nobody else begins to wait for it, and it may still end.
        second = pending.begin(Made(b"k"))
        pending.finish(begun, None)
        assert pending.by_key == {Made(b"k"): second}

    run(work())
