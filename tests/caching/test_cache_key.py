"""Keys that are made as far as they are needed: no kept answer and no call under way is overlooked, and no body is hashed in vain."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.caching import answer_cache, answer_file
from sluicegate.caching.answer_cache import AnswerCache
from sluicegate.caching.cache_key import KEY_BYTES, CacheKey, KnownKeys
from sluicegate.caching.entry import Entry, Owner
from sluicegate.caching.forms.asked import Asked
from sluicegate.caching.keyed_hash import SHORT_HASH_BYTES, KeyedHash
from sluicegate.caching.meaning import Scope, meaning_of
from sluicegate.caching.rules import ExactRules
from sluicegate.calls.call import Call
from sluicegate.policy.cache_schema import ExactCache
from sluicegate.policy.loader import load
from sluicegate.values import RequestFacts
from support.hypothesis_profiles import examples

RULES = ExactRules.of(ExactCache(enabled=True))
MUCH = 1 << 30
AS_KEPT = Asked(None)
ALICE = Owner("user", "alice", "vk-1", "alice", "eng")
LONG = 20_000


class Watched(KeyedHash):
    """A hash that says which threads have hashed whole calls with it."""

    def __init__(self, secret: bytes = bytes(32)) -> None:
        super().__init__(secret)
        self.threads: list[str] = []

    def of(self, parts: Iterable[bytes | memoryview]) -> bytes:
        self.threads.append(threading.current_thread().name)
        return super().of(parts)


def key_of(hashed: KeyedHash, messages: bytes = b"", model: str = "m", scope: str = "alice", **members: bytes) -> CacheKey:
    named = {name: msgspec.Raw(value) for name, value in {"messages": messages, **members}.items()}
    call = Call("call_1", 0, "anthropic", "messages")
    facts = RequestFacts(model, body_bytes=sum(map(len, (messages, *members.values()))), members=named)
    return CacheKey(hashed, meaning_of(call, facts, ("POST", "/v1/messages", ()), Scope("user", scope), "api"))


def middle(letter: bytes) -> bytes:
    """Return a conversation that differs from others in one byte, far from both ends."""
    return b"[" + b"x" * (LONG // 2) + letter + b"x" * (LONG // 2) + b"]"


def answer(text: str = "a", at: int = 1000) -> Entry:
    body = b'{"id": "msg_01abcdef", "text": "%s"}' % text.encode()
    return Entry(b"", at, at + 3_600_000, ALICE, "anthropic", "m", "application/json", body)


class Whole:
    """An answer that is to be kept as it is here."""

    def __init__(self, entry: Entry) -> None:
        self._entry, self.size = entry, len(entry.body)

    def entry(self, key: bytes) -> Entry:
        return replace(self._entry, key=key)


async def keep(cache: AnswerCache, key: CacheKey, one: Entry) -> None:
    pending = cache.pending.begin(key)
    assert pending is not None
    cache.keep(Whole(one), pending, RULES)
    await pending.result


async def text_of(cache: AnswerCache, key: CacheKey) -> str | None:
    found = await cache.find(key.whole, 2000, MUCH, AS_KEPT)
    return None if found is None else msgspec.json.decode(found.body)["text"]


# -- one key --


sizes = st.sampled_from([0, 1, 64, 191, 192, 256, 511, 512, 513, 600, 3000])
bodies = st.builds(
    lambda size, at, letter: b"x" * min(at, size) + letter * (size > 0) + b"x" * max(0, size - at - 1),
    sizes,
    st.integers(0, 3000),
    st.sampled_from([b"x", b"y"]),
)


@settings(max_examples=examples(150))
@given(st.tuples(bodies, bodies), st.tuples(bodies, bodies))
def test_calls_that_mean_the_same_have_the_same_short_key_and_others_another_whole_one(one, other):
    hashed = Watched()
    keys = [key_of(hashed, messages, system=system) for messages, system in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)
    assert {len(key.whole) for key in keys} == {KEY_BYTES}
    assert all(key.whole.startswith(key.short) for key in keys)
    # Equal keys are found by it; what is compared with another short key is not hashed for that.
    assert hash(keys[0]) == hash(keys[1]) or keys[0].short != keys[1].short
    assert one != other or keys[0].short == keys[1].short


@pytest.mark.parametrize(
    "more",
    [
        {"messages": middle(b"a") + b" "},
        {"messages": middle(b"a")[:-2] + b"y]"},
        {"model": "n"},
        {"scope": "bob"},
        {"stop": b'"x"'},
        {"temperature": b"0"},
    ],
    ids=["length", "end", "model", "scope", "member", "value"],
)
def test_calls_that_differ_in_what_usually_differs_are_told_apart_without_their_bodies(more):
    hashed = Watched()
    one, other = key_of(hashed, middle(b"a")), key_of(hashed, **({"messages": middle(b"a")} | more))
    assert one != other
    assert hashed.threads == []


def test_a_short_key_says_nothing_without_the_secret():
    keys = [key_of(KeyedHash(secret), middle(b"a")) for secret in (bytes(32), bytes(range(32)))]
    assert keys[0].short != keys[1].short


def test_the_body_is_let_go_once_it_is_hashed_and_several_threads_may_ask():
    hashed = Watched()
    keys = [key_of(hashed, middle(b"a")) for _ in range(50)]
    assert keys[0].held_bytes > LONG
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda key: key.whole, [key for key in keys for _ in range(4)]))
    assert len(set(found)) == 1
    assert {key.held_bytes for key in keys} == {0}
    count = len(hashed.threads)
    assert keys[0] == keys[1]
    assert len(hashed.threads) == count


# -- known keys --


@settings(max_examples=examples(100))
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.integers(0, 3)), max_size=40))
def test_known_keys_are_a_set_whatever_they_share(steps):
    known, expected = KnownKeys(), set()
    for is_added, short, rest in steps:
        key = short.to_bytes(SHORT_HASH_BYTES) + rest.to_bytes(SHORT_HASH_BYTES) + bytes(KEY_BYTES - 2 * SHORT_HASH_BYTES)
        (known.add if is_added else known.discard)([key])
        (expected.add if is_added else expected.discard)((short, rest, key))
        assert len(known) == len(expected)
        assert all(one in known for _, _, one in expected)
        assert (key in known) == is_added
        shorts = {one for one, _, _ in expected}
        assert [known.has_short(n.to_bytes(SHORT_HASH_BYTES)) for n in range(3)] == [n in shorts for n in range(3)]


# -- in the event loop --


def test_a_call_that_has_no_answer_is_hashed_by_the_thread_and_only_if_its_own_is_kept(tmp_path):
    async def work() -> None:
        cache, hashed = AnswerCache(tmp_path), Watched()
        await cache.open()
        kept, dropped = key_of(hashed, middle(b"a")), key_of(hashed, middle(b"a"), model="n")
        assert [cache.may_have(key) for key in (kept, dropped)] == [False, False]
        left = cache.pending.begin(dropped)
        assert left is not None
        await keep(cache, kept, answer())
        cache.pending.finish(left, "not_shared")
        assert hashed.threads == ["sluicegate-cache"]
        again = key_of(hashed, middle(b"a"))
        assert cache.may_have(again)
        assert await text_of(cache, again) == "a"
        cache.close()

    asyncio.run(work())


def test_an_identical_call_finds_the_one_under_way_and_one_that_is_only_alike_does_not(tmp_path):
    async def work() -> None:
        cache, hashed = AnswerCache(tmp_path), Watched()
        await cache.open()
        begun = {letter: cache.pending.begin(key_of(hashed, middle(letter))) for letter in (b"a", b"b", b"c")}
        assert None not in begun.values()
        assert [cache.pending.begin(key_of(hashed, middle(letter))) for letter in begun] == [None] * 3
        # Each call is hashed once, however many it is compared with.
        assert len(hashed.threads) == 6
        waiting = [asyncio.ensure_future(cache.pending.wait(key_of(hashed, middle(letter)), 60)) for letter in begun]
        for letter, pending in begun.items():
            assert pending is not None
            cache.keep(Whole(answer(letter.decode())), pending, RULES)
        found = await asyncio.gather(*waiting)
        assert [msgspec.json.decode(one.body)["text"] for one in found] == ["a", "b", "c"]
        assert cache.pending.by_key == {}
        cache.close()

    asyncio.run(work())


def test_at_each_moment_an_answer_is_under_way_or_known(tmp_path, monkeypatch):
    """The thread has kept it before the loop ends the call: an identical call in between must not ask the provider."""

    async def work() -> None:
        cache, hashed = AnswerCache(tmp_path), Watched()
        await cache.open()
        pending = cache.pending.begin(key_of(hashed, middle(b"a")))
        assert pending is not None
        cache.keep(Whole(answer()), pending, RULES)
        await asyncio.to_thread(cache.matching)
        for _ in range(3):
            again = key_of(hashed, middle(b"a"))
            assert cache.may_have(again) or again in cache.pending.by_key
            await asyncio.sleep(0)
        assert (pending.result.done(), cache.pending.by_key) == (True, {})
        assert await text_of(cache, key_of(hashed, middle(b"a"))) == "a"
        cache.close()

    asyncio.run(work())


def test_of_answers_that_are_alike_the_others_stay_known_when_one_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(answer_file, "MAX_ENTRIES", 3)
    monkeypatch.setattr(answer_file, "EVICTED_AT_ONCE", 1)

    async def work() -> None:
        cache, hashed = AnswerCache(tmp_path), Watched()
        await cache.open()
        for number, letter in enumerate((b"a", b"b", b"c", b"d")):
            await keep(cache, key_of(hashed, middle(letter)), answer(letter.decode(), 1000 + number))
        assert [await text_of(cache, key_of(hashed, middle(letter))) for letter in (b"a", b"b", b"c", b"d")] == [
            None,
            "b",
            "c",
            "d",
        ]
        assert len(cache._known) == 3
        # Kept again in place of itself, and too old.
        await keep(cache, key_of(hashed, middle(b"b")), answer("b", 5_000_000))
        file = tmp_path / "policy.yaml"
        file.write_text("version: 1\ncache: {exact: {enabled: true}}")
        cache.housekeep(5_000_000, load(file, env={}, now=0))
        assert len(cache._known) == 1
        assert cache.may_have(key_of(hashed, middle(b"b")))
        assert cache.clear() == 1
        assert not cache.may_have(key_of(hashed, middle(b"b")))
        cache.close()

    asyncio.run(work())


def test_after_a_restart_answers_are_found_and_those_of_earlier_versions_grow_old(tmp_path):
    async def work() -> None:
        first = AnswerCache(tmp_path)
        hashed = await first.open()
        assert hashed is not None
        for letter in (b"a", b"b"):
            await keep(first, key_of(hashed, middle(letter)), answer(letter.decode()))
        first.close()
        with sqlite3.connect(tmp_path / "cache.db") as conn:
            # Earlier versions kept an answer by 16 bytes.
            conn.execute("UPDATE answers SET key = substr(key, 1, 16) WHERE number = 2")
        conn.close()
        cache = AnswerCache(tmp_path)
        again = await cache.open()
        assert again is not None
        assert [await text_of(cache, key_of(again, middle(letter))) for letter in (b"a", b"b")] == ["a", None]
        assert (len(cache._known), cache.file.count) == (1, 2)
        await keep(cache, key_of(again, middle(b"b")), answer("new"))
        assert await text_of(cache, key_of(again, middle(b"b"))) == "new"
        file = tmp_path / "policy.yaml"
        file.write_text("version: 1\ncache: {exact: {enabled: true}}")
        cache.housekeep(1 << 60, load(file, env={}, now=0))
        assert (len(cache._known), cache.file.count) == (0, 0)
        cache.close()

    asyncio.run(work())


def test_what_another_worker_has_kept_is_found_after_the_next_housekeeping(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\ncache: {exact: {enabled: true}}")
    policy = load(file, env={}, now=0)

    async def work() -> None:
        workers = [AnswerCache(tmp_path) for _ in range(2)]
        hashes = [await worker.open() for worker in workers]
        assert hashes[0] is not None
        assert hashes[1] is not None
        for worker in workers:
            worker.is_shared = True
        for letter, worker, hashed in zip((b"a", b"b"), workers, hashes, strict=True):
            await keep(worker, key_of(hashed, middle(letter)), answer(letter.decode()))
        for worker in workers:
            await asyncio.to_thread(worker.housekeep, 2000, policy)
        for worker, hashed in zip(workers, hashes, strict=True):
            assert [await text_of(worker, key_of(hashed, middle(letter))) for letter in (b"a", b"b", b"c")] == ["a", "b", None]
            assert len(worker._known) == 2
            worker.close()

    asyncio.run(work())


def test_bodies_that_wait_to_be_hashed_are_counted_and_let_go_where_there_are_many(tmp_path, monkeypatch):
    monkeypatch.setattr(answer_cache, "MAX_QUEUED_BYTES", 3 * LONG)

    async def work() -> None:
        cache, hashed, is_free = AnswerCache(tmp_path), Watched(), threading.Event()
        await cache.open()
        cache._thread().hand(is_free.wait)
        begun: list[Any] = [cache.pending.begin(key_of(hashed, middle(b"a"), model=f"m{number}")) for number in range(6)]
        queued = []
        for pending in begun:
            cache.keep(Whole(answer()), pending, RULES)
            queued.append(cache._queued_bytes)
        assert queued == sorted(queued)
        assert queued[1] > 2 * LONG > queued[-1] - LONG // 10
        assert [pending.key.held_bytes > 0 for pending in begun] == [True, True, False, False, False, False]
        assert hashed.threads == [threading.current_thread().name] * 4
        is_free.set()
        await asyncio.gather(*(pending.result for pending in begun))
        assert (cache.stores, cache.dropped, cache._queued_bytes) == (6, 0, 0)
        cache.close()

    asyncio.run(work())
