"""Sessions: who is signed in, for how long, and how often one may guess."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate import dashboard_sessions as sessions
from sluicegate.dashboard_sessions import FORGOTTEN, FREE, IDLE, LONGEST, MOST_PER_HOLDER, WHOLE, Attempts, Sessions

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
    [((), IDLE - 1, True), ((), IDLE, False), ((IDLE - 1,), 2 * IDLE - 2, True), ((IDLE - 1,), 2 * IDLE - 1, False)],
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
    assert all(table.find(mine, at) for at in range(0, WHOLE, IDLE // 2))
    assert table.find(mine, WHOLE) is None


def test_one_holder_can_end_only_their_own(monkeypatch):
    monkeypatch.setattr(sessions, "MOST", MOST_PER_HOLDER + 2)
    table = Sessions()
    other = table.open(BOB, 0)
    mine = [table.open(ALICE, at) for at in range(MOST_PER_HOLDER + 5)]
    assert table.find(other, 50) == BOB
    assert [table.find(i, 50) for i in mine] == [None] * 5 + [ALICE] * MOST_PER_HOLDER


@given(
    st.lists(
        st.tuples(st.sampled_from(["open", "find", "close"]), st.integers(0, 5), st.integers(0, IDLE // 2)),
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
        assert sum(len(v) for v in table._held.values()) == len(table) <= len(ids)


def test_wrong_attempts_cost_ever_longer_waits_at_their_source_alone():
    tries, now, waits = Attempts(), 0, []
    for _ in range(FREE + 7):
        waits.append(tries.wait("here", now))
        now += waits[-1]
        tries.failed("here", now)
    assert waits == [0] * FREE + [1_000, 2_000, 4_000, 8_000, 16_000, LONGEST, LONGEST]
    assert tries.wait("there", now) == 0
    assert tries.wait("here", now + FORGOTTEN) == 0


def test_sources_are_forgotten_before_they_fill_memory(monkeypatch):
    monkeypatch.setattr(sessions, "SOURCES", 3)
    tries = Attempts()
    for source in "abcd":
        for _ in range(FREE):
            tries.failed(source, 0)
    assert [tries.wait(s, 0) for s in "abcd"] == [0, 1_000, 1_000, 1_000]
