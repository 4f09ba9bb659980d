"""Live: what lookers are told of running calls."""

from __future__ import annotations

import asyncio

from sluicegate.calls.call import Call
from sluicegate.calls.live_calls import BACKLOG, Live
from sluicegate.calls.record import record_of
from sluicegate.values import Principal, RequestFacts


def call(number: int, key: str = "vk-a") -> Call:
    made = Call(id=f"call-{number}", started_at=number, provider="anthropic", kind="messages", principal=Principal(key))
    made.facts = RequestFacts(model="claude-opus-5-5")
    return made


def told(live: Live, count: int, *, happen=lambda: None, key: str | None = None, pulse: float = 5.0):
    async def run():
        looking = live.look(key, pulse)
        heard = [await anext(looking)] if count < 0 else []
        happen()
        heard += [await anext(looking) for _ in range(abs(count))]
        await looking.aclose()
        return [(h.what, h.record.get("id")) if h else None for h in heard]

    return asyncio.run(run())


def test_a_looker_hears_what_runs_and_then_what_happens():
    live, first, second = Live(), call(1), call(2)
    live.began(first)

    def happen():
        live.began(second)
        live.ended(first, record_of(first, 9))

    assert told(live, -2, happen=happen) == [("began", "call-1"), ("began", "call-2"), ("ended", "call-1")]
    assert list(live.running) == ["call-2"]


def test_a_running_call_has_no_end_yet():
    live = Live()
    live.began(call(1))

    async def run():
        looking = live.look()
        heard = await anext(looking)
        await looking.aclose()
        return heard.record

    record = asyncio.run(run())
    assert (record["model_requested"], record["outcome"], record["latency_ms"], record["cost_usd"]) == ("claude-opus-5-5",) + (
        None,
    ) * 3


def test_one_key_hears_of_its_own_calls_only():
    live = Live()
    live.began(call(1, "vk-a"))
    live.began(call(2, "vk-b"))
    assert told(live, 1, key="vk-b") == [("began", "call-2")]


def test_silence_is_told_and_nobody_looking_leaves_nothing_behind():
    live = Live()
    assert told(live, 1, pulse=0.01) == [None]
    live.began(call(1))
    live.ended(call(1), {})
    assert (live.running, live._lookers) == ({}, set())


def test_a_looker_that_sleeps_is_told_how_much_it_missed():
    live = Live()
    live.began(call(0))

    def happen():
        for number in range(1, BACKLOG + 8):
            live.began(call(number))

    heard = told(live, -(BACKLOG + 1), happen=happen)
    assert heard[1] == ("began", "call-1")
    assert heard[-1] == ("missed", None)


def test_everybody_is_let_go_at_once_and_nobody_comes_back():
    live = Live()
    live.began(call(1))

    async def run():
        idle, behind = live.look(pulse=60), live.look(pulse=60)
        for looking in (idle, behind):
            await anext(looking)
        waiting = asyncio.ensure_future(anext(idle, "over"))
        await asyncio.sleep(0)
        live.began(call(2))
        assert (await waiting).record["id"] == "call-2"
        waiting = asyncio.ensure_future(anext(idle, "over"))
        await asyncio.sleep(0)
        live.end()
        heard = [await waiting, await anext(behind, "over"), await anext(live.look(pulse=60), "over")]
        return heard, live.lookers

    assert asyncio.run(run()) == (["over"] * 3, 0)
