"""The ledger's arithmetic: exact at admission, settled once, and never negative, whatever the order of events."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.ledger import Ledger
from sluicegate.policy import Limit
from sluicegate.windows import parse_period

HOUR = 3_600_000


def limit(unit="usd", maximum=100, *, hard=False, scope="vk", period="1h"):
    return Limit(
        scope_kind="virtual_key",
        scope_id=scope,
        label="VK",
        unit=unit,
        maximum=maximum,
        period=parse_period(period) if period else None,
        hard=hard,
        counter=f"virtual_key/{scope}/{unit}/{period or '-'}",
    )


def used(ledger, a_limit, now=0):
    return ledger.usage(a_limit, now)[:2]


def test_soft_budget_lets_the_crossing_call_pass_and_refuses_the_next():
    ledger, budget = Ledger(), limit(maximum=100)
    assert ledger.reserve("a", [(budget, 99)], 0) is None
    ledger.settle("a", {"usd": 98})
    assert ledger.reserve("b", [(budget, 10)], 0) is None
    ledger.settle("b", {"usd": 10})
    full = ledger.reserve("c", [(budget, 1)], 0)
    assert full is not None
    assert (full.used, full.limit.maximum, full.resets_at) == (108, 100, HOUR)


def test_parallel_calls_cannot_all_be_the_last_one():
    ledger, budget = Ledger(), limit(maximum=100)
    ledger.reserve("seed", [(budget, 95)], 0)
    ledger.settle("seed", {"usd": 95})
    admitted = [i for i in range(64) if ledger.reserve(str(i), [(budget, 2)], 0) is None]
    assert len(admitted) == 3


def test_a_hundred_of_a_hundred_and_fifty_parallel_calls_pass():
    ledger, cap = Ledger(), limit("requests", 100)
    assert sum(ledger.reserve(str(i), [(cap, 1)], 0) is None for i in range(150)) == 100
    full = ledger.reserve("x", [(cap, 1)], 0)
    assert full is not None
    assert full.used == 100


def test_refusal_at_one_level_holds_nothing_at_the_others():
    ledger, wide, narrow = Ledger(), limit(scope="team"), limit(maximum=0, scope="vk")
    assert ledger.reserve("a", [(wide, 5), (narrow, 5)], 0) is not None
    assert used(ledger, wide) == (0, 0)
    assert "a" not in ledger.open


def test_units_settle_apart_and_the_reservation_closes_with_the_last():
    ledger = Ledger()
    money, calls, flight = limit(), limit("requests", 5), limit("concurrent", 2, period=None)
    ledger.reserve("a", [(calls, 1), (flight, 1)], 0)
    ledger.reserve("a", [(money, 50)], 0)
    ledger.settle("a", {"requests": 1, "concurrent": 0})
    assert "a" in ledger.open
    ledger.settle("a", {"usd": 40})
    assert "a" not in ledger.open
    assert (used(ledger, money), used(ledger, calls), used(ledger, flight)) == ((40, 0), (1, 0), (0, 0))


def test_settling_twice_charges_once():
    ledger, budget = Ledger(), limit()
    ledger.reserve("a", [(budget, 50)], 0)
    ledger.settle("a", {"usd": 40})
    ledger.settle("a", {"usd": 40})
    ledger.release("a")
    assert used(ledger, budget) == (40, 0)


def test_a_raise_is_held_at_once_and_never_lowers():
    ledger, budget = Ledger(), limit()
    ledger.reserve("a", [(budget, 50)], 0)
    ledger.raise_to("a", {"usd": 80})
    ledger.raise_to("a", {"usd": 10})
    assert used(ledger, budget) == (0, 80)


def test_a_window_rolls_and_a_late_charge_stays_with_the_window_it_was_admitted_in():
    ledger, budget = Ledger(), limit()
    ledger.reserve("a", [(budget, 50)], 0)
    ledger.reserve("b", [(budget, 5)], HOUR + 1)
    ledger.settle("a", {"usd": 50})
    assert used(ledger, budget, HOUR + 2) == (0, 5)


def test_a_clock_set_back_does_not_reopen_a_spent_window():
    ledger, budget = Ledger(), limit()
    ledger.reserve("a", [(budget, 1)], 2 * HOUR)
    ledger.settle("a", {"usd": 100})
    assert ledger.reserve("b", [(budget, 1)], HOUR) is not None


def test_a_clock_that_ran_ahead_gives_nothing_back_when_it_is_corrected():
    ledger, budget = Ledger(), limit(maximum=100)
    ledger.reserve("a", [(budget, 60)], 1)
    ledger.settle("a", {"usd": 60})
    ledger.reserve("flying", [(budget, 5)], 2)
    ledger.reserve("b", [(budget, 30)], 3 * HOUR)
    ledger.settle("b", {"usd": 30})
    ledger.settle("flying", {"usd": 5})
    ledger.reserve("late", [(budget, 7)], 3 * HOUR)
    assert used(ledger, budget, 10) == (95, 7)
    assert ledger.reserve("c", [(budget, 1)], 10) is not None
    ledger.settle("late", {"usd": 4})
    assert used(ledger, budget, 11) == (99, 0)
    assert ledger.reserve("d", [(budget, 1)], 12) is None


def test_a_clock_set_back_does_not_shut_a_short_window_for_as_long():
    ledger, cap = Ledger(), limit("requests", 1, period="1m")
    assert ledger.reserve("a", [(cap, 1)], 0) is None
    for minute in range(60, 66):
        ledger.reserve(f"ahead{minute}", [(cap, 1)], minute * 60_000)
        ledger.settle(f"ahead{minute}", {"requests": 1})
    assert ledger.reserve("back", [(cap, 1)], 61_000) is not None
    assert ledger.reserve("next minute", [(cap, 1)], 121_000) is None


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(-3 * HOUR, 3 * HOUR), st.integers(0, 20), st.booleans()), max_size=25))
def test_whatever_the_clock_does_nothing_is_charged_twice_nor_left_open(jumps):
    ledger, budget, now, charged = Ledger(), limit(maximum=10**9), 100 * HOUR, 0
    flying = []
    for number, (jump, cost, wait) in enumerate(jumps):
        now = max(HOUR, now + jump)
        assert ledger.reserve(str(number), [(budget, cost)], now) is None
        flying.append((str(number), cost))
        if not wait:
            for call, amount in flying:
                ledger.settle(call, {"usd": amount})
                charged += amount
            flying = []
        spent, reserved, start, end = ledger.usage(budget, now)
        assert 0 <= spent <= charged
        assert start <= now < end
        assert reserved <= sum(amount for _, amount in flying)
    for call, amount in flying:
        ledger.settle(call, {"usd": amount})
    assert ledger.usage(budget, now)[1] == 0
    assert not ledger.open


def test_a_zero_limit_refuses_everything():
    assert Ledger().reserve("a", [(limit(maximum=0), 0)], 0) is not None


def test_lowering_and_lifting_a_limit_keeps_usage():
    ledger = Ledger()
    ledger.reserve("a", [(limit(maximum=100), 60)], 0)
    ledger.settle("a", {"usd": 60})
    assert ledger.reserve("b", [(limit(maximum=50), 1)], 0) is not None
    assert ledger.reserve("c", [(limit(maximum=61), 1)], 0) is None


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "raise", "settle", "release", "tick"]),
        st.integers(0, 7),
        st.integers(0, 60),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.booleans())
def test_any_interleaving_balances_and_hard_never_ends_above_its_limit(events, hard):
    """Reserved is the sum of what is open, used the sum of what was settled, and a hard limit holds at every level."""
    ledger, now = Ledger(), 0
    levels = [limit(maximum=m, hard=hard, scope=s) for s, m in (("key", 100), ("team", 150), ("customer", 130))]
    held: dict[str, int] = {}
    booked = 0
    serial = 0
    names: dict[int, str] = {}
    for what, slot, amount in events:
        call = names.get(slot, "")
        if what == "reserve" and call not in held:
            serial += 1
            names[slot] = call = f"{slot}-{serial}"
            before = booked + sum(held.values())
            if ledger.reserve(call, [(x, amount) for x in levels], now) is None:
                held[call] = amount
                assert before + amount <= 100 if hard else before < 100
        elif what == "raise" and call in held and not hard:
            ledger.raise_to(call, {"usd": amount})
            held[call] = max(held[call], amount)
        elif what == "settle" and call in held:
            charge = min(amount, held.pop(call)) if hard else (held.pop(call), amount)[1]
            ledger.settle(call, {"usd": charge})
            booked += charge
        elif what == "release" and call in held:
            ledger.release(call)
            held.pop(call)
        elif what == "tick":
            now = min(now + amount, HOUR - 1)
        for level in levels:
            assert used(ledger, level, now) == (booked, sum(held.values())) or not ledger.counters
    if hard:
        assert all(ledger.usage(x, now)[0] <= x.maximum for x in levels)
    assert set(ledger.open) == set(held)


@pytest.mark.parametrize("unit", ["requests", "concurrent"])
def test_counts_of_calls_are_exact_even_when_soft(unit):
    ledger, cap = Ledger(), limit(unit, 2, period=None if unit == "concurrent" else "1h")
    assert [ledger.reserve(str(i), [(cap, 1)], 0) is None for i in range(3)] == [True, True, False]
