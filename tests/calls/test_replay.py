"""Replay: a policy tried on calls that are on record."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.calls.record import COLUMNS
from sluicegate.calls.replay import earliest_window_start, replay
from sluicegate.policy.loader import load
from sluicegate.values import NANO
from sluicegate.windows import iso
from support.harness import policy_text

HOUR, DAY = 3_600_000, 86_400_000
START = 1_790_000_000_000 // DAY * DAY


def row(number, at=0, key="vk-dev-alice", cents=100, **more):
    made = dict.fromkeys(COLUMNS) | {
        "id": f"call-{number}",
        "started_at": iso(START + at),
        "latency_ms": 1000,
        "provider": "anthropic",
    }
    made |= {"virtual_key_id": key, "user_id": "alice", "model_requested": "claude-opus-5-5", "outcome": "completed"}
    return made | {"input_tokens": 1000, "output_tokens": 10, "cost_nano": cents * NANO // 100} | more


def key(**more):
    return {"virtual_keys": [{"id": "vk-dev-alice", "team_id": "team-engineering", "user_id": "alice", **more}]}


def test_a_policy_nobody_reaches_refuses_nobody_and_costs_what_it_did(policy):
    told = replay(policy(), [row(i, i * HOUR) for i in range(10)], START)
    assert (told.calls, told.admitted, told.refused) == (10, 10, [])
    assert told.cost_nano == told.recorded_cost_nano == 10 * NANO


def test_a_smaller_budget_refuses_what_comes_after_the_call_that_crosses_it(policy):
    small = policy(**key(budget={"max_limit": 2.5, "reset_duration": "1d"}))
    told = replay(small, [row(i, i * HOUR) for i in range(10)] + [row(10, DAY + HOUR)], START)
    assert (told.admitted, told.newly_refused, told.cost_nano) == (4, 7, 4 * NANO)
    (lost,) = told.refused
    assert (lost.virtual_key_id, lost.reason, lost.scope) == ("vk-dev-alice", "budget_exceeded", "virtual_key/vk-dev-alice")
    assert (lost.calls, lost.cost_nano, lost.first_at, lost.last_at) == (7, 7 * NANO, START + 3 * HOUR, START + 9 * HOUR)


def test_what_was_spent_before_the_span_fills_the_window(policy):
    small = policy(**key(budget={"max_limit": 5, "reset_duration": "1d"}))
    rows = [row(i, i * HOUR) for i in range(4)] + [row(i, i * HOUR) for i in range(4, 8)]
    told = replay(small, rows, START + 4 * HOUR)
    assert (told.calls, told.admitted, told.newly_refused) == (4, 1, 3)


def test_calls_with_their_clients_own_login_count_under_no_budget_and_teach_no_cost(policy):
    none_left = policy(**key(budget={"max_limit": 0.5, "reset_duration": "1d"}))
    own = [row(i, i * HOUR, cents=0, shadow_nano=NANO) for i in range(4)]
    refused = {"outcome": "denied", "reason": "token_limited", "input_tokens": 0, "output_tokens": 0}
    rows = [*own, row(4, 4 * HOUR), row(5, 5 * HOUR, cents=0, shadow_nano=0, **refused), row(6, 6 * HOUR, **refused)]
    told = replay(none_left, rows, START)
    assert (told.calls, told.admitted, told.newly_admitted, told.newly_refused, told.cost_nano) == (7, 6, 1, 0, NANO)
    (lost,) = told.refused
    assert (lost.reason, lost.first_at, lost.cost_nano) == ("budget_exceeded", START + 6 * HOUR, NANO)
    told = replay(none_left, [*own, *rows[4:]], START + 2 * HOUR)
    assert (told.calls, told.admitted, told.cost_nano) == (5, 4, NANO)
    requests = policy(**key(rate_limit={"request_max_limit": 2, "request_reset_duration": "1d"}))
    assert replay(requests, own, START).newly_refused == 2


@pytest.mark.parametrize(
    ("changes", "reason", "scope"),
    [
        (key(provider_configs=[{"provider": "anthropic", "allowed_models": ["claude-haiku-*"]}]), "model_blocked", "vk-dev-alice"),
        (key(is_active=False), "virtual_key_blocked", "vk-dev-alice"),
        ({"virtual_keys": [{"id": "vk-other"}]}, "virtual_key_not_found", "vk-dev-alice"),
        (key(rate_limit={"request_max_limit": 0, "request_reset_duration": "1h"}), "request_limited", "virtual_key/vk-dev-alice"),
        (key(rate_limit={"token_max_limit": 0, "token_reset_duration": "1h"}), "token_limited", "virtual_key/vk-dev-alice"),
        (key(rate_limit={"max_concurrent": 0}), "concurrency_limited", "virtual_key/vk-dev-alice"),
    ],
)
def test_each_kind_of_refusal_is_named(policy, changes, reason, scope):
    told = replay(policy(**changes), [row(0)], START)
    assert [(r.reason, r.scope, r.calls) for r in told.refused] == [(reason, scope, 1)]
    assert (told.admitted, told.cost_nano, told.recorded_cost_nano) == (0, 0, NANO)


def test_calls_in_flight_at_the_same_time_are_counted_as_such(policy):
    one = policy(**key(rate_limit={"max_concurrent": 1}))
    told = replay(one, [row(0, 0), row(1, 500), row(2, 1000)], START)
    assert [(r.reason, r.calls) for r in told.refused] == [("concurrency_limited", 1)]


def test_calls_refused_at_the_time_are_admitted_at_their_models_mean(policy):
    rows = [row(0, cents=100), row(1, HOUR, cents=300), row(2, 2 * HOUR, cents=0, outcome="denied", reason="budget_exceeded")]
    rows.append(row(3, 3 * HOUR, cents=0, outcome="denied", reason="invalid_request"))
    told = replay(policy(), rows, START)
    assert (told.calls, told.newly_admitted, told.cost_nano, told.recorded_cost_nano) == (3, 1, 6 * NANO, 4 * NANO)


@given(st.lists(st.tuples(st.integers(0, 5 * DAY), st.integers(0, 400)), max_size=40), st.integers(0, 2000))
def test_nothing_is_lost_between_admitted_and_refused(calls, limit):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "policy.yaml"
        file.write_text(policy_text(None, **key(budget={"max_limit": limit / 100, "reset_duration": "1d"})))
        rows = [row(i, at, cents=cents) for i, (at, cents) in enumerate(sorted(calls))]
        told = replay(load(file, env={}, now=0), rows, START)
    assert told.calls == len(rows) == told.admitted + sum(r.calls for r in told.refused)
    assert told.recorded_cost_nano == told.cost_nano + sum(r.cost_nano for r in told.refused)
    assert json.dumps([r.reason.value for r in told.refused]).count("budget_exceeded") == len(told.refused)


def test_windows_begin_when_those_of_the_ledger_do(policy):
    """Two days' worth in one window or in two: what the running gateway has decided is decided here."""
    daily = policy(**key(budget={"max_limit": 3, "reset_duration": "1d"}))
    (limit,) = (x for x in daily.virtual_keys["vk-dev-alice"].limits if x.unit == "usd")
    rows = [row(i, 20 * HOUR + i * HOUR) for i in range(8)]
    assert replay(daily, rows, START).newly_refused == 5
    assert replay(daily, rows, START, {limit.counter: START}).newly_refused == 2
    assert replay(daily, rows, START, {limit.counter: START + 90 * DAY}).newly_refused == 2
    assert replay(daily, rows, START, {limit.counter: START + 20 * HOUR + 5}).newly_refused == 5


def test_the_longest_window_says_from_when_calls_count(policy):
    budgets = [{"max_limit": 3, "reset_duration": "1d"}, {"max_limit": 9, "reset_duration": "1w"}]
    alone = {"customers": [], "teams": [], "users": []}
    both = policy(**alone, virtual_keys=[{"id": "vk-dev-alice", "budgets": budgets}])
    limits = {x.period.text: x.counter for x in both.all_limits()}
    since = START + 10 * DAY
    assert earliest_window_start(both, since, {}) == since
    assert earliest_window_start(both, since, {limits["1d"]: START + HOUR, limits["1w"]: START}) == START + 7 * DAY
    assert earliest_window_start(both, since, {limits["1w"]: START + 90 * DAY}) <= since
    assert earliest_window_start(policy(**alone, virtual_keys=[]), since, {}) == since
