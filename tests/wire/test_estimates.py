"""Estimates through the real chain: how many parallel calls a budget admits that knows nothing yet, and unfinished answers."""

from __future__ import annotations

import http.client
import math
import select
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from support import http2_client
from support.fake_provider import event, message, plain, sse, streamed, usage
from support.harness import Gateway, ask, eventually, policy_text, receive

pytestmark = pytest.mark.wire

HAIKU = "claude-haiku-4-5"
IN, OUT = 1_000, 5_000
"""Nano-dollars for a token of this model."""

CALLS, ADMITTED = 40, 10
CALL_NANO = 50_000_000
"""Each call costs five cents, prompt included, of a budget of fifty."""


def keys(count: int, **limits):
    return [{"id": f"vk-{n}"} | limits for n in range(count)]


class Held:
    """A provider's answers, held until enough calls have been refused."""

    def __init__(self, provider, refusals: int, **counts: int) -> None:
        self.refusals, self.refused, self.go = refusals, 0, threading.Event()
        answer = plain(message(HAIKU, **usage(**counts)))

        def script(peer, seen):
            self.go.wait(60)
            answer(peer, seen)

        provider.script = script

    def count(self, statuses: Counter[str]) -> None:
        if sum(statuses.values()) - statuses["200"] >= self.refusals:
            self.go.set()


def over_http1(gw: Gateway, bodies: list[bytes], key: str, held: Held) -> Counter[str]:
    """Make all calls at once, each on a connection of its own."""
    ended: Counter[str] = Counter()
    lock, ready = threading.Lock(), threading.Barrier(len(bodies))

    def call(body):
        ready.wait(60)
        reply = gw.post(body, key)
        with lock:
            ended[str(reply.status)] += 1
            held.count(ended)

    with ThreadPoolExecutor(len(bodies)) as pool:
        list(pool.map(call, bodies))
    return ended


def over_http2(gw: Gateway, bodies: list[bytes], key: str, held: Held) -> Counter[str]:
    """Make all calls at once on one connection."""
    return http2_client.at_once(gw, bodies, key, held.count)


