"""Relayed calls under failure: nothing is charged twice or not at all, and no answer is lost that a client could have had."""

from __future__ import annotations

import gzip
import http.client
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from proving import books
from support import model_apis
from support.clock import Clock
from support.fake_provider import FakeProvider, message, plain, sse, streamed
from support.harness import ADDONS, WAIT_S, Gateway, ask, eventually, policy_text, receive

pytestmark = pytest.mark.wire

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
CLAUDE_CODE = "claude-cli/2.1.332 (external, cli)"
HARD, HARD_TOO = "vk-hard", "vk-hard-too"
ERROR_EVENT = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
FIRST_TOKEN_S = 300
"""Long, so that a busy machine lets no token come too late: the tests put the gateway's clock forward."""

LIMITS = {
    "budget": {"max_limit": 1000, "reset_duration": "1M"},
    "rate_limit": {"request_max_limit": 10_000, "request_reset_duration": "1M", "token_max_limit": 10**9}
    | {"token_reset_duration": "1M", "max_concurrent": 100},
}


@pytest.fixture(scope="module")
def upstreams():
    with FakeProvider() as first, FakeProvider() as second, FakeProvider() as openai:
        yield {"anthropic": first, "second": second, "openai": openai}


def policy_of(upstreams):
    providers = {
        name: {"base_url": fake.url, "keys": [{"name": "k", "value": f"sk-real-{name}"}]}
        | ({"protocol": "anthropic"} if name == "second" else {})
        for name, fake in upstreams.items()
    }
    both = [{"provider": "anthropic"}, {"provider": "second", "weight": 0}]
    routes = [
        {"name": "both", "when": {"model": "claude-haiku-*"}, "targets": both}
        | {
            "retry": {
                "attempts": 2,
                "on": ["connect", "timeout", "429", "5xx", "stream_error"],
                "first_token_timeout": f"{FIRST_TOKEN_S}s",
            }
        },
        {"name": "again", "when": {"model": "claude-sonnet-*"}, "targets": both[:1], "retry": {"attempts": 2}},
        {
            "name": "other",
            "when": {"model": "claude-opus-4-*"},
            "targets": [{"provider": "openai", "model": "gpt-4o-mini"}, both[1]],
        }
        | {"sticky": "none", "retry": {"attempts": 2}},
    ]
    routes[2]["targets"][1] = {"provider": "second", "model": HAIKU, "weight": 0}
    keys = [
        {"id": "vk-dev-alice", **LIMITS},
        *({"id": key, "budget": {"max_limit": 0.02, "reset_duration": "1M", "enforcement": "hard"}} for key in (HARD, HARD_TOO)),
    ]
    models = [{"model_name": f"{HAIKU}*", **LIMITS}, {"model_name": "gpt-4o-mini", **LIMITS}]
    return policy_text(providers=providers, routes=routes, virtual_keys=keys, model_configs=models)


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    return Clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def edge(tmp_path_factory, upstreams, clock):
    with Gateway(tmp_path_factory.mktemp("relayed"), policy_of(upstreams), scripts=clock.scripts) as gw:
        yield gw


def late(clock):
    """A provider that answers nothing until the wait for its first token is over."""

    def script(peer, _):
        clock.set_ahead(FIRST_TOKEN_S + 1)
        receive(peer.conn)

    return script


@pytest.fixture(autouse=True)
def fresh(upstreams):
    for name, fake in upstreams.items():
        fake.seen.clear()
        fake.script = model_apis.answer if name == "openai" else plain(message(HAIKU))


def journal(edge):
    return edge.journal() if (edge.state / "audit.jsonl").exists() else []


def called(edge, *, key="vk-dev-alice", **fields):
    before = len(journal(edge))
    reply = edge.post(ask(**fields), key=key)
    eventually(lambda: len(journal(edge)) > before)
    return reply, edge.journal()[-1]


