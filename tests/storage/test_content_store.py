"""Bodies that are kept: what is put is what is got, it is small and private on disk, and it goes when its time is over."""

from __future__ import annotations

import json
import random
import sqlite3
import threading

import pytest

from sluicegate.policy.loader import PolicyError, load
from sluicegate.services import Services
from sluicegate.storage import content_store
from sluicegate.storage.content_store import Content, ContentFile, ContentKeeper
from sluicegate.values import Principal

ALICE = Principal("vk-alice", "alice", "team-x", "customer-acme", "project-1")


def bodies(number: int, at: int = 0, size: int = 2000, **flags) -> Content:
    text = json.dumps({"messages": [{"role": "user", "content": f"call {number}: " + "def f(x): return x + 1\n" * (size // 22)}]})
    return Content(f"call_{number}", at, text.encode(), b"event: message_stop\n\n" * 20, **flags)


@pytest.fixture
def file(tmp_path):
    made = ContentFile(tmp_path / "content.db")
    yield made
    made.close()


def test_what_is_put_is_what_is_got(file):
    for kept in (
        bodies(1),
        bodies(2, request_truncated=True),
        bodies(3, response_truncated=True),
        Content("call_4", 5, b"", b"\xff\0"),
    ):
        file.put(kept)
        assert file.get(kept.call_id) == kept
    again = Content("call_1", 9, b"other", b"")
    file.put(again)
    assert file.get("call_1") == again
    assert file.get("call_none") is None


def test_it_is_compressed_and_for_this_user_alone(file, tmp_path):
    kept = bodies(1, size=200_000)
    file.put(kept)
    on_disk = [f for f in tmp_path.iterdir() if f.name.startswith("content.db")]
    assert all(f.stat().st_mode & 0o077 == 0 for f in on_disk)
    assert sum(f.stat().st_size for f in on_disk) < kept.size
    assert not any(b"def f(x)" in f.read_bytes() for f in on_disk)


def test_nothing_is_made_where_nothing_is_kept(file, tmp_path):
    assert (file.get("call_1"), file.delete_before(10**15, 5)) == (None, 0)
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_go_first_and_their_space_is_given_back(file, tmp_path):
    chance = random.Random(1)
    for i in range(60):
        file.put(Content(f"call_{i}", 1000 + i, chance.randbytes(20_000), b""))
    assert file.delete_before(1030, 20) == 20
    assert [file.get(f"call_{i}") is None for i in (0, 19, 20, 59)] == [True, True, False, False]
    assert file.delete_before(1030, 20) == 10
    assert file.delete_before(1030, 20) == 0
    assert file.get("call_30") is not None
    written = b"".join(f.read_bytes() for f in tmp_path.iterdir())
    chance.seed(1)
    there = [chance.randbytes(20_000)[5000:5100] in written for _ in range(60)]
    assert there == [False] * 30 + [True] * 30
    file.close()
    assert (tmp_path / "content.db").stat().st_size < 35 * 20_000


class Slow:
    """A store that writes when it is let."""

    def __init__(self) -> None:
        self.kept: dict[str, Content] = {}
        self.go = threading.Event()
        self.fails: Exception | None = None

    def put(self, kept: Content) -> None:
        self.go.wait(60)
        if self.fails:
            raise self.fails
        self.kept[kept.call_id] = kept

    def get(self, call_id: str) -> Content | None:
        return self.kept.get(call_id)

    def delete_before(self, at: int, most: int) -> int:
        old = [i for i, kept in self.kept.items() if kept.at < at][:most]
        for i in old:
            del self.kept[i]
        return len(old)

    def close(self) -> None:
        self.go.set()


def test_keeping_waits_for_nothing_and_what_waits_can_be_read():
    store = Slow()
    keeper = ContentKeeper(store)
    kept = [bodies(i) for i in range(5)]
    for one in kept:
        keeper.keep(one)
    assert store.kept == {}
    assert [keeper.get(f"call_{i}") for i in range(5)] == kept
    store.go.set()
    keeper.close()
    assert list(store.kept.values()) == kept
    assert (keeper.error, keeper.dropped) == (None, 0)


def test_too_much_at_once_is_dropped_and_counted(monkeypatch, caplog):
    monkeypatch.setattr(content_store, "MAX_QUEUED_BYTES", 5000)
    store = Slow()
    keeper = ContentKeeper(store)
    for i in range(10):
        keeper.keep(bodies(i))
    assert (keeper.dropped, keeper.error) == (9, "too much is waiting to be written")
    assert len(caplog.records) == 1
    store.go.set()
    keeper.close()
    assert list(store.kept) == ["call_0"]
    assert keeper.error is None


@pytest.mark.parametrize("fails", [OSError("disk is gone"), sqlite3.OperationalError("disk is full")])
def test_what_cannot_be_written_is_told_once_and_stops_nothing(fails, caplog):
    store = Slow()
    store.fails = fails
    keeper = ContentKeeper(store)
    store.go.set()
    for i in range(3):
        keeper.keep(bodies(i))
    keeper.close()
    assert (keeper.dropped, keeper.error) == (3, str(fails))
    assert len(caplog.records) == 1


def test_tidying_goes_in_steps_and_stops_when_told(monkeypatch):
    monkeypatch.setattr(content_store, "DELETE_BATCH", 10)
    monkeypatch.setattr(content_store, "MAX_BATCHES", 5)
    store = Slow()
    store.kept = {f"call_{i}": bodies(i, at=i) for i in range(95)}
    keeper = ContentKeeper(store)
    pauses = []
    keeper.delete_before(90, lambda seconds: bool(pauses.append(seconds)) or len(pauses) == 3)
    assert len(store.kept) == 95 - 30
    keeper.delete_before(90, lambda _: False)
    keeper.delete_before(90, lambda _: False)
    assert sorted(kept.at for kept in store.kept.values()) == [90, 91, 92, 93, 94]


def policy(tmp_path, **said):
    file = tmp_path / "policy.yaml"
    base = {
        "version": 1,
        "customers": [{"id": "customer-acme"}],
        "teams": [{"id": "team-x", "customer_id": "customer-acme"}],
        "users": [{"id": "alice"}],
        "projects": [{"id": "project-1"}],
        "virtual_keys": [{"id": "vk-alice", "team_id": "team-x", "user_id": "alice", "project_id": "project-1"}],
    }
    for kind, word in said.items():
        if kind in base and kind != "version":
            base[kind][0]["content"] = word
        else:
            base[kind] = word
    # As people write it: off without quotes is a word in YAML 1.2.
    file.write_text(json.dumps(base).replace('"off"', "off").replace('"full"', "full"))
    return load(file, env={}, now=0)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({}, False),
        ({"content": "full"}, True),
        ({"content": "off"}, False),
        ({"customers": "full"}, True),
        ({"customers": "full", "teams": "off"}, False),
        ({"teams": "off", "projects": "full"}, True),
        ({"projects": "full", "users": "off"}, False),
        ({"users": "off", "virtual_keys": "full"}, True),
        ({"content": "full", "virtual_keys": "off"}, False),
    ],
)
def test_the_narrowest_scope_that_says_anything_decides(tmp_path, said, kept):
    assert policy(tmp_path, **said).stores_content(ALICE) is kept
    assert policy(tmp_path, **said).stores_content(Principal("other")) is (said.get("content") == "full")


def test_how_long_bodies_stay_is_a_duration(tmp_path):
    assert policy(tmp_path).content_retention == 30 * 86_400_000
    assert policy(tmp_path, content_retention="12h").content_retention == 12 * 3_600_000
    assert policy(tmp_path, content_retention="never").content_retention is None


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"content": "ful"}, "'ful' is not one of off, full (did you mean full?)"),
        ({"content": True}, "'true' is not one of off, full"),
        ({"teams": "some"}, "'some' is not one of off, full"),
        ({"content_retention": "a month"}, "'a month' is not a duration"),
        ({"content_retension": "30d"}, "did you mean content_retention?"),
    ],
)
def test_what_policy_cannot_mean_is_refused(tmp_path, said, complaint):
    with pytest.raises(PolicyError) as refused:
        policy(tmp_path, **said)
    assert complaint in str(refused.value)


def test_bodies_go_when_their_time_is_over_by_the_gateways_clock(tmp_path):
    now = [1_000_000]
    policy(tmp_path, content_retention="1h")
    services = Services(tmp_path / "policy.yaml", tmp_path / "state", {}, clock=lambda: now[0])
    try:
        services.content.keep(bodies(1, at=now[0]))
        now[0] += 1800_000
        services.content.keep(bodies(2, at=now[0]))
        services.upkeep.forget_content()
        assert services.content.get("call_1") is not None
        now[0] += 1800_001
        while services.content._queue:
            pass
        services.upkeep.forget_content()
        assert services.content.get("call_1") is None
        assert services.content.get("call_2") is not None
    finally:
        services.close()
    assert ContentFile(tmp_path / "state/content.db").path.stat().st_mode & 0o777 == 0o600