def five_cents(prompt_bytes: int) -> tuple[bytes, dict[str, int]]:
    """Return a call's body and what its answer reports: all the output that it allows."""
    prompt = max(20, prompt_bytes // 4)
    output = (CALL_NANO - prompt * IN) // OUT
    return ask("word " * (prompt_bytes // 5), HAIKU, max_tokens=output), {"input_tokens": prompt, "output_tokens": output}


@pytest.mark.covering
@pytest.mark.parametrize("over", [over_http1, over_http2], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("prompt_bytes", [20, 20_000])
def test_ten_of_forty_parallel_calls_pass_on_a_fresh_budget(gateway, provider, is_long, prompt_bytes, over):
    """Of each new key, before and after a restart; the answers teach what input costs, and of output nothing."""
    runs = 20 if is_long else 2
    budget = {"max_limit": 0.50, "reset_duration": "1M"}
    gw = gateway(policy_text(provider.url, virtual_keys=keys(runs, budget=budget), customers=[], teams=[], users=[]))
    body, counts = five_cents(prompt_bytes)
    passed = []
    for run in range(runs):
        if run == runs // 2:
            gw.stop()
            gw.start()
        held = Held(provider, CALLS - ADMITTED, **counts)
        passed.append(over(gw, [body] * CALLS, f"vk-{run}", held))
        held.go.set()
    assert passed == [{"200": ADMITTED, "402": CALLS - ADMITTED}] * runs
    assert gw.used("virtual_key/vk-0") == pytest.approx(0.5, abs=0.0001)


def test_one_keys_short_answers_let_no_other_key_overspend(gateway, provider):
    """Sixty answers of one token each, before and after a restart; then another key's first calls on a cent."""
    budget = {"max_limit": 0.01, "reset_duration": "1M"}
    gw = gateway(
        policy_text(provider.url, virtual_keys=[{"id": "vk-short"}, *keys(2, budget=budget)], customers=[], teams=[], users=[])
    )
    body = ask(model=HAIKU, max_tokens=2_000)
    for run in range(2):
        provider.script = plain(message(HAIKU, **usage(input_tokens=20, output_tokens=1)))
        for _ in range(30):
            assert gw.post(ask(model=HAIKU, max_tokens=1), "vk-short").status == 200
            assert gw.post(ask(model=HAIKU, max_tokens=900), "vk-short").status == 200
        if run:
            gw.stop()
            gw.start()
        held = Held(provider, 39, input_tokens=20, output_tokens=2_000)
        ended = over_http1(gw, [body] * 40, f"vk-{run}", held)
        assert ended == {"200": 1, "402": 39}, "one such call may cost the cent"
    assert gw.post(ask(model=HAIKU, max_tokens=900), "vk-short").status == 200


def test_tokens_are_reserved_as_money_is(gateway, provider):
    """Thirty calls of 1,100 tokens at once on 20,000 tokens an hour."""
    limit = {"token_max_limit": 20_000, "token_reset_duration": "1h"}
    gw = gateway(policy_text(provider.url, virtual_keys=keys(1, rate_limit=limit), customers=[], teams=[], users=[]))
    held = Held(provider, 11, input_tokens=100, output_tokens=1_000)
    ended = over_http1(gw, [ask("word " * 30, HAIKU, max_tokens=1_000)] * 30, "vk-0", held)
    assert ended == {"200": 19, "429": 11}
    assert gw.usage()["virtual_key/vk-0/tokens"]["used"] == 19 * 1_100


# -- answers that end before they say what they used -------------------------------------------------------------------------


class Thinking:
    """A provider that thinks unseen at some speed, and notes what it bills when its client has gone."""

    NOTICE_S = 2
    """How late a provider may notice that its client has gone; on a busy machine this one's thread may run later than that."""

    def __init__(self, provider, tokens_per_s: int) -> None:
        self.billed: list[int] = []
        self.left_at = math.inf
        started = {"id": "msg_1", "type": "message", "role": "assistant", "model": HAIKU, "content": []}

        def script(peer, _):
            began = time.monotonic()
            peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
            peer.chunk(event("message_start", message=started | {"usage": usage(input_tokens=700, output_tokens=1)}))
            # It sees at once when its client leaves, because nothing else will be sent to it.
            while not select.select([peer.conn], [], [], 0.05)[0]:
                peer.chunk(event("ping"))
            self.billed.append(round((min(time.monotonic(), self.left_at + self.NOTICE_S) - began) * tokens_per_s))

        provider.script = script


def leave_after(gw: Gateway, thinking: Thinking, seconds: float, key: str) -> None:
    """Make a call and leave before its answer has ended."""
    body = ask("word " * 400, HAIKU, max_tokens=60_000, stream=True)
    with gw.raw() as client:
        head = f"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nx-api-key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        receive(client, b"message_start")
        time.sleep(seconds)
        thinking.left_at = time.monotonic()


@pytest.mark.parametrize("tokens_per_s", [30, 400])
def test_who_leaves_while_the_model_thinks_pays_for_it(gateway, provider, tokens_per_s):
    """Under a hard budget never less than the bill, and not the whole bound; under a soft one about the bill, if known."""
    hard = {"budget": {"max_limit": 0.70, "reset_duration": "1M", "enforcement": "hard"}}
    gw = gateway(policy_text(provider.url, virtual_keys=[{"id": "vk-0"} | hard, {"id": "vk-1"}], customers=[], teams=[], users=[]))
    thinking = Thinking(provider, tokens_per_s)
    for number, (key, seconds) in enumerate([("vk-0", 0.2), ("vk-0", 1.0), ("vk-1", 1.0)], 1):
        leave_after(gw, thinking, seconds, key)
        gw.calls(number)
        eventually(lambda n=number: len(thinking.billed) == n)
    rows = gw.rows()
    bound = max(check[8] for check in rows[0]["limits"] if check[2] == "usd")
    for row, billed in zip(rows[:2], thinking.billed, strict=False):
        assert 700 * IN + billed * OUT <= row["cost_nano"] < bound / 3
        assert (row["outcome"], row["estimated"], row["input_tokens"]) == ("cancelled", 1, 700)
    # A haiku is taken to write 110 tokens a second as long as none has ended.
    assert rows[2]["output_tokens"] == pytest.approx(0.110 * rows[2]["latency_ms"], rel=0.5)
    assert gw.rows("SELECT * FROM reservations") == []


def test_an_answer_that_becomes_unreadable_is_charged_what_it_had_raised_the_reservation_to(gateway, provider):
    """The beginning says that far more was read than the body holds; then a count comes that is none."""
    gw = gateway(policy_text(provider.url, virtual_keys=keys(1), customers=[], teams=[], users=[]))
    provider.script = streamed(sse(model=HAIKU, first=usage(input_tokens=500_000, output_tokens=1), last={"output_tokens": "12"}))
    assert gw.post(ask("hi", HAIKU, max_tokens=50, stream=True), "vk-0").status == 200
    (row,) = gw.calls(1)
    assert (row["input_tokens"], row["output_tokens"], row["estimated"]) == (500_000, 50, 1)
    assert row["cost_nano"] == 500_000 * IN + 50 * OUT


def test_a_turn_that_is_cut_again_and_again_is_charged_as_the_session_was(gateway, provider):
    """A Codex turn whose stream breaks: each try is charged its input with the cache that the session is known to have."""
    openai = {"base_url": provider.url, "keys": [{"name": "key-1", "value": "env.PROVIDER_KEY"}]}
    gw = gateway(policy_text(provider.url, providers={"openai": openai}, virtual_keys=keys(1), customers=[], teams=[], users=[]))
    body = orjson.dumps({"model": "gpt-5.1-codex", "input": "word " * 4_000, "stream": True, "max_output_tokens": 4_000})
    reported = {"input_tokens": 5_000, "input_tokens_details": {"cached_tokens": 4_500}, "output_tokens": 90}
    done = {"type": "response.completed", "response": {"id": "r", "model": "gpt-5.1-codex", "usage": reported}}

    def script(peer, _):
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        if len(provider.seen) > 1:
            peer.chunk(event("response.created", response={"id": "r", "model": "gpt-5.1-codex", "usage": None}))
            return peer.reset()
        peer.chunk(b"event: response.completed\ndata: " + orjson.dumps(done) + b"\n\n")
        return peer.end()

    provider.script = script
    assert gw.post(body, "vk-0", "/v1/responses", session_id="s-1").status == 200
    for _ in range(6):
        with pytest.raises(http.client.IncompleteRead):
            gw.post(body, "vk-0", "/v1/responses", session_id="s-1")
    whole, *cut = gw.calls(7)
    assert (whole["input_tokens"], whole["cache_read_tokens"], whole["estimated"]) == (500, 4_500, 0)
    for row in cut:
        prompt = row["input_tokens"] + row["cache_read_tokens"]
        assert (row["outcome"], row["estimated"]) == ("failed", 1)
        assert row["cache_read_tokens"] == prompt * 9 // 10
        assert row["cost_nano"] < 2.5 * whole["cost_nano"]