def leave_when(edge, is_time, **fields):
    """Make a call, leave once ``is_time``, and return the record."""
    before = len(journal(edge))
    with edge.raw() as conn:
        body = ask(**fields)
        head = "POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: vk-dev-alice\r\ncontent-type: application/json\r\n"
        conn.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        eventually(is_time)
    eventually(lambda: len(journal(edge)) > before)
    return edge.journal()[-1]


GEMINI_BODY = b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}'


@pytest.mark.parametrize("root", ["/v1beta", "/genai/v1beta", "/v1"])
def test_a_gemini_path_may_name_a_model_of_another_provider(edge, upstreams, root):
    """As a body's model may; the answer is Gemini's, and the record has the client's own words."""
    before = len(journal(edge))
    reply = edge.post(GEMINI_BODY, path=f"{root}/models/openai/gpt-4o-mini:generateContent")
    assert (reply.status, reply.headers["x-sluicegate-route"]) == (200, "openai/gpt-4o-mini; attempt=1"), reply.body
    assert reply.json["candidates"][0]["content"]["parts"][0]["text"]
    assert [orjson.loads(seen.body)["model"] for seen in upstreams["openai"].seen] == ["gpt-4o-mini"]
    record = eventually(lambda: journal(edge)[before:])[0]
    assert (record["model_requested"], record["asked_model"]) == ("gpt-4o-mini", "openai/gpt-4o-mini")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("groq/llama-5", "providers.groq: {keys: [{name: main, value: env.GROQ_API_KEY}]}"),
        ("nobody/llama-5", "has none of that name"),
        ("models/gemini-3-pro", "only a provider that policy configures may stand before a slash, and 'models' is none"),
        ("openai%2Fgpt-4o-mini", "percent-encoded"),
        ("openai/../gpt-4o-mini", "Invalid request"),
    ],
)
def test_any_other_slash_in_a_gemini_path_is_refused(edge, name, words):
    reply = edge.post(GEMINI_BODY, path=f"/v1beta/models/{name}:generateContent")
    assert (reply.status, words in reply.message) == (400, True), reply.body


def test_tokens_of_a_model_of_another_provider_are_counted_by_estimate(edge):
    reply = edge.post(GEMINI_BODY, path="/v1beta/models/openai/gpt-4o-mini:countTokens")
    assert (reply.status, reply.headers["x-sluicegate-estimated"]) == (200, "true")
    assert reply.json["totalTokens"] > 0


def test_a_pause_within_a_stream_may_be_longer_than_the_wait_for_its_first_token(edge, upstreams, clock):
    events, go = sse(model=HAIKU), threading.Event()

    def pausing(peer, _):
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        for piece in events[:3]:
            peer.chunk(piece)
        go.wait(WAIT_S)
        for piece in events[3:]:
            peer.chunk(piece)
        peer.end()

    upstreams["anthropic"].script = pausing
    before, begun = len(journal(edge)), b"".join(events[:3])
    conn = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=WAIT_S)
    conn.request("POST", "/v1/messages", ask(model=HAIKU, stream=True), {"x-api-key": "vk-dev-alice"})
    answer = conn.getresponse()
    assert answer.read(len(begun)) == begun
    clock.advance(edge, FIRST_TOKEN_S + 1)
    go.set()
    assert begun + answer.read() == b"".join(events)
    conn.close()
    eventually(lambda: len(journal(edge)) > before)
    assert edge.journal()[-1]["outcome"] == "completed"


def test_an_answer_in_one_piece_has_no_first_token_to_wait_for(edge, upstreams, clock):
    def slow(peer, seen):
        clock.advance(edge, FIRST_TOKEN_S + 1)
        plain(message(HAIKU))(peer, seen)

    upstreams["anthropic"].script = slow
    reply, record = called(edge, model=HAIKU)
    assert (reply.status, len(record["attempts"]), len(upstreams["second"].seen)) == (200, 1, 0)
    assert reply.headers["content-length"] == str(len(message(HAIKU)))


