"""Sessions and wrong attempts that all workers know: they behave as those of a gateway without workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sluicegate.dashboard_sessions import (
    FREE_ATTEMPTS,
    IDLE_TIMEOUT_MS,
    MAX_AGE_MS,
    MAX_PER_HOLDER,
    Attempts,
    Sessions,
)
from sluicegate.workers.sign_in import shared_sign_in

Pair = tuple[Sessions, Attempts]


@pytest.fixture(params=["one", "workers"])
def worker(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Pair]:
    """Return what makes a worker's view; of a gateway without workers there is one."""
    (tmp_path / "workers").mkdir()
    if request.param == "workers":
        return lambda: shared_sign_in(tmp_path)
    alone = Sessions(), Attempts()
    return lambda: alone


def test_a_session_opened_at_one_worker_is_known_to_all_until_it_is_closed(worker: Callable[[], Pair]):
    (first, _), (second, _) = worker(), worker()
    session = first.open(b"holder", 1_000, "/app")
    assert second.find(session, 2_000, "/app") == b"holder"
    assert second.find(session, 2_000, "/elsewhere") is None
    assert len(second) == 1
    second.close(session, "/app")
    assert first.find(session, 3_000, "/app") is None


def test_a_session_ends_by_age_and_by_disuse(worker: Callable[[], Pair]):
    sessions = worker()[0]
    idle, used = sessions.open(b"a", 0), sessions.open(b"b", 0)
    at = 0
    while at + IDLE_TIMEOUT_MS // 2 < MAX_AGE_MS:
        at += IDLE_TIMEOUT_MS // 2
        assert sessions.find(used, at) == b"b"
    assert sessions.find(idle, IDLE_TIMEOUT_MS) is None
    assert sessions.find(used, MAX_AGE_MS) is None


def test_one_holder_has_so_many_sessions_at_most(worker: Callable[[], Pair]):
    sessions = worker()[0]
    opened = [sessions.open(b"a", at) for at in range(MAX_PER_HOLDER + 2)]
    assert [sessions.find(s, 100) is None for s in opened] == [True, True, *[False] * MAX_PER_HOLDER]


def test_wrong_attempts_at_any_worker_cost_a_wait_at_all(worker: Callable[[], Pair]):
    (_, first), (_, second) = worker(), worker()
    for _ in range(FREE_ATTEMPTS):
        assert second.delay_ms("10.0.0.1", 1_000) == 0
        first.failed("10.0.0.1", 1_000)
    assert second.delay_ms("10.0.0.1", 1_000) == 1_000
    second.failed("10.0.0.1", 2_000)
    assert first.delay_ms("10.0.0.1", 2_000) == 2_000
    assert first.delay_ms("10.0.0.2", 2_000) == 0
