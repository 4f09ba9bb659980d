"""Routes, retries and failover on the wire: what a client sees, what providers get, and what is on record."""

from __future__ import annotations

import json

import orjson
import pytest

from support.clock import Clock
from support.fake_provider import FakeProvider, message, plain, sse, streamed
from support.harness import Gateway, ask, eventually, policy_text, receive

pytestmark = pytest.mark.wire

HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"


def error(status, *headers):
    """An error answer of Anthropic's."""
    return plain(orjson.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}), status, *headers)


def by_model(**scripts):
    """A provider that answers each model by its own script."""

    def run(peer, seen):
        scripts[orjson.loads(seen.body)["model"]](peer, seen)

    return run


@pytest.fixture(scope="module")
def upstream():
    with FakeProvider() as started:
        yield started


FIRST_TOKEN_S = 300
"""Long, so that a busy machine lets no token come too late: the tests put the gateway's clock forward."""

ROUTES = [
    {
        "name": "failover",
        "when": {"model": "claude-haiku-*"},
        "targets": [{"provider": "anthropic"}, {"provider": "anthropic", "model": SONNET, "weight": 0}],
        "retry": {
            "attempts": 2,
            "on": ["connect", "timeout", 429, "5xx", 529, "stream_error"],
            "first_token_timeout": f"{FIRST_TOKEN_S}s",
        },
    },
    {
        "name": "cheaper",
        "when": {"model": "claude-opus-4-*"},
        "targets": [{"provider": "anthropic", "model": SONNET}],
        "retry": {"attempts": 1},
    },
]


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    return Clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def edge(tmp_path_factory, upstream, clock):
    with Gateway(tmp_path_factory.mktemp("routes"), policy_text(upstream.url, routes=ROUTES), scripts=clock.scripts) as gw:
        yield gw


LATE = {
    "claude-haiku-5-5-20261006": [],
    "claude-haiku-5-5-20261007": sse()[:1],
}
"""Models whose provider sends no token before the wait for the first one is over, and what it has sent by then."""


def late(clock, pieces):
    """What a provider does with a call of such a model."""

    def run(peer, _):
        if pieces:
            peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
            for piece in pieces:
                peer.chunk(piece)
        clock.set_ahead(FIRST_TOKEN_S + 1)
        receive(peer.conn)

    return run


@pytest.fixture(autouse=True)
def fresh(upstream):
    upstream.seen.clear()


def called(edge, **fields):
    before = len(edge.journal()) if (edge.state / "audit.jsonl").exists() else 0
    reply = edge.post(ask(**fields))
    eventually(lambda: len(edge.journal()) > before)
    return reply, edge.journal()[-1]


def test_a_route_with_one_target_changes_the_model_and_nothing_else(edge, upstream):
    upstream.script = plain(message(SONNET))
    body = b'{ "model" : "claude-opus-4-1", "max_tokens":10,\n "messages":[{"role":"user","content":"h\\u00e9"}]}'
    before = len(edge.journal()) if (edge.state / "audit.jsonl").exists() else 0
    assert edge.post(body).status == 200
    eventually(lambda: len(edge.journal()) > before)
    sent = upstream.seen[0].body
    assert orjson.loads(sent) == orjson.loads(body) | {"model": SONNET}
    assert b'"messages":[{"role":"user","content":"h\\u00e9"}]' in sent
    record = edge.journal()[-1]
    assert (record["route"], record["attempts"], record["model_requested"]) == ("cheaper", None, SONNET)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_of_the_first_target_is_passed_on_unchanged(edge, upstream, stream):
    upstream.script = streamed(sse(model=HAIKU)) if stream else plain(message(HAIKU))
    reply, record = called(edge, model=HAIKU, stream=stream)
    assert reply.body == (b"".join(sse(model=HAIKU)) if stream else message(HAIKU))
    assert reply.headers["x-sluicegate-route"] == f"anthropic/{HAIKU}; attempt=1"
    assert [a["model"] for a in record["attempts"]] == [HAIKU]
    assert record["output_tokens"] == 50
    assert record["attempts"][0]["cost_usd"] == record["cost_usd"] != "0"


def test_the_request_arrives_as_it_was_sent_with_the_providers_key(edge, upstream):
    upstream.script = plain(message(HAIKU))
    body = ask(model=HAIKU)
    edge.request(
        "POST", "/v1/messages?beta=true", body, {"x-api-key": "vk-dev-alice", "anthropic-beta": "a,b", "x-stainless-os": "L"}
    )
    (seen,) = upstream.seen
    assert seen.body == body
    assert seen.target == "/v1/messages?beta=true"
    assert seen.header("anthropic-beta") == "a,b"
    assert seen.header("x-api-key") == "sk-ant-api03-the-real-provider-key"
    assert seen.header("x-sluicegate-ticket") is None
    assert b"vk-dev-alice" not in seen.head


