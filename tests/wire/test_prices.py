"""Prices through the real chain: new models by their family, served tiers, fees, and price lists that change meanwhile."""

from __future__ import annotations

import contextlib
import json
from datetime import date

import pytest

from support.fake_provider import FakeProvider, message, plain, usage
from support.harness import VK, Gateway, ask, eventually, policy_text, replace_file

pytestmark = pytest.mark.wire

KEY = {"value": "env.PROVIDER_KEY"}
BUDGET = {"max_limit": 50, "reset_duration": "1M"}


@pytest.fixture(scope="module")
def gw(tmp_path_factory):
    """A gateway with a provider of each kind."""
    with contextlib.ExitStack() as stack:
        fakes = {name: stack.enter_context(FakeProvider()) for name in ("anthropic", "openai", "gemini")}
        providers = {name: {"base_url": fake.url, "keys": [KEY | {"name": name}]} for name, fake in fakes.items()}
        policy = policy_text(providers=providers, virtual_keys=[{"id": VK, "budget": BUDGET}])
        made = stack.enter_context(Gateway(tmp_path_factory.mktemp("prices"), policy))
        made.fakes = fakes.values()
        yield made


def send(gw, path, body, answer):
    """Send a call that is answered with this JSON, and return its record."""
    for fake in gw.fakes:
        fake.script = plain(json.dumps(answer).encode() if isinstance(answer, dict) else answer)
    before = len(gw.journal())
    reply = gw.post(json.dumps(body).encode(), path=path)
    assert reply.status == 200, reply.body
    return eventually(lambda: gw.journal()[before:])[0]


def responses(model, **fields):
    used = {"input_tokens": 1_000, "output_tokens": 100, "total_tokens": 1_100}
    return {"id": "r", "object": "response", "model": model, "status": "completed", "output": [], "usage": used} | fields


def chat(model):
    used = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}
    return {"id": "c", "object": "chat.completion", "model": model, "choices": [], "usage": used}


def gemini(model):
    used = {"promptTokenCount": 1_000, "candidatesTokenCount": 100, "totalTokenCount": 1_100}
    candidate = {"content": {"parts": [{"text": "hi"}], "role": "model"}, "finishReason": "STOP"}
    return {"candidates": [candidate], "modelVersion": model, "usageMetadata": used}


ASK = {
    responses: {"input": "hi"},
    chat: {"messages": [{"role": "user", "content": "hi"}]},
    gemini: {"contents": [{"parts": [{"text": "hi"}]}]},
}
"""A question in the words of each API."""


@pytest.mark.parametrize(
    ("path", "model", "answer", "nano"),
    [
        # As gpt-5.6-sol, qwen3-max and gemini-3-pro-preview: the dearest of each family, 1,000 tokens in and 100 out.
        ("/openai/v1/responses", "gpt-6.2-sol", responses, 1_000 * 4_000 + 100 * 20_000),
        ("/openai/v1/chat/completions", "qwen3-coder-plus", chat, 1_000 * 1_200 + 100 * 6_000),
        ("/genai/v1beta/models/gemini-4-hydrogen:generateContent", "gemini-4-hydrogen", gemini, None),
    ],
)
def test_a_clients_new_default_model_works_on_its_first_day(gw, path, model, answer, nano):
    # Gemini's dearest changes on 2026-12-01, when gemini-4-argon becomes that.
    nano = nano or max(1_000 * 2_000 + 100 * 12_000, (date.today() >= date(2026, 12, 1)) * (1_000 * 4_000 + 100 * 20_000))
    record = send(gw, path, ASK[answer] | ({} if answer is gemini else {"model": model}), answer(model))
    assert (record["outcome"], record["cost_nano"], record["estimated"]) == ("completed", nano, True)
    listed = gw.admin("/api/prices/unlisted").json
    assert (listed["unpriced"], listed["days"]) == ("family", 30)
    (entry,) = [m for m in listed["models"] if m["model"] == model]
    assert (entry["priced_by"], entry["calls"], entry["cost"]) == ("family", 1, nano / 1e9)
    metric = f'sluicegate_unlisted_model_calls_total{{model="{model}",priced_by="family"}} 1.0'
    assert metric in gw.admin("/metrics").body.decode()
    price = gw.admin(f"/api/prices?model={model}").json
    assert (price["known"], price["origin"], price["family"]) == (True, "family", entry["family"])


def test_a_listed_model_is_no_estimate_and_not_reported(gw):
    record = send(gw, "/openai/v1/responses", {"model": "gpt-6.1-sol", "input": "hi"}, responses("gpt-6.1-sol"))
    assert (record["cost_nano"], record["estimated"]) == (1_000 * 2_000 + 100 * 10_000, False)
    body = {"model": "text-embedding-3-small", "input": "hi"}
    answer = {"object": "list", "data": [], "model": "text-embedding-3-small", "usage": {"prompt_tokens": 50, "total_tokens": 50}}
    record = send(gw, "/openai/v1/embeddings", body, answer)
    assert (record["cost_nano"], record["estimated"]) == (50 * 20, False)
    assert not {"gpt-6.1-sol", "text-embedding-3-small"} & {m["model"] for m in gw.admin("/api/prices/unlisted").json["models"]}
    assert "gpt-6.1-sol" not in "".join(x for x in gw.admin("/metrics").body.decode().splitlines() if "unlisted" in x)


