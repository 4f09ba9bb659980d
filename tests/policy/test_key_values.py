"""The values that keys have had: a deleted, replaced or restored one, across restarts, without holding up a call for long."""

from __future__ import annotations

import hashlib
import json
import sqlite3

import pytest

from sluicegate.policy import key_values
from sluicegate.policy.key_values import KeyValues
from sluicegate.policy.loader import load
from sluicegate.storage.store import Store


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@pytest.fixture
def policy(tmp_path):
    def of(*keys: dict[str, object]):
        file = tmp_path / "policy.yaml"
        file.write_text(json.dumps({"version": 1, "virtual_keys": list(keys)}))
        return load(file, env={}, now=1_000)

    return of


@pytest.fixture
def path(tmp_path):
    store = Store(tmp_path / "sluicegate.db")
    store.close()
    return store.path


ALICE, BOB = {"id": "vk-alice", "value": "sk-alice"}, {"id": "vk-bob"}


def test_what_a_key_was_is_known_once_it_is_deleted_or_replaced_and_after_a_restart(path, policy):
    known = KeyValues(path)
    known.follow(policy(ALICE, BOB))
    assert [known.is_former(digest(v)) for v in ("sk-alice", "vk-bob", "sk-ant-own")] == [None, None, None]
    known.follow(policy(ALICE | {"value": "sk-alice-2"}))
    for seen in (known, KeyValues(path)):
        seen.follow(policy(ALICE | {"value": "sk-alice-2"}))
        assert [seen.is_former(digest(v)) for v in ("sk-alice", "vk-bob", "sk-alice-2", "sk-ant-own")] == [True, False, None, None]
    known.follow(policy(ALICE, BOB))
    assert [known.is_former(digest(v)) for v in ("sk-alice", "vk-bob", "sk-alice-2")] == [None, None, True]


def test_no_more_than_so_many_are_remembered_the_latest_of_them(path, policy, monkeypatch):
    monkeypatch.setattr(key_values, "MAX_VALUES", 10)
    monkeypatch.setattr(key_values, "ROWS_A_STEP", 4)
    known = KeyValues(path)
    known.follow(policy(*({"id": f"vk-{i}"} for i in range(7))))
    known.follow(policy(*({"id": f"vk-{i}"} for i in range(7, 14))))
    known.follow(policy())
    for seen in (known, KeyValues(path)):
        assert [i for i in range(14) if seen.is_former(digest(f"vk-{i}")) is not None] == list(range(4, 14))


def test_a_database_that_cannot_be_written_changes_nothing_for_the_running_gateway(path, policy, caplog):
    known = KeyValues(path)
    with sqlite3.connect(path) as conn:
        conn.execute("DROP TABLE key_values")
    known.follow(policy(ALICE))
    known.follow(policy())
    assert known.is_former(digest("sk-alice"))
    assert "could not be noted" in caplog.text
