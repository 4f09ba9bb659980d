"""Adjustments: what they charge, in which window, and what they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.calls.adjustment import (
    adjustment_of,
    charge,
    describe,
    effective_nano,
    from_line,
    line_of,
    message_of,
    repeat,
    windows_of_call,
)
from sluicegate.limits.ledger import Ledger, reset
from sluicegate.policy.limit import Limit
from sluicegate.policy.loader import load
from sluicegate.values import NANO
from sluicegate.windows import DAY_MS, iso, parse_iso, parse_period
from support.calls import record

T0 = parse_iso("2026-11-20T10:00:00Z")


def budget(kind, scope, text="1d", **more):
    period = parse_period(text, **more)
    zone = f"/aligned/{period.timezone}" if period.aligned else ""
    return Limit(kind, scope, kind, "usd", 50 * NANO, period, False, f"{kind}/{scope}/usd/{text}{zone}")


KEY, TEAM, PREPAID = (
    budget("virtual_key", "vk"),
    budget("team", "t", "1M", aligned=True, timezone="Europe/Berlin"),
    budget("user", "u", "never"),
)


def spend(ledger, limits, nano, at, call_id="a"):
    checks = []
    assert ledger.reserve(call_id, [(x, nano) for x in limits], at, checks) is None
    ledger.settle(call_id, {"usd": nano})
    return record(call_id, nano, limits=[list(c) for c in checks], started_at=iso(at))


def adjustment(nano, **subject):
    return adjustment_of("adj_1", T0, nano, reason="refund", actor="dana", policy_revision="r", **(subject or {"call_id": "a"}))


def adjust(ledger, row, nano):
    made = adjustment(nano)
    charge(ledger, made, windows_of_call(row, ledger, None))
    return made


def test_an_adjustment_counts_at_every_level_its_call_counted_under():
    ledger = Ledger()
    row = spend(ledger, [KEY, TEAM, PREPAID], 5 * NANO, T0)
    made = adjust(ledger, row, -2 * NANO)
    assert [ledger.usage(x, T0)[0] for x in (KEY, TEAM, PREPAID)] == [3 * NANO] * 3
    assert [(x["kind"], x["id"], x["window"], x["amount_usd"], x["stopped_at_zero"]) for x in describe(made)["levels"]] == [
        ("virtual_key", "vk", "1d", "-2", False),
        ("team", "t", "1M", "-2", False),
        ("user", "u", "never", "-2", False),
    ]
    assert effective_nano(row, [made]) == 3 * NANO
    assert message_of(made, 5 * NANO) == "Call a now costs $3.00 instead of $5.00"
    assert message_of(made, 5 * NANO, planned=True) == "Call a would cost $3.00 instead of $5.00"


def test_it_belongs_to_the_window_of_its_call():
    ledger = Ledger()
    row = spend(ledger, [KEY, TEAM], 5 * NANO, T0)
    later = spend(ledger, [KEY, TEAM], 4 * NANO, T0 + DAY_MS, "b")
    adjust(ledger, row, -2 * NANO)
    # The key's day is over: what it has used today stays, and only yesterday's number has changed.
    assert [ledger.usage(x, T0 + DAY_MS)[0] for x in (KEY, TEAM)] == [4 * NANO, 7 * NANO]
    assert ledger.counters[KEY.counter].previous[2] == 3 * NANO
    spend(ledger, [KEY, TEAM], NANO, T0 + 2 * DAY_MS, "c")
    made = adjust(ledger, row, -NANO)
    assert [x["kind"] for x in describe(made)["levels"]] == ["team"]
    adjust(ledger, later, 6 * NANO)
    assert [ledger.usage(x, T0 + 2 * DAY_MS)[0] for x in (KEY, TEAM)] == [NANO, 13 * NANO]


def test_a_counter_stops_at_zero_and_the_message_says_so():
    ledger = Ledger()
    row = spend(ledger, [KEY, TEAM], 5 * NANO, T0)
    reset(ledger, KEY, T0)
    made = adjust(ledger, row, -5 * NANO)
    assert [ledger.usage(x, T0)[0] for x in (KEY, TEAM)] == [0, 0]
    assert message_of(made, 5 * NANO) == (
        "Call a now costs $0.00 instead of $5.00; stopped at 0, because no more was counted there: virtual_key vk (1d)"
    )


def test_a_refused_limit_was_not_charged_and_is_not_adjusted():
    ledger = Ledger()
    spend(ledger, [KEY], 50 * NANO, T0)
    checks = []
    assert ledger.reserve("b", [(TEAM, 1), (KEY, 1)], T0, checks) is not None
    assert [name for name, _ in windows_of_call(record("b", limits=checks), ledger, None)] == [TEAM.counter]


def test_a_record_without_checks_counts_under_what_the_policy_says(tmp_path):
    (tmp_path / "p.yaml").write_text(
        "version: 1\nteams: [{id: t, budget: {max_limit: 9, reset_duration: 1M}}]\n"
        "virtual_keys: [{id: vk, team_id: t, budget: {max_limit: 5, reset_duration: 1d}}]\n"
    )
    policy, ledger = load(tmp_path / "p.yaml", env={}, now=T0), Ledger()
    limits = [x for x in policy.all_limits() if x.unit == "usd"]
    row = spend(ledger, limits, NANO, T0) | {"limits": None, "virtual_key_id": "vk", "team_id": "t", "provider": "anthropic"}
    assert {name for name, _ in windows_of_call(row, ledger, policy)} == {"virtual_key/vk/usd/1d", "team/t/usd/1M"}
    assert windows_of_call(row | {"started_at": iso(T0 - 90 * DAY_MS)}, ledger, policy) == []
    assert windows_of_call(row | {"virtual_key_id": None}, ledger, policy) == []


def test_a_line_of_the_journal_is_an_adjustment_or_a_call():
    made = adjustment(3, scope_kind="team", scope_id="t", team_id="t")
    assert from_line(line_of(made)) == made
    assert from_line(record("a")) is None
    assert message_of(made, None) == "$0.000000003 added to team t"
    # Every digit: whoever corrects a charge compares it with a bill.
    assert message_of(adjustment(119_440_000, call_id="a"), 560_000) == "Call a now costs $0.12 instead of $0.00056"
    assert message_of(adjustment(-20 * NANO, scope_kind="team", scope_id="t"), None) == "$20.00 taken off team t"


@given(st.lists(st.tuples(st.sampled_from(["spend", "adjust", "reset"]), st.integers(-9, 9)), max_size=20))
def test_counters_never_fall_below_zero_and_repeating_the_charges_gives_the_same(steps):
    ledger, again, rows = Ledger(), Ledger(), []
    for number, (what, amount) in enumerate(steps):
        at = T0 + number * DAY_MS // 4
        if what == "spend":
            rows.append(spend(ledger, [KEY, TEAM], abs(amount), at, f"c{number}"))
            spend(again, [KEY, TEAM], abs(amount), at, f"c{number}")
        elif what == "reset":
            assert reset(ledger, KEY, at) == reset(again, KEY, at)
        elif rows:
            before = [ledger.usage(x, at)[0] for x in (KEY, TEAM)]
            made = adjust(ledger, rows[-1], amount)
            repeat(again, from_line(line_of(made)))
            for x, used in zip((KEY, TEAM), before, strict=True):
                assert ledger.usage(x, at)[0] in (max(0, used + amount), used)
    assert {n: (c.used, c.previous) for n, c in ledger.counters.items()} == {
        n: (c.used, c.previous) for n, c in again.counters.items()
    }
    assert all(c.used >= 0 and (c.previous is None or c.previous[2] >= 0) for c in ledger.counters.values())


@pytest.mark.parametrize(("end", "change"), [(100, -5), (50, -3), (None, 0), (7, 0)])
def test_a_counter_is_adjusted_in_a_window_it_still_has(end, change):
    ledger = Ledger()
    counter = ledger.counter(KEY, T0)
    counter.start, counter.end, counter.used, counter.previous = 50, 100, 5, (0, 50, 3)
    assert ledger.adjust(KEY.counter, end, -9) == change
    assert ledger.adjust("no such counter", end, 4) == 0
    assert [counter.end_of_window_at(at) for at in (-1, 0, 49, 50, 99, 100)] == [None, (50,), (50,), (100,), (100,), None]
