"""The writer: what is written when."""

from __future__ import annotations

import asyncio

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
        for _ in range(1000):
            if not services.writer.has_pending:
                break
            await asyncio.sleep(0.005)
        return loop.time() - began

    try:
        assert asyncio.run(written()) < 5
    finally:
        services.close()
