"""A target's health: what its weight becomes, and when its breaker keeps calls away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.routing.health import (
    HALF_LIFE_MS,
    LEAST_CALLS,
    MIN_FACTOR,
    OPEN_MS,
    OPENING_FAILURES,
    PROBE_MS,
    TOLERATED_MS,
    Health,
)

NOW = 1_800_000_000_000


def failing(times, at=NOW):
    health = Health()
    for _ in range(times):
        health.note(at, is_failure=True)
    return health


def test_failures_in_a_row_open_the_breaker_and_one_success_closes_it():
    assert failing(OPENING_FAILURES - 1).state(NOW) == "closed"
    health = failing(OPENING_FAILURES)
    assert (health.state(NOW), health.admits(NOW)) == ("open", False)
    assert health.state(NOW + OPEN_MS) == "half_open"
    health.note(NOW + OPEN_MS, is_failure=False)
    assert (health.state(NOW + OPEN_MS), health.failures) == ("closed", 0)


def test_a_half_open_breaker_lets_one_call_try_at_a_time():
    health, later = failing(OPENING_FAILURES), NOW + OPEN_MS
    assert health.admits(later)
    health.begin(later)
    assert not health.admits(later + 1)
    # Its outcome never came: another one may try.
    assert health.admits(later + PROBE_MS)
    health.note(later + 5, is_failure=True)
    assert health.state(later + 6) == "open"
    assert health.admits(later + 5 + OPEN_MS)


def test_errors_and_slowness_lower_the_weight_and_time_heals_it():
    good, bad = Health(), Health()
    for _ in range(10):
        good.note(NOW, is_failure=False, latency_ms=200)
        bad.note(NOW, is_failure=False, latency_ms=2800)
    assert good.factor(NOW, 200) == 1
    assert bad.factor(NOW, 200) == pytest.approx(0.625)
    for _ in range(3):
        bad.note(NOW, is_failure=True)
    worse = bad.factor(NOW, 200)
    assert worse < 0.625
    assert bad.factor(NOW + 20 * HALF_LIFE_MS, 200) > worse


def slow(calls, latency_ms):
    health = Health()
    for _ in range(calls):
        health.note(NOW, is_failure=False, latency_ms=latency_ms)
    return health


@pytest.mark.parametrize(
    ("calls", "latency_ms", "wanted"),
    [
        (100, 200 + TOLERATED_MS, 1),
        (100, 2 * (200 + TOLERATED_MS), 0.75),
        (int(LEAST_CALLS) - 1, 60_000, 1),
        (int(LEAST_CALLS), 60_000, 0.5 + 0.5 * 700 / 60_000),
    ],
    ids=["a little slower", "slow", "too few calls", "few calls"],
)
def test_a_target_loses_weight_by_latency_only_where_it_is_slow_time_and_again(calls, latency_ms, wanted):
    assert slow(calls, latency_ms).factor(NOW, 200) == pytest.approx(wanted)


def test_little_headroom_lowers_the_weight():
    health = Health()
    health.note(NOW, is_failure=False, headroom=0.1)
    assert health.factor(NOW, 0) == pytest.approx(0.35)
    health.note(NOW, is_failure=False, headroom=0.9)
    assert health.factor(NOW, 0) == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10**6), st.integers(0, 10**7)), max_size=30), st.integers(0, 10**7))
def test_the_factor_is_always_a_share_that_lets_a_target_recover(notes, rest):
    health, now = Health(), NOW
    for is_failure, latency, pause in notes:
        now += pause
        health.note(now, is_failure=is_failure, latency_ms=latency)
        assert 0 <= health.error_rate <= 1 + 1e-9
    assert MIN_FACTOR <= health.factor(now + rest, 100.0) <= 1


def test_an_answer_within_the_millisecond_has_a_latency():
    health = Health()
    health.note(0, is_failure=False, latency_ms=0)
    assert health.latency_ms == 1