def test_a_stream_that_begins_with_an_error_is_the_answer_where_nothing_else_is_tried(edge, upstreams):
    upstreams["anthropic"].script = streamed([ERROR_EVENT])
    reply, record = called(edge, model="claude-sonnet-5-5", stream=True)
    assert (reply.status, reply.body) == (200, ERROR_EVENT)
    assert (record["outcome"], record["cost_usd"]) == ("failed", "0")
    upstreams["second"].script = streamed([ERROR_EVENT])
    reply, record = called(edge, model=f"{HAIKU}-20261001", stream=True)
    assert (reply.status, reply.body) == (200, ERROR_EVENT)
    assert [a["provider"] for a in record["attempts"]] == ["anthropic", "second"]


def test_the_record_of_a_call_left_between_attempts_has_no_charge_for_errors(edge, upstreams):
    """The second attempt would come 250 to 500 ms later."""
    upstreams["anthropic"].script = plain(ERROR_EVENT, 500, "retry-after: 15")
    record = leave_when(edge, lambda: upstreams["anthropic"].seen, model="claude-sonnet-5-5")
    assert (record["outcome"], record["cost_usd"]) == ("cancelled", "0")


def test_a_call_left_while_an_error_arrives_costs_nothing(edge, upstreams):
    def half(peer, _):
        peer.head(500, "content-length: 1000")
        peer.send(b"{")
        receive(peer.conn)

    upstreams["anthropic"].script = half
    record = leave_when(edge, lambda: upstreams["anthropic"].seen, model="claude-sonnet-5-5")
    assert record["outcome"] == "cancelled"
    assert record["cost_usd"] in ("0", record["attempts"][0]["cost_usd"])


def test_an_attempt_without_an_answer_is_charged_once_and_by_the_time_it_ran(edge, upstreams, clock):
    upstreams["anthropic"].script = late(clock)
    upstreams["second"].script = streamed(sse(model=HAIKU))
    reply, record = called(edge, model=f"{HAIKU}-20261002", stream=True)
    assert reply.headers["x-sluicegate-route"].startswith("second/")
    first, last = (float(a["cost_usd"]) for a in record["attempts"])
    assert first > 0
    assert last > 0
    assert float(record["cost_usd"]) == pytest.approx(first + last)


def test_what_attempts_have_cost_is_held_under_a_hard_budget(edge, upstreams, clock):
    """The budget holds one attempt of 1,024 tokens and not two: so the second one is refused and nothing is overspent."""
    upstreams["anthropic"].script = late(clock)
    used = []
    for number in range(8):
        reply, record = called(edge, key=HARD, model=f"{HAIKU}-2026110{number}", stream=True, max_tokens=2048)
        used.append(float(record["cost_usd"]))
        if reply.status == 402:
            break
    assert reply.status == 402
    assert sum(used) <= 0.02


def test_claude_code_is_told_of_its_own_budget_where_an_attempt_was_sent_before(edge, upstreams, clock):
    """The refusal is the gateway's own: what goes with it is not taken out as a provider's words about its account are."""
    upstreams["anthropic"].script = late(clock)
    for number in range(8):
        before = len(upstreams["anthropic"].seen)
        reply = edge.post(ask(model=f"{HAIKU}-2026120{number}", stream=True, max_tokens=2048), key=HARD_TOO, user_agent=CLAUDE_CODE)
        if reply.status == 429:
            break
    assert len(upstreams["anthropic"].seen) == before + 1, "nothing was sent before it was refused"
    assert (reply.reason, reply.json["error"]["type"]) == ("budget_exceeded", "billing_error")
    told = {n.removeprefix("anthropic-ratelimit-unified-"): v for n, v in reply.headers.items() if "ratelimit" in n}
    assert told.pop("reset") == told.pop("overage-reset")
    assert told == {
        "status": "rejected",
        "overage-utilization": "1",
        "overage-surpassed-threshold": "1",
        "overage-disabled-reason": "org_spend_cap_reached",
        "overage-period": "monthly",
    }


