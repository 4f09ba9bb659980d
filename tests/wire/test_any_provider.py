"""Any client is answered by any provider: the model's name says which, and the bill is that provider's."""

from __future__ import annotations

import json

import orjson
import pytest

from sluicegate.translation.conversation import Opaque
from sluicegate.translation.opaque import pack
from support import model_apis
from support.fake_provider import FakeProvider, plain
from support.harness import Gateway, ask, eventually, policy_text

pytestmark = pytest.mark.wire

TARGETS = {"anthropic": "claude-haiku-5-5", "openai": "gpt-4o-mini", "gemini": "gemini-2.5-flash"}
KEY_HEADERS = {"anthropic": "x-api-key", "openai": "authorization", "gemini": "x-goog-api-key"}


HAIKU = {"targets": [{"provider": "anthropic", "model": TARGETS["anthropic"]}], "retry": {"attempts": 1}}
ROUTES = [
    {"name": "elsewhere", "when": {"model": "gemini-2.0-*"}, **HAIKU},
    {"name": "cheaper", "when": {"model": "claude-opus-4-*"}, **HAIKU},
]


@pytest.fixture(scope="module")
def upstreams():
    with FakeProvider() as anthropic, FakeProvider() as openai, FakeProvider() as gemini:
        yield {"anthropic": anthropic, "openai": openai, "gemini": gemini}


@pytest.fixture(scope="module")
def edge(tmp_path_factory, upstreams):
    providers = {
        name: {"base_url": fake.url, "hosts": [f"{name}.example.com"], "keys": [{"name": "k", "value": f"sk-real-{name}"}]}
        for name, fake in upstreams.items()
    }
    with Gateway(tmp_path_factory.mktemp("any"), policy_text(providers=providers, routes=ROUTES)) as gw:
        yield gw


@pytest.fixture(autouse=True)
def fresh(upstreams):
    for fake in upstreams.values():
        fake.script = model_apis.answer
        fake.seen.clear()


SAID = [{"role": "user", "content": "hi"}]
CLIENTS = {
    "messages": ("/v1/messages", lambda m, s: {"model": m, "max_tokens": 100, "messages": SAID, "stream": s}),
    "chat": ("/v1/chat/completions", lambda m, s: {"model": m, "messages": SAID, "stream": s}),
    "responses": ("/v1/responses", lambda m, s: {"model": m, "input": "hi", "stream": s}),
}
OWN = {"messages": "anthropic", "chat": "openai", "responses": "openai"}


def called(edge, dialect, model, *, stream):
    path, body = CLIENTS[dialect]
    before = len(edge.journal()) if (edge.state / "audit.jsonl").exists() else 0
    reply = edge.post(orjson.dumps(body(model, stream)), path=path)
    eventually(lambda: len(edge.journal()) > before)
    return reply, edge.journal()[-1]


OTHERS = [(dialect, provider) for dialect in CLIENTS for provider in TARGETS if provider != OWN[dialect]]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(("dialect", "provider"), OTHERS)
def test_a_named_provider_answers_in_the_clients_own_api(edge, upstreams, dialect, provider, stream):
    model = TARGETS[provider]
    reply, record = called(edge, dialect, f"{provider}/{model}", stream=stream)
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"].startswith("text/event-stream" if stream else "application/json")
    text = reply.body.decode()
    assert model_apis.ANSWER in text
    (seen,) = upstreams[provider].seen
    assert f"sk-real-{provider}" in (seen.header(KEY_HEADERS[provider]) or "")
    assert b"vk-dev-alice" not in seen.head + seen.body
    sent = orjson.loads(seen.body)
    assert sent.get("model", model) == model
    assert (record["provider"], record["model_requested"], record["outcome"]) == (provider, model, "completed")
    assert (record["input_tokens"], record["estimated"]) == (100, 0)
    assert record["output_tokens"] == (50 if provider == "anthropic" else 8)
    assert float(record["cost_usd"]) > 0


def test_the_usage_that_the_client_reads_is_the_providers(edge):
    reply, _ = called(edge, "messages", "openai/gpt-4o-mini", stream=True)
    events = [json.loads(x[6:]) for x in reply.body.decode().splitlines() if x.startswith("data: ")]
    assert [e["type"] for e in events if e["type"] in ("message_start", "message_stop")] == ["message_start", "message_stop"]
    (delta,) = [e for e in events if e["type"] == "message_delta"]
    assert delta["usage"]["output_tokens"] == 8


def test_an_error_has_the_clients_own_form(edge, upstreams):
    body = b'{"error":{"message":"Rate limit reached","type":"requests","param":null,"code":"rate_limit_exceeded"}}'
    upstreams["openai"].script = plain(body, 429, "retry-after: 7")
    reply, record = called(edge, "messages", "openai/gpt-4o-mini", stream=True)
    assert (reply.status, reply.headers["retry-after"]) == (429, "7")
    assert reply.json["type"] == "error"
    assert reply.json["error"]["type"] == "rate_limit_error"
    assert "Rate limit reached" in reply.message
    assert (record["status"], record["cost_usd"]) == (429, "0")


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_provider_key_is_not_said_to_be_the_clients(edge, upstreams, status):
    """Claude Code would ask for a login."""
    upstreams["openai"].script = plain(b'{"error":{"message":"Incorrect API key provided","type":"invalid_request_error"}}', status)
    reply, record = called(edge, "messages", "openai/gpt-4o-mini", stream=True)
    assert (reply.status, reply.reason, reply.headers["x-should-retry"]) == (503, "provider_unavailable", "false")
    said = ": Incorrect API key provided" if status == 403 else ""
    assert f"openai rejects the gateway's key for it (status {status}{said})" in reply.message
    assert record["attempts"][0]["status"] == status


