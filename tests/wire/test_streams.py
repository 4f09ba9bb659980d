"""Every recorded answer, served to a real gateway: what is on record and charged is what the provider bills."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace

import pytest

from support.fake_provider import FakeProvider, message, usage
from support.forms import parameters, varied
from support.harness import VK, Gateway, policy_text
from support.respelling import PACKERS, Spelling, respell
from support.streams import COUNTS, Recorded, prices, recorded_answers

pytestmark = pytest.mark.wire

ALL = recorded_answers()

RECORDED_COUNTS = [name for name in COUNTS if name in ("input_tokens", "output_tokens", "web_search_requests") or "cache" in name]

MOST_TOKENS_PER_MS = 0.2
"""More than the model is taken to have written unseen in a millisecond of a call."""

DETAILS = {"input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "web_search_requests"}
"""What was reported of the input is on record as reported, however the answer ended."""


PATHS = {"responses": "/v1/responses", "embeddings": "/v1/embeddings"}
"""Paths of OpenAI's calls by the first word of an answer's name; the others are chats."""


@pytest.fixture(scope="module")
def gw(tmp_path_factory):
    """One gateway and a provider of each kind for all of them: each call finds the newest record."""
    with contextlib.ExitStack() as stack:
        fakes = {name: stack.enter_context(FakeProvider()) for name in sorted({r.provider for r in ALL})}
        key = {"name": "key-1", "value": "env.PROVIDER_KEY"}
        place = {"vertex_key_config": {"project_id": "p"}}
        providers = {
            name: {"base_url": fake.url, "keys": [key | (place if name == "vertex" else {})]} for name, fake in fakes.items()
        }
        budget = {"max_limit": 100_000, "reset_duration": "1M"}
        policy = policy_text(providers=providers, customers=[], teams=[], users=[], virtual_keys=[{"id": VK, "budget": budget}])
        gateway = stack.enter_context(Gateway(tmp_path_factory.mktemp("streams"), policy))
        gateway.fakes = fakes
        yield gateway


def request_of(recorded: Recorded) -> tuple[str, bytes]:
    """Return the path and the body of a call that is answered so."""
    says = {"model": recorded.model, "stream": recorded.is_stream}
    if recorded.provider == "gemini":
        verb = "streamGenerateContent?alt=sse" if recorded.is_stream else "generateContent"
        path = recorded.path or f"/v1beta/models/{recorded.model}:{verb}"
        return "/genai" + path, json.dumps({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}).encode()
    if recorded.provider == "vertex":
        return vertex_request_of(recorded)
    if recorded.known.protocol == "openai":
        path = recorded.path or PATHS.get(recorded.name.split("-")[0], "/v1/chat/completions")
        content = {"input": "hi"} if path == "/v1/responses" else {"messages": [{"role": "user", "content": "hi"}]}
        return f"/{recorded.provider}{path}", json.dumps(says | content).encode()
    return recorded.path or "/v1/messages", json.dumps(
        says | {"max_tokens": 4096, "messages": [{"role": "user", "content": "hi"}]}
    ).encode()


def vertex_request_of(recorded: Recorded) -> tuple[str, bytes]:
    """Return the path and the body of a call of Vertex AI."""
    base = "/vertex/v1/projects/mine/locations/us-east5/publishers"
    if recorded.model.startswith("gemini"):
        verb = "streamGenerateContent?alt=sse" if recorded.is_stream else "generateContent"
        return f"{base}/google/models/{recorded.model}:{verb}", b'{"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}'
    verb = "streamRawPredict" if recorded.is_stream else "rawPredict"
    says = {"anthropic_version": "vertex-2023-10-16", "stream": recorded.is_stream, "max_tokens": 4096}
    body = json.dumps(says | {"messages": [{"role": "user", "content": "hi"}]}).encode()
    return f"{base}/anthropic/models/{recorded.model}:{verb}", body


def play(gw: Gateway, recorded: Recorded, encoding: str = "", kind: str | None = None):
    """Make one call that is answered with the recorded bytes; return its record."""
    packed = PACKERS[encoding](recorded.body)
    kind = recorded.content_type if kind is None else kind

    def script(peer, _):
        more = [f"content-encoding: {encoding}"] if encoding else []
        peer.head(200, f"content-type: {kind}", "transfer-encoding: chunked", *more)
        for at in range(0, len(packed), 500):
            peer.chunk(packed[at : at + 500])
        peer.end()

    path, body = request_of(recorded)
    before = gw.recorded()
    gw.fakes[recorded.provider].script = script
    reply = gw.post(body, path=path)
    assert (reply.status, reply.body) == (200, packed)
    return gw.calls(before + 1)[-1]


def compare(recorded: Recorded, row) -> None:
    """Compare a call on record with the provider's bill. Raises AssertionError."""
    found = {name: row[name] or 0 for name in RECORDED_COUNTS}
    assert row["provider"] == recorded.provider
    assert row["outcome"] == ("failed" if recorded.error else "completed")
    if recorded.rule == "nothing":
        assert (row["cost_nano"], sum(found.values())) == (0, 0)
        return
    today = time.time_ns() // 1_000_000
    by_provider = prices(recorded.provider)
    price = by_provider.price(recorded.served, today, by_family=True)
    is_billed = recorded.known.usage.cost is not None and recorded.rule == "reported"
    is_exact = (
        recorded.rule == "reported" and not recorded.estimated and (is_billed or (price is not None and not price.is_estimated))
    )
    assert row["estimated"] == int(not is_exact)
    if recorded.rule == "reported":
        assert found == {name: recorded.usage.get(name, 0) for name in RECORDED_COUNTS}
        assert row["model_served"] == recorded.served
        # Of a model whose price has changed since the day of the bill, the cost is compared where the answer is read.
        rates = [p.rates_at(at, 1) for p, at in ((price, today), (price, recorded.at)) if p is not None]
        if is_billed or rates[:1] == rates[1:]:
            assert row["cost_nano"] == recorded.cost_nano
        return
    assert row["cost_nano"] > 0
    if recorded.usage is not None and recorded.rule == "delivered":
        assert {n: found[n] for n in DETAILS} == {n: recorded.usage.get(n, 0) for n in DETAILS}
    if recorded.rule == "delivered":
        assert row["output_tokens"] >= recorded.delivered // 20


