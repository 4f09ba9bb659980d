"""Free requests: so many a minute of each caller, whatever the others do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sluicegate.calls.admission import deny_exhausted
from sluicegate.limits.free_requests import MAX_CALLERS, WINDOW_MS, FreeRequests
from sluicegate.values import Reason

NOW = 1_795_000_000_000


def test_the_limit_is_per_caller_and_minute_and_the_refusal_names_both():
    free = FreeRequests()
    assert [free.take("virtual_key", "a", 2, NOW + i) for i in range(2)] == [None, None]
    exhausted = free.take("virtual_key", "a", 2, NOW + 10_000)
    deny = deny_exhausted(exhausted, NOW + 10_000)
    assert (deny.reason, deny.limit, deny.used, deny.resets_at, deny.retry_after) == (
        Reason.REQUEST_LIMITED,
        2,
        3,
        NOW + WINDOW_MS,
        50,
    )
    assert deny.message == (
        "Rate limits exceeded: [request limit exceeded (3/2, resets every 1m)] for free requests of VK a; try again in 50 s"
    )
    assert free.take("virtual_key", "b", 2, NOW + 10_000) is None
    assert free.take("address", "a", 2, NOW + 10_000) is None
    assert free.take("virtual_key", "a", 2, NOW + WINDOW_MS) is None
    assert free.take("virtual_key", "a", 0, NOW + WINDOW_MS) is not None
    # A limit that has been raised meanwhile counts at once.
    assert free.take("virtual_key", "a", 3, NOW + WINDOW_MS) is None


@given(st.lists(st.integers(-2 * WINDOW_MS, WINDOW_MS), max_size=40), st.integers(1, 5))
def test_no_minute_has_more_than_its_limit_and_no_caller_waits_longer_than_one(steps, maximum):
    free, now, admitted = FreeRequests(), NOW, []
    for step in steps:
        # A clock that is set back begins another minute: nobody waits until it has caught up.
        admitted = admitted if step >= 0 else []
        now += step
        if free.take("virtual_key", "a", maximum, now) is None:
            admitted.append(now)
        # Two windows may meet in a minute, no more.
        assert sum(now - WINDOW_MS < at <= now for at in admitted) <= 2 * maximum
    assert free.take("virtual_key", "a", maximum, now + WINDOW_MS) is None
    assert free.take("virtual_key", "a", maximum, now - 3 * WINDOW_MS) is None


def test_callers_without_number_are_forgotten_the_oldest_first():
    free = FreeRequests()
    for i in range(MAX_CALLERS + 5):
        assert free.take("address", str(i), 1, NOW) is None
    assert len(free._windows) == MAX_CALLERS
    assert free.take("address", str(MAX_CALLERS + 4), 1, NOW) is not None
    assert free.take("address", "0", 1, NOW) is None
