"""The writer: what is written when."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from sluicegate.services import Services
from support.calls import record


def test_what_can_wait_makes_nothing_else_wait(tmp_path):
    """A stranger's refusal is counted within a second, a call is on record within 20 ms, whichever came first."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\n")
    services = Services(policy, tmp_path / "state", {})

    async def written():
        loop = asyncio.get_running_loop()
        services.writer.count_refusal(0, "127.0.0.1", "virtual_key_required")
        services.writer.flush_soon(60.0)
        services.writer.rows.calls.append(record("a"))
        services.writer.flush_soon()
        services.writer.flush_soon(60.0)
        began = loop.time()
        for _ in range(12_000):
            if not services.writer.has_pending:
                break
            await asyncio.sleep(0.005)
        return loop.time() - began

    try:
        assert asyncio.run(written()) < 30
    finally:
        services.close()


class LoopAtAnyTime(asyncio.SelectorEventLoop):
    """An event loop whose clock is set."""

    now = 0.0

    def time(self):
        return self.now


def test_a_write_is_due_when_the_soonest_that_was_asked_for_is(tmp_path):
    """Whatever is asked for at whatever time, and though the clock is only read where it may matter."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\n")
    services = Services(policy, tmp_path / "state", {})
    writer, loop = services.writer, LoopAtAnyTime()

    async def ask(asked):
        due = float("inf")
        for passed, delay in asked:
            loop.now += passed
            writer.flush_soon(delay)
            due = min(due, loop.now + delay)
            assert writer._timer.when() == due

    @given(st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.3, 2.0]), st.sampled_from([0.02, 0.05, 0.5, 1.0, 60.0])), max_size=12))
    def check(asked):
        loop.run_until_complete(ask(asked))
        if writer._timer is not None:
            writer._timer.cancel()
            writer._timer = None

    try:
        check()
    finally:
        loop.close()
        services.close()


def test_refusals_are_counted_by_minute_and_added_to_what_is_on_file(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\n")
    services = Services(policy, tmp_path / "state", {})
    for at in (0, 59_999, 60_000):
        services.writer.count_refusal(at, "127.0.0.1", "unauthorized")
    services.writer.flush()
    services.writer.count_refusal(1, "127.0.0.1", "unauthorized")
    services.writer.flush()
    rows = services.store._conn.execute("SELECT minute, count FROM refusals ORDER BY minute").fetchall()
    assert rows == [("1970-01-01T00:00Z", 3), ("1970-01-01T00:01Z", 1)]
    services.close()