def traits(recorded: Recorded) -> dict[str, object]:
    """Return by what an answer takes another way through the gateway: tests/providers/test_streams.py reads each to its bill."""
    named = ("provider", "is_stream", "rule", "estimated", "truncated", "path", "content_type")
    found = {name: getattr(recorded, name) for name in named}
    return found | {"error": recorded.error is not None, "usage": tuple(sorted(recorded.usage or {}))}


@pytest.mark.parametrize("recorded", parameters(ALL, short=varied(ALL, traits), name=lambda recorded: recorded.id))
def test_a_recorded_answer_settles_to_its_true_bill(gw, recorded: Recorded):
    compare(recorded, play(gw, recorded))


WEB_SEARCH = next(r for r in ALL if r.id == "anthropic/web_search")


@pytest.mark.parametrize("encoding", [e for e in PACKERS if e])
def test_a_packed_stream_settles_to_the_same_bill(gw, encoding):
    compare(WEB_SEARCH, play(gw, WEB_SEARCH, encoding))


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/octet-stream", "text/html; charset=utf-8"])
def test_a_mislabelled_stream_settles_to_the_same_bill(gw, kind):
    compare(WEB_SEARCH, play(gw, WEB_SEARCH, kind=kind))


CUT = next(r for r in ALL if r.id == "anthropic/cut_in_text")


def test_a_cut_stream_costs_the_same_however_it_is_spelled(gw):
    """80 characters. Their bytes, and the distances between them, say nothing about how many they are."""
    ways = [Spelling(), Spelling(padding=15), Spelling(spaced=True), Spelling(reordered=True), Spelling(escaped=True)]
    ways += [Spelling(indented=True, newline=b"\r\n"), Spelling(named=False, comments=True)]
    rows = [play(gw, replace(CUT, body=respell(CUT.body, way, is_stream=True))) for way in ways]
    assert {(r["estimated"], r["outcome"], r["input_tokens"], r["cache_read_tokens"]) for r in rows} == {(1, "failed", 100, 50)}
    tokens = [r["output_tokens"] for r in rows]
    # Besides the text, the time counts in which nothing came: milliseconds here, more on a busy machine.
    assert min(tokens) >= 20
    written = [r["output_tokens"] - r["latency_ms"] * MOST_TOKENS_PER_MS for r in rows]
    assert max(written) - min(tokens) <= 30


def test_a_part_of_an_unknown_model_is_priced_beside_the_others(gw):
    """505,000 tokens used to cost $0.003."""
    parts = [
        {"type": "message", "input_tokens": 1_000, "output_tokens": 50},
        {"type": "advisor_message", "model": "model-without-a-price", "input_tokens": 505_000, "output_tokens": 100},
    ]
    body = message(**usage(input_tokens=1_000, output_tokens=50), iterations=parts)
    row = play(gw, replace(WEB_SEARCH, body=body, is_stream=False, content_type="application/json"))
    assert (row["cost_nano"], row["estimated"]) == (506_000 * 4_000 + 150 * 20_000, 1)