@pytest.mark.parametrize(
    ("model", "first", "why", "result"),
    [
        ("claude-haiku-5-5-20261001", error(529), 529, "529"),
        ("claude-haiku-5-5-20261002", error(500), 500, "5xx"),
        ("claude-haiku-5-5-20261003", error(429, "retry-after: 1"), 429, "429"),
        ("claude-haiku-5-5-20261004", lambda peer, _: peer.reset(), None, "reset"),
        (
            "claude-haiku-5-5-20261005",
            streamed([b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n']),
            200,
            "stream_error",
        ),
        ("claude-haiku-5-5-20261006", None, None, "timeout"),
        ("claude-haiku-5-5-20261007", None, 200, "timeout"),
    ],
    ids=["529", "500", "429", "reset", "error event", "no answer", "no token"],
)
def test_a_target_that_fails_is_followed_by_the_next(edge, upstream, clock, model, first, why, result):
    """Each case has a model of its own: a target that has failed five times in a row is kept away from."""
    first = first or late(clock, LATE[model])
    upstream.script = by_model(**{model: first, SONNET: streamed(sse(model=SONNET))})
    reply, record = called(edge, model=model, stream=True)
    assert reply.status == 200
    assert reply.body == b"".join(sse(model=SONNET))
    assert reply.headers["x-sluicegate-route"] == f"anthropic/{SONNET}; attempt=2"
    assert [a["model"] for a in record["attempts"]] == [model, SONNET]
    assert record["attempts"][0]["status"] == why
    assert [a["result"] for a in record["attempts"]] == [result, "answered"]
    limits = [tuple(check[:4]) for check in record["limits"]]
    assert limits
    assert len(set(limits)) == len(limits), "a limit is on record twice"
    assert record["attempts"][0]["error"]
    assert record["model_requested"] == SONNET


def test_an_answer_that_stands_is_not_tried_again(edge, upstream):
    upstream.script = error(400)
    reply, record = called(edge, model=f"{HAIKU}-20261008")
    assert reply.status == 400
    assert reply.json["error"]["message"] == "Overloaded"
    assert len(upstream.seen) == 1
    assert record["cost_usd"] == "0"


def test_the_last_error_is_the_providers_own_where_all_fail(edge, upstream):
    upstream.script = error(529)
    reply, record = called(edge, model=f"{HAIKU}-20261009")
    assert reply.status == 529
    assert reply.json["error"]["type"] == "overloaded_error"
    assert len(upstream.seen) == 2
    assert (record["outcome"], record["cost_usd"]) == ("failed", "0")


def test_a_client_that_leaves_ends_the_call_at_the_provider(edge, upstream):
    upstream.script = streamed([*sse(model=HAIKU)[:3], *[sse(model=HAIKU)[2]] * 200], pause=0.05)
    before = len(edge.journal())
    with edge.raw() as conn:
        body = ask(model=HAIKU, stream=True)
        conn.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: vk-dev-alice\r\ncontent-type: application/json\r\n")
        conn.sendall(b"content-length: %d\r\n\r\n" % len(body) + body)
        while b"content_block_delta" not in conn.recv(65536):
            pass
    eventually(lambda: len(edge.journal()) > before)
    record = edge.journal()[-1]
    assert record["outcome"] == "cancelled"
    assert json.dumps(record["attempts"])


@pytest.mark.parametrize("model", [f"{HAIKU}-20261020", OPUS], ids=["routed", "direct"])
def test_a_provider_that_gives_no_answer_is_unreachable_in_header_body_and_record(edge, upstream, model):
    upstream.script = lambda peer, _: peer.reset()
    reply, record = called(edge, model=model)
    assert (reply.status, reply.reason, reply.json["error"]["type"]) == (502, *["provider_unreachable"] * 2)
    assert (record["outcome"], record["reason"]) == ("failed", "provider_unreachable")
    assert [a["result"] for a in record["attempts"] or ()] == (["reset", "reset"] if model != OPUS else [])
    assert b'sluicegate_refusals_total{reason="provider_unavailable"} 0.0' in edge.admin("/metrics").body


def test_calls_that_go_straight_to_their_provider_teach_its_health(edge, upstream):
    """Failures open its breaker, an answer that stands says nothing, and a success closes it."""
    model = f"{OPUS}-20261021"

    def health(count, script):
        upstream.script = script
        for _ in range(count):
            called(edge, model=model)
        rows = edge.admin("/api/routes/targets").json["targets"]
        return next(((r["breaker"], r["failures"], r["latency_ms"]) for r in rows if r["model"] == model), None)

    assert health(1, error(400)) is None
    assert health(4, error(529)) == ("closed", 4, None)
    assert health(1, lambda peer, _: peer.reset()) == ("open", 5, None)
    assert health(1, error(400)) == ("open", 5, None)
    breaker, failures, latency = health(1, plain(message(OPUS)))
    assert (breaker, failures, latency is not None) == ("closed", 0, True)


def test_a_model_of_a_provider_that_is_not_configured_is_refused_with_the_lines_that_would(edge):
    reply = edge.post(ask(model="groq/llama-5"), path="/openai/v1/chat/completions")
    assert (reply.status, reply.reason) == (400, "unsupported")
    assert "providers.groq: {keys: [{name: main, value: env.GROQ_API_KEY}]}" in reply.message


def test_the_command_is_told_by_the_gateway_that_uses_the_state_folder(edge, monkeypatch):
    """Whose keys are in its own environment: this shell has none."""
    from sluicegate.cli.main import app
    from support.command import CliRunner

    monkeypatch.delenv("PROVIDER_KEY", raising=False)
    words = ["route", "explain", "--key", "vk-dev-alice", "--model", OPUS, "--state-dir", str(edge.state)]
    told = CliRunner().invoke(app, words)
    assert (told.exit_code, told.stderr) == (0, ""), told.output
    read = CliRunner().invoke(app, [*words, "--policy", str(edge.policy)])
    assert (read.exit_code, "key-1 (env.PROVIDER_KEY) is not set" in read.stderr) == (1, True), read.output