def cut(peer, _):
    """Break off a whole answer in its middle."""
    peer.head(200, "content-type: application/json", "content-length: 5000")
    peer.send(b'{"id":"x","object":"chat.completion",')
    peer.reset()


@pytest.mark.parametrize(
    ("name", "model"), [("openai", "claude-opus-4-1"), ("anthropic", f"{HAIKU}-20261301")], ids=["translated", "unchanged"]
)
def test_a_whole_answer_that_breaks_off_before_the_client_has_any_is_tried_elsewhere(edge, upstreams, name, model):
    upstreams[name].script = cut
    reply, record = called(edge, model=model)
    answered = HAIKU if name == "openai" else model
    assert (reply.status, reply.headers["x-sluicegate-route"]) == (200, f"second/{answered}; attempt=2")
    assert reply.body == message(HAIKU)
    assert float(record["attempts"][0]["cost_usd"]) > 0


def test_a_whole_answer_that_breaks_off_each_time_is_unreachable_in_words(edge, upstreams):
    for name in ("anthropic", "second"):
        upstreams[name].script = cut
    reply, record = called(edge, model=f"{HAIKU}-20261302")
    assert (reply.status, reply.reason, reply.json["error"]["type"]) == (502, *["provider_unreachable"] * 2)
    assert [a["result"] for a in record["attempts"]] == ["reset", "reset"]


def limited(retry_after_s):
    """Return a script that refuses the first call with a 429 and answers the others."""
    first = iter([plain(message(SONNET), 429, f"retry-after: {retry_after_s}")])
    return lambda peer, seen: next(first, plain(message(SONNET)))(peer, seen)


def test_a_provider_is_asked_again_once_the_time_is_over_that_it_asked_for(edge, upstreams, clock):
    """The route has no other target. The gateway's clock says when the time is over."""
    fake, model = upstreams["anthropic"], f"{SONNET}-20261304"
    fake.script = limited(15)
    health = f"/api/routes/explain?key=vk-dev-alice&model={model}"
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(called, edge, model=model)
        eventually(lambda: edge.admin(health).json["targets"][0]["failures"] == 1)
        clock.advance(edge, 14)
        # Each answer is one more turn of the gateway's loop, in which a wait that is over ends.
        assert edge.admin(health).json["targets"][0]["failures"] == 1
        assert len(fake.seen) == 1
        clock.advance(edge, 2)
        reply, record = call.result(WAIT_S)
    assert (reply.status, reply.headers["x-sluicegate-route"]) == (200, f"anthropic/{model}; attempt=2")
    assert [a["result"] for a in record["attempts"]] == ["429", "answered"]


def test_a_wait_too_long_to_be_honoured_is_left_to_the_client(edge, upstreams):
    upstreams["anthropic"].script = limited(21)
    reply, record = called(edge, model=f"{SONNET}-20261305")
    assert (reply.status, reply.headers["retry-after"], len(record["attempts"])) == (429, "21", 1)


def test_a_long_whole_answer_arrives_unchanged(edge, upstreams):
    """Longer than what is kept back of it."""
    whole = orjson.dumps(orjson.loads(message(HAIKU)) | {"padding": "x" * (3 << 20)})
    upstreams["anthropic"].script = plain(whole)
    reply, _ = called(edge, model=f"{HAIKU}-20261303")
    assert (reply.status, reply.headers["x-sluicegate-route"]) == (200, f"anthropic/{HAIKU}-20261303; attempt=1")
    assert reply.body == whole


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_translated_answer_may_be_compressed_though_nobody_asked_for_it(edge, upstreams, stream):
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini"}
    choice = {"index": 0, "message": {"role": "assistant", "content": model_apis.ANSWER}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 8, "total_tokens": 108}
    body = b"".join(model_apis.chat("gpt-4o-mini")) if stream else orjson.dumps(whole | {"choices": [choice], "usage": usage})
    packed, kind = gzip.compress(body), "text/event-stream" if stream else "application/json"

    def compressed(peer, _):
        peer.head(200, f"content-type: {kind}", "content-encoding: gzip", f"content-length: {len(packed)}")
        peer.send(packed)

    upstreams["openai"].script = compressed
    reply, record = called(edge, model="claude-opus-4-1", stream=stream)
    assert model_apis.ANSWER in reply.body.decode()
    assert (record["output_tokens"], record["estimated"]) == (8, 0)


