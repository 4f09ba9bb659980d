"""The ledger's arithmetic: exact at admission, settled once, and never negative, whatever the order of events."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import Limit, Limits
from sluicegate.windows import parse_period
from support.hypothesis_profiles import examples

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


@given(st.lists(st.builds(limit, st.sampled_from(["usd", "requests", "tokens", "concurrent"]), hard=st.booleans()), max_size=8))
def test_limits_are_sorted_by_what_they_count(limits):
    found = Limits(limits)
    assert list(found) == limits
    assert list(found.budgets) == [x for x in limits if x.unit == "usd"]
    assert list(found.rates) == [x for x in limits if x.unit != "usd"]
    assert found.has_hard_budget == any(x.hard and x.unit == "usd" for x in limits)


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


@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.too_slow])
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


@settings(max_examples=examples(300))
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


@pytest.mark.parametrize(
    ("asked", "noted"),
    [
        ([(limit(), 7)], [("virtual_key", "vk", "usd", "1h", "soft", 100, 30, 20, 7, HOUR, True)]),
        ([(limit(hard=True), 51)], [("virtual_key", "vk", "usd", "1h", "hard", 100, 30, 20, 51, HOUR, False)]),
        ([(limit(maximum=50), 1)], [("virtual_key", "vk", "usd", "1h", "soft", 50, 30, 20, 1, HOUR, False)]),
        ([(limit("concurrent", 1, period=None), 1)], [("virtual_key", "vk", "concurrent", None, "soft", 1, 0, 1, 1, None, False)]),
        (
            [(limit("tokens", 5, period="never"), 9), (limit(maximum=10), 1), (limit(scope="never asked"), 1)],
            [
                ("virtual_key", "vk", "tokens", "never", "soft", 5, 0, 0, 9, None, True),
                ("virtual_key", "vk", "usd", "1h", "soft", 10, 30, 20, 1, HOUR, False),
            ],
        ),
        ([], []),
    ],
)
def test_what_each_limit_said_is_noted_up_to_the_one_that_refuses(asked, noted):
    ledger, said = Ledger(), []
    ledger.reserve("before", [(limit(), 30)], 0)
    ledger.settle("before", {"usd": 30})
    ledger.reserve("flying", [(limit(), 20), (limit("concurrent", 1, period=None), 1)], 0)
    full = ledger.reserve("call", asked, 0, said)
    assert said == noted
    assert (full is None) == all(verdict[-1] for verdict in noted)


@settings(max_examples=examples(200))
@given(
    st.lists(
        st.tuples(st.sampled_from(["ask", "settle", "release"]), st.integers(0, 40), st.integers(0, HOUR), st.booleans()),
        max_size=40,
    )
)
def test_noted_numbers_are_the_counters_of_that_moment_and_explain_the_verdict(events):
    ledger, now, flying = Ledger(), 0, []
    levels = [limit(maximum=m, hard=h, scope=s) for s, m, h in (("key", 90, False), ("team", 120, True), ("customer", 300, False))]
    for serial, (what, amount, later, two) in enumerate(events):
        now += later if what == "ask" else 0
        if what == "ask":
            mine = levels[:2] if two else levels
            before = {x.scope_id: ledger.usage(x, now) for x in mine}
            said: list = []
            full = ledger.reserve(str(serial), [(x, amount) for x in mine], now, said)
            assert [v[1] for v in said] == [x.scope_id for x in mine][: len(said)]
            assert [v[-1] for v in said] == [True] * (len(said) - (full is not None)) + [False] * (full is not None)
            assert full is not None or len(said) == len(mine)
            for _, scope, _, _, enforcement, maximum, used_, reserved, asked, resets_at, admitted in said:
                assert (used_, reserved, asked) == (*before[scope][:2], amount)
                assert resets_at == before[scope][3]
                fits = used_ + reserved + asked <= maximum if enforcement == "hard" else used_ + reserved < maximum
                assert admitted == fits
            if full is not None:
                assert (full.used, full.asked, full.resets_at) == (said[-1][6] + said[-1][7], said[-1][8], said[-1][9])
            else:
                flying.append(str(serial))
        elif flying:
            call = flying.pop(amount % len(flying))
            ledger.settle(call, {"usd": amount}) if what == "settle" else ledger.release(call)


@pytest.mark.parametrize("unit", ["requests", "concurrent"])
def test_counts_of_calls_are_exact_even_when_soft(unit):
    ledger, cap = Ledger(), limit(unit, 2, period=None if unit == "concurrent" else "1h")
    assert [ledger.reserve(str(i), [(cap, 1)], 0) is None for i in range(3)] == [True, True, False]


def test_a_call_without_a_limit_stays_on_file_until_it_is_closed():
    ledger = Ledger()
    ledger.hold_open("call", 0, lambda: {"id": "call"})
    ledger.settle("call", {"requests": 1})
    assert "call" in ledger.open
    ledger.close("call")
    assert not ledger.open


def test_what_is_raised_later_waits_for_the_next_full_write_and_is_not_made_for_a_call_that_ends_before():
    """A call waits until what it holds is on file; what its answer adds to that keeps no other call waiting."""
    ledger, made = Ledger(), []
    cap = limit("usd", 100)
    ledger.reserve("call", [(cap, 5)], 0)
    ledger.take_changes()
    ledger.reserve("leaving", [(cap, 1)], 0)
    ledger.raise_to("call", {"usd": 8}, lambda: made.append(1) or {"id": "call"})
    assert [(r.call_id, r.claims[0][3]) for r in ledger.take_reservations().reservations] == [("leaving", 1)]
    assert not made
    (raised,) = ledger.take_changes().reservations
    assert (raised.call_id, raised.claims[0][3], raised.draft, made) == ("call", 8, {"id": "call"}, [1])
    ledger.raise_to("leaving", {}, lambda: made.append(2) or {"id": "leaving"})
    ledger.release("leaving")
    ledger.raise_to("leaving", {}, lambda: made.append(3) or {"id": "leaving"})
    assert not ledger.take_changes().reservations
    assert (made, list(ledger.open)) == ([1], ["call"])


def test_another_targets_amounts_replace_what_a_call_holds():
    """What it holds does not count against it, what it no longer needs is given back, and a refusal changes nothing."""
    month = parse_period("1M")
    both = Limit("virtual_key", "vk", "VK", "usd", 100, month, True, "both")
    first = Limit("provider", "a", "a", "usd", 100, month, True, "first")
    second = Limit("provider", "b", "b", "usd", 50, month, True, "second")
    ledger = Ledger()
    assert ledger.reserve("call", [(both, 80), (first, 80)], 0) is None
    refused = ledger.reserve("call", [(both, 90), (second, 90)], 0, replaces=True)
    assert (refused.limit, refused.used) == (second, 0)
    assert [ledger.usage(x, 0)[1] for x in (both, first)] == [80, 80]
    assert ledger.reserve("call", [(both, 40), (second, 40)], 0, replaces=True) is None
    assert [ledger.usage(x, 0)[1] for x in (both, first, second)] == [40, 0, 40]
    ledger.settle("call", {"usd": 30})
    assert [ledger.usage(x, 0)[:2] for x in (both, first, second)] == [(30, 0), (0, 0), (30, 0)]
    assert ledger.open == {}
