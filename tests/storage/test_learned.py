"""What finished answers have taught survives a restart, to the last digit, and comes over from older files."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.calls import learning as learning_module
from sluicegate.calls.estimate import expected_usage
from sluicegate.calls.learning import Learning, Lesson, lesson_of
from sluicegate.limits.changes import Changes
from sluicegate.storage import migrations
from sluicegate.storage.errors import StoreError
from sluicegate.storage.migrations import MIGRATIONS
from sluicegate.storage.store import Rows, Store
from sluicegate.values import RequestFacts, Usage

MODEL = "claude-opus-5-5"
FACTS = RequestFacts(MODEL, max_tokens=32_000, body_bytes=9_000, text_bytes=9_000, is_text_only=True)
NO_CHANGES = Changes((), (), frozenset(), frozenset(), frozenset())

CALLS = st.lists(st.tuples(st.sampled_from(["vk-a", "vk-b"]), st.integers(1, 9_000), st.integers(1, 32_000)), max_size=120)


@given(CALLS)
def test_estimates_are_the_same_after_a_restart(tmp_path_factory, calls):
    path = tmp_path_factory.mktemp("state") / "sluicegate.db"
    store, learning, rows = Store(path), Learning(), Rows()
    for number, (key, prompt, output) in enumerate(calls):
        rows.learned |= learning.learn(key, MODEL, lesson_of(FACTS, Usage(prompt, output), characters=70_000, elapsed_ms=900))
        if number % 10 == 9:
            store.write(NO_CHANGES, rows)
            rows = Rows()
    store.write(NO_CHANGES, rows)
    store.close()
    store = Store(path)
    after = Learning(store.learned())
    store.close()
    assert set(after.learned) == set(learning.learned)
    for key in ("vk-a", "vk-b", "vk-new"):
        assert after.known(key, MODEL) == learning.known(key, MODEL)
        assert expected_usage(FACTS, after.known(key, MODEL)) == expected_usage(FACTS, learning.known(key, MODEL))


def test_what_was_forgotten_leaves_the_file_and_the_order_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(learning_module, "MAX_KEYS", 4)
    store, learning = Store(tmp_path / "sluicegate.db"), Learning()
    for key in ("vk-a", "vk-b", "vk-c", "vk-a", "vk-d"):
        store.write(NO_CHANGES, Rows(learned=dict(learning.learn(key, MODEL, Lesson(output_tokens=10)))))
    assert list(store.learned()) == list(learning.learned) == [(k, MODEL) for k in ("vk-c", "vk-a", "vk-d", "")]
    store.close()


@pytest.mark.parametrize("samples", [1, 50])
def test_an_older_file_keeps_its_ratios_as_everybodys(tmp_path, monkeypatch, samples):
    with monkeypatch.context() as older:
        older.setattr(migrations, "MIGRATIONS", MIGRATIONS[: MIGRATIONS.index(migrations._learn_by_key)])
        Store(tmp_path / "sluicegate.db").close()
    with sqlite3.connect(tmp_path / "sluicegate.db") as conn:
        conn.execute("INSERT INTO models VALUES (?, 0.75, 12.5, ?)", (MODEL, samples))
    conn.close()
    store = Store(tmp_path / "sluicegate.db")
    known = Learning(store.learned()).known("vk-a", MODEL)
    assert store._conn.execute("SELECT name FROM sqlite_master WHERE name = 'models'").fetchall() == []
    store.close()
    found = expected_usage(FACTS, known)
    assert found.output_tokens == 16_384, "a mean of other keys' answers lowers nobody's estimate"
    assert found.input_tokens == (6_750 if samples == 50 else 3_462)


def test_an_older_gateway_refuses_the_file(tmp_path, monkeypatch):
    Store(tmp_path / "sluicegate.db").close()
    monkeypatch.setattr(migrations, "MIGRATIONS", MIGRATIONS[: MIGRATIONS.index(migrations._learn_by_key)])
    with pytest.raises(StoreError, match="run the newer sluicegate"):
        Store(tmp_path / "sluicegate.db")
