"""Budgets under parallel calls, hard limits for real, and money across kill -9."""

from __future__ import annotations

import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import pytest

from support.fake_provider import message, plain, sse, usage
from support.harness import VK, ask, eventually, policy_text, receive

pytestmark = pytest.mark.wire


MOST_TOKENS_PER_MS = 0.2
"""More than the model is taken to have written unseen in a millisecond of a call."""


def keys(**limits):
    return [{"id": VK, "team_id": "team-engineering", "user_id": "alice"} | limits]


def together(count, call):
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: call(), range(count)))


def test_parallel_calls_on_a_nearly_spent_budget(gateway, provider):
    """Sixty-four at once on a cent: only what the reservations leave room for passes, then nothing."""
    gw = gateway(policy_text(provider.url, virtual_keys=keys(budget={"max_limit": 0.05, "reset_duration": "1M"})))
    ready = threading.Barrier(64)

    def script(peer, seen):
        time.sleep(0.3)
        plain(message(**usage(input_tokens=30, output_tokens=1024)))(peer, seen)

    provider.script = script

    def call():
        ready.wait(60)
        return gw.post()

    replies = together(64, call)
    passed = [r for r in replies if r.status == 200]
    assert all(r.reason == "budget_exceeded" for r in replies if r.status != 200)
    # A first call is expected to write all its 1,024 tokens, 2 cents and a little: the third crosses the line.
    assert len(passed) == 3
    assert len(provider.seen) == len(passed)
    assert len(gw.calls(64)) == 64


@pytest.mark.parametrize("text", ["prose", "x"])
def test_a_hard_budget_is_never_overspent(gateway, provider, text):
    """Whatever the text turns into, a token a byte included, the sum stays under the limit at every level."""
    words = "x" * 390_000 if text == "x" else "The quick brown fox jumps over the lazy dog. " * 8_000
    # A call that does not ask for speed is not served at the fast rates: its worst case is about 3.50 dollars.
    limit = {"max_limit": 5, "reset_duration": "1M", "enforcement": "hard"}
    gw = gateway(policy_text(provider.url, virtual_keys=keys(budget=limit)))
    size = len(ask(words))
    provider.script = plain(message(**usage(cache_creation_input_tokens=size, cache_creation={"ephemeral_1h_input_tokens": size}, output_tokens=1024)))  # fmt: skip
    answer, go = provider.script, threading.Event()
    provider.script = lambda peer, seen: (go.wait(60), answer(peer, seen))
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(gw.post, ask(words)) for _ in range(8)]
        eventually(lambda: sum(a.done() for a in asked) == 7)
        go.set()
        statuses = sorted(a.result().status for a in asked)
    assert statuses == [200] + [402] * 7, "one worst case at the dearest rates fits, two do not"
    while (reply := gw.post(ask(words))).status == 200:
        pass
    assert reply.status == 402
    assert "worst case" in reply.message
    assert 0 < gw.used() <= 5


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"request_max_limit": 100, "request_reset_duration": "1h"}, "request_limited"),
        ({"max_concurrent": 100}, "concurrency_limited"),
    ],
)
def test_exactly_a_hundred_of_a_hundred_and_fifty_pass(gateway, provider, limit, reason):
    gw = gateway(policy_text(provider.url, virtual_keys=keys(rate_limit=limit)))
    go = threading.Event()

    def script(peer, seen):
        go.wait(60)
        plain()(peer, seen)

    provider.script = script
    with ThreadPoolExecutor(150) as pool:
        asked = [pool.submit(gw.post) for _ in range(150)]
        eventually(lambda: sum(a.done() for a in asked) == 50)
        go.set()
        replies = [a.result() for a in asked]
    assert sorted(r.status for r in replies) == [200] * 100 + [429] * 50
    assert {r.reason for r in replies if r.status == 429} == {reason}
    assert len(provider.seen) == 100
    assert gw.post().status == (429 if reason == "request_limited" else 200)


def test_token_limits_count_what_was_really_used(gateway, provider):
    limit = {"token_max_limit": 1_000, "token_reset_duration": "1h"}
    gw = gateway(policy_text(provider.url, virtual_keys=keys(rate_limit=limit)))
    provider.script = plain(message(**usage(input_tokens=100, cache_read_input_tokens=399, output_tokens=1)))
    assert [gw.post().status for _ in range(3)] == [200, 200, 429]
    reply = gw.post()
    assert reply.reason == "token_limited"
    assert "token limit exceeded (1000/1000, resets every 1h)" in reply.message