def test_what_another_api_cannot_say_is_refused_in_words(edge, upstreams):
    body = orjson.dumps({"model": "anthropic/claude-haiku-5-5", "messages": SAID, "n": 2, "max_tokens": 9})
    reply = edge.post(body, path="/v1/chat/completions")
    assert reply.status == 400
    assert "'n'" in reply.message or "n " in reply.message
    assert reply.reason == "unsupported"
    assert not upstreams["anthropic"].seen
    reply = edge.post(orjson.dumps({"model": "anthropic/claude-haiku-5-5", "input": "hi"}), path="/v1/embeddings")
    assert (reply.status, reply.reason) == (400, "unsupported")


def test_a_stream_that_breaks_off_ends_as_the_clients_api_would_end_it(edge, upstreams):
    def cut(peer, seen):
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        for piece in model_apis.chat("gpt-4o-mini")[:2]:
            peer.chunk(piece)
        peer.reset()

    upstreams["openai"].script = cut
    reply, record = called(edge, "messages", "openai/gpt-4o-mini", stream=True)
    assert b'"type":"error"' in reply.body.replace(b": ", b":")
    assert b"message_stop" not in reply.body
    assert (record["outcome"], record["estimated"]) == ("failed", 1)
    assert float(record["cost_usd"]) > 0


def test_a_client_reaches_any_provider_over_https_proxy_too(edge, upstreams):
    reply = edge.proxied(ask(model="openai/gpt-4o-mini", stream=True))
    assert reply.status == 200
    assert b"message_stop" in reply.body
    assert len(upstreams["openai"].seen) == 1


WORDS = "four letter word " * 400
TOOL = {"name": "read", "description": "Reads a file.", "input_schema": {"type": "object", "properties": {}}}
COUNTED = [
    ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": WORDS}], "tools": [TOOL]}, "gemini", "input_tokens"),
    ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": WORDS}], "system": "s"}, "openai", "input_tokens"),
    ("/v1/responses/input_tokens", {"input": WORDS}, "anthropic", "input_tokens"),
    (
        "/v1beta/models/gemini-2.0-flash:countTokens",
        {"contents": [{"role": "user", "parts": [{"text": WORDS}]}]},
        "anthropic",
        "totalTokens",
    ),
    (
        "/v1beta/models/gemini-2.0-pro:countTokens",
        {"generateContentRequest": {"model": "models/gemini-2.0-pro", "contents": [{"parts": [{"text": WORDS}]}]}},
        "anthropic",
        "totalTokens",
    ),
]


@pytest.mark.parametrize(("path", "body", "provider", "field"), COUNTED)
def test_tokens_for_another_providers_model_are_estimated(edge, upstreams, path, body, provider, field):
    named = body if "models" in path else body | {"model": f"{provider}/{TARGETS[provider]}"}
    before = len(edge.journal()) if (edge.state / "audit.jsonl").exists() else 0
    reply = edge.post(orjson.dumps(named), path=path)
    assert reply.status == 200, reply.body
    assert reply.headers["x-sluicegate-estimated"] == "true"
    assert 0.8 < reply.json[field] / (len(WORDS) / 4) < 1.2
    assert not any(fake.seen for fake in upstreams.values())
    eventually(lambda: len(edge.journal()) > before)
    record = edge.journal()[-1]
    assert (record["provider"], record["outcome"], record["cost_usd"]) == (provider, "completed", "0")


def test_tokens_for_a_model_of_its_own_are_counted_by_the_provider(edge, upstreams):
    upstreams["anthropic"].script = plain(b'{"input_tokens":7}')
    reply = edge.post(orjson.dumps({"model": "claude-opus-4-1", "messages": SAID}), path="/v1/messages/count_tokens")
    assert (reply.status, reply.json) == (200, {"input_tokens": 7})
    assert orjson.loads(upstreams["anthropic"].seen[0].body)["model"] == "claude-haiku-5-5"


def test_a_session_that_returns_to_its_own_provider_takes_no_other_thoughts_along(edge, upstreams):
    """What another provider thought was packed for the client to keep; its own would refuse it as a signature."""
    packed = pack(Opaque("responses", "gAAAA", text="hm", id="rs_1"))
    thought = {"type": "thinking", "thinking": "hm", "signature": packed}
    turns = [*SAID, {"role": "assistant", "content": [thought, {"type": "text", "text": "yes"}]}, *SAID]
    body = {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": turns}
    assert edge.post(orjson.dumps(body)).status == 200
    (seen,) = upstreams["anthropic"].seen
    assert packed.encode() not in seen.body
    assert orjson.loads(seen.body)["messages"][1]["content"] == [{"type": "text", "text": "yes"}]
    assert seen.header("content-length") == str(len(seen.body))
