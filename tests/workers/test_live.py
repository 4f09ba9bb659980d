"""Live calls over workers: who watches one of them sees the calls of all, each with its worker's name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from sluicegate.calls.call import Call
from sluicegate.calls.live_calls import LiveCalls, LiveEvent
from sluicegate.workers import live
from sluicegate.workers.live import LiveOfWorkers
from sluicegate.workers.worker import worker_folder

WAIT_S = 60


class Worker:
    """One worker's live calls."""

    def __init__(self, state_dir: Path, number: int) -> None:
        worker_folder(state_dir, number).mkdir(parents=True)
        self.calls = LiveCalls()
        self.part = LiveOfWorkers(number, state_dir, self.calls)
        self.name = f"host-{number}"
        self.part.start()
        # Takes the number of the descriptor by which the socket's folder was named.
        self.other_file = (state_dir / f"other-{number}").open("wb")

    def begin(self, call_id: str) -> Any:
        call = Call(id=call_id, started_at=1, provider="anthropic", kind="messages")
        call.node = self.name
        self.calls.begin(call)
        return call

    def end(self, call: Any) -> None:
        self.calls.end(call, {"id": call.id, "node": self.name, "outcome": "completed", "virtual_key_id": None, "limits": []})


async def next_of(events: AsyncGenerator[LiveEvent | None]) -> tuple[str, str, str, str | None]:
    async with asyncio.timeout(WAIT_S):
        while (event := await anext(events)) is None:
            pass
    return event.kind, event.record["id"], event.record["node"], event.record["outcome"]


def test_calls_of_another_worker_begin_and_end_here_and_end_with_it(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(live, "RETRY_S", 0.01)

    async def run() -> None:
        one, other = Worker(tmp_path, 1), Worker(tmp_path, 2)
        before = other.begin("call_before")
        assert (one.calls.watchers, other.calls.watchers) == (0, 0)
        async with aclosing(one.calls.watch(None, 1.0)) as events:
            assert await next_of(events) == ("began", "call_before", "host-2", None)
            one.begin("call_here")
            assert await next_of(events) == ("began", "call_here", "host-1", None)
            other.begin("call_cut")
            assert await next_of(events) == ("began", "call_cut", "host-2", None)
            other.end(before)
            assert await next_of(events) == ("ended", "call_before", "host-2", "completed")
            # Whoever comes later sees what runs, and a worker that only passes on is nobody who watches.
            async with aclosing(one.calls.watch(None, 1.0)) as later:
                assert {(await next_of(later))[1] for _ in range(2)} == {"call_here", "call_cut"}
            assert (one.calls.watchers, other.calls.watchers) == (1, 0)
            # One that finishes its calls goes on telling of them, until it ends.
            other.calls.close()
            other.end(other.begin("call_last"))
            assert [(await next_of(events))[:2] for _ in range(2)] == [("began", "call_last"), ("ended", "call_last")]
            other.part.close()
            assert await next_of(events) == ("ended", "call_cut", "host-2", "interrupted")
        assert one.calls.elsewhere == {}
        one.part.close()
        for worker in (one, other):
            worker.other_file.close()

    asyncio.run(run())