def test_a_call_refused_for_money_gives_its_slot_back(gateway, provider):
    limits = {
        "rate_limit": {"request_max_limit": 5, "request_reset_duration": "1h"},
        "budget": {"max_limit": 0, "reset_duration": "1M"},
    }
    gw = gateway(policy_text(provider.url, virtual_keys=keys(**limits)))
    assert {gw.post().status for _ in range(8)} == {402}
    assert gw.usage()[f"virtual_key/{VK}/requests"]["used"] == 0


def test_kill_9_under_load_loses_and_doubles_nothing(gateway, provider):
    """After each crash every call the provider saw is on record once, in both places, and the budgets add up."""
    gw = gateway(policy_text(provider.url, virtual_keys=keys(budget={"max_limit": 5000, "reset_duration": "1M"})))

    def script(peer, seen):
        time.sleep(random.uniform(0, 0.02))
        plain()(peer, seen)

    provider.script = script
    for crash in range(1, 5):
        stop = threading.Event()

        def load(stop=stop):
            while not stop.is_set():
                try:
                    gw.post()
                except (OSError, HTTPException):
                    return

        workers = [threading.Thread(target=load) for _ in range(8)]
        for w in workers:
            w.start()
        # However slow the machine is, each crash comes in the midst of calls.
        eventually(lambda crash=crash: len(provider.seen) > 13 * crash)
        time.sleep(random.uniform(0, 0.6))
        gw.process.send_signal(signal.SIGKILL)
        gw.process.wait()
        stop.set()
        for w in workers:
            w.join(60)
        gw.start()
        rows, lines = gw.rows(), gw.journal()
        assert len(lines) == len({x["id"] for x in lines}) == len(rows)
        assert {x["id"]: (x["cost_nano"], x["limits"]) for x in lines} == {x["id"]: (x["cost_nano"], x["limits"]) for x in rows}
        assert all(r["limits"] for r in rows)
        assert gw.rows("SELECT * FROM reservations") == []
        assert len([r for r in rows if r["outcome"] != "denied"]) >= len(provider.seen)
        total = sum(r["cost_nano"] for r in rows)
        assert {r["used"] for r in gw.rows("SELECT used FROM counters")} == {total}
        assert all(r["cost_nano"] > 0 for r in rows)
    assert len(provider.seen) > 50


def test_a_clean_stop_leaves_nothing_open_and_usage_survives(gateway, provider):
    gw = gateway(policy_text(provider.url))
    gw.post()
    gw.calls(1)
    gw.stop(signal.SIGINT)
    gw.start()
    assert gw.used() == 0.0014
    assert len(gw.journal()) == 1
    assert gw.admin("/health").json["recovered"] == {"torn_bytes": 0, "replayed": 0, "interrupted": 0, "rewritten": 0}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_cuts_a_live_stream_settles_it(gateway, provider, how):
    held = threading.Event()

    def script(peer, _):
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        for piece in sse("x" * 260)[:3]:
            peer.chunk(piece)
        held.wait(60)

    provider.script = script
    gw = gateway(policy_text(provider.url), "--set", "grace_period=1")
    body = ask(stream=True)
    with gw.raw() as client:
        client.sendall(
            b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nx-api-key: vk-dev-alice\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        receive(client, b"xxx")
        gw.stop(how)
    held.set()
    (row,) = gw.rows()
    assert (row["input_tokens"], row["estimated"]) == (100, 1)
    assert row["cost_nano"] == 100 * 4_000 + row["output_tokens"] * 20_000
    # More where a busy machine lets the stream stand longer than the grace period.
    paused_ms = max(0, row["latency_ms"] - 1_000)
    assert row["output_tokens"] == pytest.approx(100, abs=5 + paused_ms * MOST_TOKENS_PER_MS)
    assert gw.rows("SELECT * FROM reservations") == []
    assert {r["used"] for r in gw.rows("SELECT used FROM counters")} == {row["cost_nano"]}
    assert gw.journal() == gw.rows()


def test_a_second_gateway_on_the_same_state_folder_exits(gateway):
    gw = gateway()
    second = gateway(gw.policy, "--set", f"state_dir={gw.state}", start=False)
    assert second.exit_code() == 1
    assert any("another gateway is using the state folder" in x for x in second.output)
