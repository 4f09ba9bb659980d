"""Live: what lookers are told of running calls."""

from __future__ import annotations

import asyncio

from sluicegate.calls.call import Call
from sluicegate.calls.live_calls import MAX_QUEUED_EVENTS, LiveCalls
from sluicegate.calls.record import record_of
from sluicegate.values import Principal, RequestFacts


def call(number: int, key: str = "vk-a") -> Call:
    made = Call(id=f"call-{number}", started_at=number, provider="anthropic", kind="messages", principal=Principal(key))
    made.facts = RequestFacts(model="claude-opus-5-5")
    return made


def told(live: LiveCalls, count: int, *, happen=lambda: None, key: str | None = None, heartbeat_s: float = 5.0):
    async def run():
        looking = live.watch(key, heartbeat_s)
        heard = [await anext(looking)] if count < 0 else []
        happen()
        heard += [await anext(looking) for _ in range(abs(count))]
        await looking.aclose()
        return [(h.kind, h.record.get("id")) if h else None for h in heard]

    return asyncio.run(run())


def test_a_looker_hears_what_runs_and_then_what_happens():
    live, first, second = LiveCalls(), call(1), call(2)
    live.begin(first)

    def happen():
        live.begin(second)
        live.end(first, record_of(first, 9))

    assert told(live, -2, happen=happen) == [("began", "call-1"), ("began", "call-2"), ("ended", "call-1")]
    assert list(live.running) == ["call-2"]


def test_a_running_call_has_no_end_yet():
    live = LiveCalls()
    live.begin(call(1))

    async def run():
        looking = live.watch()
        heard = await anext(looking)
        await looking.aclose()
        return heard.record

    record = asyncio.run(run())
    assert (record["model_requested"], record["outcome"], record["latency_ms"], record["cost_usd"]) == ("claude-opus-5-5",) + (
        None,
    ) * 3


def test_one_key_hears_of_its_own_calls_only():
    live = LiveCalls()
    live.begin(call(1, "vk-a"))
    live.begin(call(2, "vk-b"))
    assert told(live, 1, key="vk-b") == [("began", "call-2")]


def test_silence_is_told_and_nobody_looking_leaves_nothing_behind():
    live = LiveCalls()
    assert told(live, 1, heartbeat_s=0.01) == [None]
    live.begin(call(1))
    live.end(call(1), {})
    assert (live.running, live._watchers) == ({}, set())


def test_a_looker_that_sleeps_is_told_how_much_it_missed():
    live = LiveCalls()
    live.begin(call(0))

    def happen():
        for number in range(1, MAX_QUEUED_EVENTS + 8):
            live.begin(call(number))

    heard = told(live, -(MAX_QUEUED_EVENTS + 1), happen=happen)
    assert heard[1] == ("began", "call-1")
    assert heard[-1] == ("missed", None)


def test_everybody_is_let_go_at_once_and_nobody_comes_back():
    live = LiveCalls()
    live.begin(call(1))

    async def run():
        idle, behind = live.watch(heartbeat_s=60), live.watch(heartbeat_s=60)
        for looking in (idle, behind):
            await anext(looking)
        waiting = asyncio.ensure_future(anext(idle, "over"))
        await asyncio.sleep(0)
        live.begin(call(2))
        assert (await waiting).record["id"] == "call-2"
        waiting = asyncio.ensure_future(anext(idle, "over"))
        await asyncio.sleep(0)
        live.close()
        heard = [await waiting, await anext(behind, "over"), await anext(live.watch(heartbeat_s=60), "over")]
        return heard, live.watchers

    assert asyncio.run(run()) == (["over"] * 3, 0)