NO_CHOICES = {"id": "c1", "model": "gpt-4o-mini", "choices": None, "usage": {"prompt_tokens": 1000, "completion_tokens": 100}}


@pytest.mark.parametrize(("answer", "is_reported"), [(orjson.dumps(NO_CHOICES), True), (b'"not an answer"', False)])
def test_an_answer_that_cannot_be_translated_is_charged_though_its_client_gets_an_error(edge, upstreams, answer, is_reported):
    upstreams["openai"].script = plain(answer)
    reply, record = called(edge, model="claude-opus-4-8")
    assert reply.status >= 500
    assert (record["outcome"], record["attempts"][0]["status"]) == ("failed", 200)
    assert record["cost_nano"] > 0
    assert (record["estimated"] == 0) == is_reported
    if is_reported:
        assert record["cost_nano"] == 1000 * 150 + 100 * 600


def test_a_refusal_before_anything_is_sent_is_on_record_as_one(edge, upstreams):
    reply, record = called(edge, model="openai/gpt-4o-mini", mcp_servers=[{"type": "url", "url": "https://x", "name": "x"}])
    assert (reply.status, record["outcome"], record["reason"]) == (400, "denied", "unsupported")
    assert not upstreams["openai"].seen


def test_the_books_balance_after_all_of_this(edge):
    eventually(lambda: not any(float(row["reserved_usd"] or row["reserved"] or 0) for row in edge.usage().values()))
    edge.stop()
    secrets = ("sk-real-anthropic", "sk-real-second", "sk-real-openai", edge.token)
    assert books.check(edge.state, edge.policy, None, secrets, edge.output) == []


def test_a_gateway_killed_during_the_second_attempt_charges_the_first_too(tmp_path, upstreams):
    clock = Clock(tmp_path)
    gateway = Gateway(tmp_path, policy_of(upstreams), scripts=clock.scripts).start()
    upstreams["anthropic"].script = late(clock)
    upstreams["second"].script = lambda peer, _: receive(peer.conn)
    with gateway.raw() as conn:
        body = ask(model=HAIKU, stream=True)
        head = "POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: vk-dev-alice\r\ncontent-type: application/json\r\n"
        conn.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        eventually(lambda: upstreams["second"].seen)
        gateway.stop(signal.SIGKILL)
    gateway.start()
    (record,) = gateway.rows()
    first, second = orjson.loads(record["attempts"])
    gateway.stop()
    assert (record["outcome"], record["provider"]) == ("interrupted", "second")
    assert float(first["cost_usd"]) > 0
    assert float(record["cost_usd"]) > float(first["cost_usd"])
    assert float(record["cost_usd"]) == pytest.approx(float(first["cost_usd"]) + float(second["cost_usd"]))
    assert books.check(gateway.state, gateway.policy, None) == []


BREAKS = """
from sluicegate.sending import outgoing

def prepare(*_):
    raise RuntimeError("a defect of ours")

outgoing.prepare = prepare
"""


def test_a_defect_of_the_gateway_is_a_refusal_in_words_that_costs_nothing(tmp_path, upstreams):
    script = tmp_path / "breaks.py"
    script.write_text(BREAKS)
    with Gateway(tmp_path, policy_of(upstreams), scripts=(ADDONS / "gateway.py", script)) as gw:
        reply = gw.post(ask(model=HAIKU))
        assert (reply.status, reply.reason) == (503, "gateway_error")
        assert "The gateway failed to send this call" in reply.message
        (row,) = gw.calls(1)
        gw.wait_for("The gateway failed to send call")
    assert (row["outcome"], row["reason"], row["cost_nano"]) == ("denied", "gateway_error", 0)
