"""Sessions: who is signed in, for how long, and how often one may guess."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate import dashboard_sessions
from sluicegate.dashboard_sessions import (
    FORGET_AFTER_MS,
    FREE_ATTEMPTS,
    IDLE_TIMEOUT_MS,
    MAX_AGE_MS,
    MAX_DELAY_MS,
    MAX_PER_HOLDER,
    Attempts,
    Sessions,
)

ALICE, BOB = b"alice", b"bob"


def test_a_session_is_its_holders_until_it_is_closed():
    table = Sessions()
    first, second = table.open(ALICE, 0), table.open(BOB, 0)
    assert len(first) == 43
    assert (table.find(first, 1), table.find(second, 1), table.find("", 1), table.find("\udc80", 1)) == (ALICE, BOB, None, None)
    table.close(first)
    table.close("never was")
    assert (table.find(first, 1), table.find(second, 1), len(table)) == (None, BOB, 1)


def test_the_id_itself_is_not_kept():
    table = Sessions()
    assert table.open(ALICE, 0) not in repr(vars(table))


@pytest.mark.parametrize(
    ("used", "asked", "there"),
    [
        ((), IDLE_TIMEOUT_MS - 1, True),
        ((), IDLE_TIMEOUT_MS, False),
        ((IDLE_TIMEOUT_MS - 1,), 2 * IDLE_TIMEOUT_MS - 2, True),
        ((IDLE_TIMEOUT_MS - 1,), 2 * IDLE_TIMEOUT_MS - 1, False),
    ],
)
def test_a_session_nobody_uses_ends(used, asked, there):
    table = Sessions()
    mine = table.open(ALICE, 0)
    for at in used:
        assert table.find(mine, at) == ALICE
    assert (table.find(mine, asked) is not None, len(table)) == (there, int(there))


def test_a_session_in_use_ends_too():
    table = Sessions()
    mine = table.open(ALICE, 0)
    assert all(table.find(mine, at) for at in range(0, MAX_AGE_MS, IDLE_TIMEOUT_MS // 2))
    assert table.find(mine, MAX_AGE_MS) is None


def test_one_holder_can_end_only_their_own(monkeypatch):
    monkeypatch.setattr(dashboard_sessions, "MAX_SESSIONS", MAX_PER_HOLDER + 2)
    table = Sessions()
    other = table.open(BOB, 0)
    mine = [table.open(ALICE, at) for at in range(MAX_PER_HOLDER + 5)]
    assert table.find(other, 50) == BOB
    assert [table.find(i, 50) for i in mine] == [None] * 5 + [ALICE] * MAX_PER_HOLDER


@given(
    st.lists(
        st.tuples(st.sampled_from(["open", "find", "close"]), st.integers(0, 5), st.integers(0, IDLE_TIMEOUT_MS // 2)),
        max_size=60,
    )
)
def test_there_are_never_more_than_may_be_and_ids_never_change_hands(steps):
    table, now, ids = Sessions(), 0, []
    for what, number, later in steps:
        now += later
        if what == "open":
            ids.append((table.open(bytes([number]), now), bytes([number])))
        elif ids:
            mine, holder = ids[number % len(ids)]
            if what == "close":
                table.close(mine)
            assert table.find(mine, now) in ((None,) if what == "close" else (None, holder))
        assert sum(len(v) for v in table._by_holder.values()) == len(table) <= len(ids)


def test_wrong_attempts_cost_ever_longer_waits_at_their_source_alone():
    tries, now, waits = Attempts(), 0, []
    for _ in range(FREE_ATTEMPTS + 7):
        waits.append(tries.delay_ms("here", now))
        now += waits[-1]
        tries.failed("here", now)
    assert waits == [0] * FREE_ATTEMPTS + [1_000, 2_000, 4_000, 8_000, 16_000, MAX_DELAY_MS, MAX_DELAY_MS]
    assert tries.delay_ms("there", now) == 0
    assert tries.delay_ms("here", now + FORGET_AFTER_MS) == 0


def test_sources_are_forgotten_before_they_fill_memory(monkeypatch):
    monkeypatch.setattr(dashboard_sessions, "MAX_SOURCES", 3)
    tries = Attempts()
    for source in "abcd":
        for _ in range(FREE_ATTEMPTS):
            tries.failed(source, 0)
    assert [tries.delay_ms(s, 0) for s in "abcd"] == [0, 1_000, 1_000, 1_000]
