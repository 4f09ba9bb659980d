"""What is tried again, and how long a call waits before another attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.calls.plan import FIRST_BACKOFF_MS, MAX_BACKOFF_MS, MAX_HONOURED_WAIT_MS, cause_of_status, pause_ms, retries
from sluicegate.policy.routes import Retry

JITTER = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("attempt", "is_same_target", "retry_after_ms", "wanted"),
    [
        (1, False, None, 0),
        (1, False, 15_000, 0),
        (1, False, 3_600_000, 0),
        (1, True, None, FIRST_BACKOFF_MS // 2),
        (2, True, None, FIRST_BACKOFF_MS),
        (9, True, None, MAX_BACKOFF_MS // 2),
        (1, True, 0, 0),
        (1, True, 15_000, 15_000),
        (9, True, 15_000, 15_000),
        (1, True, MAX_HONOURED_WAIT_MS, MAX_HONOURED_WAIT_MS),
        (1, True, MAX_HONOURED_WAIT_MS + 1, None),
    ],
)
def test_the_same_target_gets_the_time_it_asks_for_and_another_none(attempt, is_same_target, retry_after_ms, wanted):
    """Without jitter, which adds up to as much again."""
    assert pause_ms(attempt, is_same_target=is_same_target, retry_after_ms=retry_after_ms, jitter=0) == wanted


@given(st.integers(1, 10), JITTER)
def test_pauses_double_up_to_a_bound_and_are_spread_over_half_of_it(attempt, jitter):
    longest = min(FIRST_BACKOFF_MS << (attempt - 1), MAX_BACKOFF_MS)
    pause = pause_ms(attempt, is_same_target=True, retry_after_ms=None, jitter=jitter)
    assert pause is not None
    assert longest // 2 <= pause <= longest


@given(st.integers(1, 10), st.integers(0, 10**8), JITTER)
def test_nobody_is_asked_again_before_the_time_it_asked_for(attempt, asked_ms, jitter):
    pause = pause_ms(attempt, is_same_target=True, retry_after_ms=asked_ms, jitter=jitter)
    assert pause == (asked_ms if asked_ms <= MAX_HONOURED_WAIT_MS else None)


@pytest.mark.parametrize(
    ("status", "wanted"),
    [(400, None), (401, None), (404, None), (408, "408"), (429, "429"), (500, "5xx"), (503, "5xx"), (529, "529"), (599, "5xx")],
)
def test_a_status_is_tried_again_or_stands(status, wanted):
    cause = cause_of_status(status)
    assert cause == wanted
    if cause is not None:
        assert retries(Retry(), cause)
        assert retries(Retry(on=["5xx"]), cause) == (status >= 500)