@pytest.mark.parametrize(("tier", "factor"), [("default", 1), ("priority", 2), ("flex", 0.5)])
def test_the_service_tier_that_was_served_is_billed(gw, tier, factor):
    body = {"model": "gpt-6.1-sol", "input": "hi", "service_tier": "auto"}
    record = send(gw, "/openai/v1/responses", body, responses("gpt-6.1-sol", service_tier=tier))
    assert record["cost_nano"] == int((1_000 * 2_000 + 100 * 10_000) * factor)


@pytest.mark.parametrize(("prompt", "per_token", "out"), [(272_000, 2_000, 10_000), (272_001, 4_000, 15_000)])
def test_both_sides_of_an_edge(gw, prompt, per_token, out):
    used = {"input_tokens": prompt, "output_tokens": 7, "total_tokens": prompt + 7}
    record = send(gw, "/openai/v1/responses", {"model": "gpt-6.1-sol", "input": "hi"}, responses("gpt-6.1-sol", usage=used))
    assert record["cost_nano"] == prompt * per_token + 7 * out


def test_a_part_that_a_new_model_served_is_priced_by_its_family_and_the_rest_by_its_own(gw):
    parts = [
        {"type": "message", "model": "claude-opus-5-5", "input_tokens": 500, "output_tokens": 50},
        {"type": "advisor_message", "model": "claude-opus-6", "input_tokens": 505_000, "output_tokens": 10},
    ]
    answer = message("claude-opus-5-5", **usage(input_tokens=500, output_tokens=50, iterations=parts))
    record = send(gw, "/v1/messages", json.loads(ask()), answer)
    assert record["cost_nano"] == 500 * 4_000 + 50 * 20_000 + 505_000 * 5_000 + 10 * 25_000
    assert record["estimated"]


def test_an_unknown_name_of_no_family_is_refused_under_a_budget(gw):
    reply = gw.post(ask(model="nobodys-model"))
    assert (reply.status, reply.reason) == (400, "model_unpriced")
    assert "Model 'nobodys-model' has no known price" in reply.message
    assert gw.admin("/api/prices?model=nobodys-model").json["known"] is False
    assert "nobodys-model" not in {m["model"] for m in gw.admin("/api/prices/unlisted").json["models"]}


def test_a_price_list_is_picked_up_while_the_gateway_runs(gw):
    file = gw.policy.parent / "prices.yaml"
    row = "{input: 7, cache_write_5m: 7, cache_write_1h: 7, cache_read: 7, output: 9}"
    call = (
        "/v1/messages",
        json.loads(ask(model="claude-opus-6")),
        message("claude-opus-6", **usage(input_tokens=1_000, output_tokens=100)),
    )
    record = send(gw, *call)
    assert (record["cost_nano"], record["estimated"]) == (1_000 * 5_000 + 100 * 25_000, True)
    replace_file(file, f"models: [{{model: claude-opus-6, prices: [{row}]}}]\n")
    gw.wait_for("New prices are in force")
    record = send(gw, *call)
    assert (record["cost_nano"], record["estimated"]) == (1_000 * 7_000 + 100 * 9_000, False)
    assert gw.admin("/api/prices?model=claude-opus-6").json["origin"] == "operator"
    assert "claude-opus-6" not in {m["model"] for m in gw.admin("/api/prices/unlisted").json["models"]}
    replace_file(file, "models: [{model: claude-opus-6}]\n")
    gw.wait_for("Prices cannot be read; still using those from before")
    health = gw.admin("/health").json
    assert health["status"] == gw.admin("/api/health").json["status"] == "degraded"
    assert "prices.yaml:1: models[0]: an entry needs a model and a list of prices" in health["prices"]["error"]
    assert "sluicegate_prices_ok 0.0" in gw.admin("/metrics").body.decode()
    assert send(gw, *call)["cost_nano"] == 1_000 * 7_000 + 100 * 9_000
    file.unlink()
    eventually(lambda: "sluicegate_prices_ok 1.0" in gw.admin("/metrics").body.decode())
    assert (gw.admin("/health").json["status"], gw.admin("/api/health").json["prices"]) == ("ok", {"error": None})


def test_unpriced_deny_refuses_a_new_model(tmp_path):
    with FakeProvider(plain(message())) as fake:
        policy = policy_text(fake.url, unpriced="deny", virtual_keys=[{"id": VK, "budget": BUDGET}])
        with Gateway(tmp_path, policy) as gw:
            reply = gw.post(ask(model="claude-opus-6"))
            assert (reply.status, reply.reason) == (400, "model_unpriced")
            assert gw.admin("/api/prices?model=claude-opus-6").json["known"] is False
