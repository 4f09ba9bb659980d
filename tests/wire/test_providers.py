"""Known and other providers on the wire: reached on both ways in, with their own paths and keys, and charged what they bill."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from sluicegate.values import Usage
from sluicegate.windows import parse_iso
from support.api import Api
from support.fake_provider import FakeProvider, Seen, plain
from support.harness import VK, Gateway, policy_text
from support.streams import Recorded, prices, recorded_answers

pytestmark = pytest.mark.wire

KEY = "the-key-of-the-provider"
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
GENERATE = "/v1beta/models/gemini-2.5-flash:generateContent"
BY_ID = {recorded.id: recorded for recorded in recorded_answers()}


@dataclass(frozen=True)
class Case:
    """One provider: what policy says of it, how it is called, and what it then gets."""

    name: str
    policy: dict[str, Any]
    base: str
    """The path of its base URL."""
    answer: str
    """The recorded answer that it gives."""
    host: str
    """The host at which clients look for it."""
    whole: str
    """The path that a client writes there."""
    sent: str
    """The path that arrives."""
    auth: tuple[str, str] | None = ("authorization", f"Bearer {KEY}")
    path: str = CHAT
    """The path behind our prefix."""
    prefix: str = ""
    price: tuple[int, int] | None = None
    """Nano-dollars for a token of input and of output, where policy says what it costs."""


CASES = {
    case.name: case
    for case in (
        Case("groq", {}, "/openai", "groq/chat-x-groq", "api.groq.com", f"/openai{CHAT}", f"/openai{CHAT}"),
        Case("openrouter", {}, "/api", "openrouter/chat-cost", "openrouter.ai", f"/api{CHAT}", f"/api{CHAT}"),
        Case("deepseek", {}, "", "deepseek/chat-cache-hit-alone", "api.deepseek.com", "/chat/completions", "/chat/completions"),
        Case("mistral", {}, "", "mistral/chat-cached", "api.mistral.ai", CHAT, CHAT),
        Case("xai", {}, "/v1", "xai/responses-search", "api.x.ai", RESPONSES, RESPONSES, path=RESPONSES),
        Case("perplexity", {}, "", "perplexity/responses-search", "api.perplexity.ai", RESPONSES, RESPONSES, path=RESPONSES),
        Case("together", {}, "", "together/chat-usage-at-the-end", "api.together.xyz", CHAT, CHAT),
        Case(
            *("fireworks", {}, "/inference", "fireworks/chat-usage-chunk", "api.fireworks.ai"),
            *(f"/inference{CHAT}", f"/inference{CHAT}"),
        ),
        Case("cerebras", {}, "", "cerebras/chat-time-info", "api.cerebras.ai", CHAT, CHAT),
        Case(
            *("cohere", {}, "/compatibility", "cohere/chat-usage-at-the-end", "api.cohere.com"),
            *(f"/compatibility{CHAT}", f"/compatibility{CHAT}"),
        ),
        Case(
            *("qwen", {}, "/compatible-mode", "openai/chat-usage-chunk", "dashscope.aliyuncs.com"),
            *(f"/compatible-mode{CHAT}", f"/compatible-mode{CHAT}"),
            prefix="dashscope",
        ),
        Case(
            *("azure", {"hosts": ["me.openai.azure.com"]}, "/openai", "openai/chat-usage-chunk", "me.openai.azure.com"),
            *(f"/openai{CHAT}", f"/openai{CHAT}", ("api-key", KEY)),
        ),
        Case(
            *("foundry", {"hosts": ["me.services.ai.azure.com"]}, "/anthropic", "anthropic/cache_read"),
            *("me.services.ai.azure.com", f"/anthropic{MESSAGES}", f"/anthropic{MESSAGES}", ("x-api-key", KEY), MESSAGES),
        ),
        Case("ollama", {"keys": [], "hosts": ["llama.lan"]}, "", "ollama/chat-usage-chunk", "llama.lan", CHAT, CHAT, None),
        Case(
            *("own-messages", {"protocol": "anthropic", "hosts": ["messages.lan"]}, "/anthropic", "anthropic/cache_read"),
            *("messages.lan", f"/anthropic{MESSAGES}", f"/anthropic{MESSAGES}", ("x-api-key", KEY), MESSAGES),
        ),
        Case(
            *("own_gemini", {"protocol": "gemini", "hosts": ["gemini.lan"], "auth": "bearer"}, "/v1beta", "gemini/plain"),
            *("gemini.lan", GENERATE, GENERATE),
            path=GENERATE,
        ),
        Case(
            *("own-v4", {"protocol": "openai", "hosts": ["v4.lan"], "price": {"input": 1, "output": 2}}, "/api/paas/v4"),
            *("openai/chat-plain", "v4.lan", "/api/paas/v4/chat/completions", "/api/paas/v4/chat/completions"),
            price=(1000, 2000),
        ),
    )
}


@pytest.fixture(scope="module")
def gw(tmp_path_factory):
    """Yield one gateway in front of a fake of every provider."""
    with contextlib.ExitStack() as stack:
        fakes = {name: stack.enter_context(FakeProvider()) for name in CASES}
        keys = {"keys": [{"name": "key-1", "value": "env.THE_KEY"}]}
        providers = {name: {**keys, "base_url": fakes[name].url + case.base, **case.policy} for name, case in CASES.items()}
        budget = {"max_limit": 100_000, "reset_duration": "1M"}
        policy = policy_text(providers=providers, customers=[], teams=[], users=[], virtual_keys=[{"id": VK, "budget": budget}])
        gateway = stack.enter_context(Gateway(tmp_path_factory.mktemp("providers"), policy, env={"THE_KEY": KEY}))
        gateway.fakes = fakes
        yield gateway


def body_of(case: Case, recorded: Recorded) -> bytes:
    messages = [{"role": "user", "content": "hi"}]
    if case.path == GENERATE:
        return json.dumps({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}).encode()
    content = {"input": "hi"} if case.path == RESPONSES else {"messages": messages, "max_tokens": 4096}
    return json.dumps({"model": recorded.model, "stream": recorded.is_stream, **content}).encode()


def ask(gw: Gateway, case: Case, way: str) -> tuple[Seen, dict[str, Any]]:
    """Make one call; return what the provider got of it, and the call's record."""
    recorded, fake = BY_ID[case.answer], gw.fakes[case.name]
    fake.script = plain(recorded.body, 200, f"content-type: {recorded.content_type}")
    before, body = gw.recorded(), body_of(case, recorded)
    if way == "port":
        reply = gw.post(body, None, f"/{case.prefix or case.name}{case.path}", authorization=f"Bearer {VK}")
    else:
        reply = gw.proxied(body, None, case.whole, case.host, user=VK)
    assert (reply.status, reply.body) == (200, recorded.body), reply.body
    assert fake.seen[-1].body == body
    return fake.seen[-1], gw.calls(before + 1)[-1]


def bill(case: Case, recorded: Recorded, started_at: str) -> int:
    """Return what a call costs that began then: DeepSeek's nights are cheaper than its days."""
    if case.price is not None:
        given, written = case.price
        return given * recorded.usage["input_tokens"] + written * recorded.usage["output_tokens"]
    if recorded.known.usage.cost is not None:
        return recorded.cost_nano
    return prices(recorded.provider).cost(Usage(**recorded.usage), recorded.served, parse_iso(started_at))


@pytest.mark.parametrize("way", ["port", "HTTPS_PROXY"])
@pytest.mark.parametrize("name", CASES)
def test_a_provider_is_reached_with_its_own_key_and_charged_what_it_bills(gw, name, way):
    case = CASES[name]
    seen, row = ask(gw, case, way)
    assert seen.target == case.sent
    sent = {n.lower(): v for n, v in seen.headers}
    carried = {n: sent[n] for n in ("authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization") if n in sent}
    assert carried == (dict([case.auth]) if case.auth else {})
    assert VK.encode() not in seen.head + seen.body
    recorded = BY_ID[case.answer]
    assert (row["provider"], row["outcome"], row["model_requested"]) == (name, "completed", recorded.model)
    assert row["output_tokens"] == recorded.usage["output_tokens"]
    assert row["cost_nano"] == bill(case, recorded, row["started_at"])
    assert not row["estimated"]


def test_paths_that_only_the_whole_url_has_lead_to_no_other_provider(gw):
    """What is none of a provider's requests is refused with its own envelope, and nothing is sent."""
    before = len(gw.fakes["deepseek"].seen)
    for path in ("/deepseek/anthropic/v1/messages", "/deepseek/user/balance", "/deepseek/v1/fine_tuning/jobs"):
        reply = gw.post(b"{}", path=path)
        assert (reply.status, reply.reason) == (400, "unsupported"), path
        assert reply.json["error"]["code"] == "unsupported"
    assert gw.post(b"{}", path="/moonshot/v1/chat/completions").status == 404
    assert len(gw.fakes["deepseek"].seen) == before


def test_a_caller_without_a_key_is_told_the_variable_of_its_client(gw):
    for path, variable in (("/groq" + CHAT, "GROQ_API_KEY"), ("/own-messages" + MESSAGES, "ANTHROPIC_API_KEY")):
        reply = gw.post(b"{}", None, path)
        assert (reply.status, reply.reason) == (401, "virtual_key_required")
        assert f"set {variable} to yours" in reply.message


AZURE = "/deployments/gpt-4o/chat/completions?api-version=2024-10-21"


@pytest.mark.parametrize("way", ["port", "HTTPS_PROXY"])
def test_azure_s_older_api_has_the_deployment_in_the_path(gw, way):
    case = replace(CASES["azure"], path=AZURE, whole=f"/openai{AZURE}", sent=f"/openai{AZURE}")
    seen, row = ask(gw, case, way)
    assert (seen.target, seen.header("api-key"), row["model_requested"]) == (case.sent, KEY, "gpt-4o")
    assert (row["model_served"], row["cost_nano"]) == ("gpt-4o-2024-08-06", BY_ID[case.answer].cost_nano)


def test_a_deployment_and_a_model_that_differ_are_refused(gw):
    before = len(gw.fakes["azure"].seen)
    for model in ("gpt-4o-mini", "GPT-4o", "gpt-4o-"):
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
        reply = gw.post(body, path=f"/azure{AZURE}")
        assert (reply.status, reply.reason) == (400, "invalid_request"), model
        assert "its path is that of deployment 'gpt-4o'" in reply.message
    assert gw.post(b"{}", path="/azure/deployments/gpt-4o/images/generations").reason == "unsupported"
    assert gw.post(b"{}", path="/groq/deployments/gpt-4o/chat/completions").reason == "unsupported"
    assert len(gw.fakes["azure"].seen) == before


def test_providers_are_shown_and_their_calls_are_found(gw):
    api = Api(gw)
    shown = {p["name"]: p for p in api.ok("GET", "/api/providers")["providers"]}
    assert {"anthropic", "openai", "gemini", *CASES} == set(shown)
    assert (shown["groq"]["title"], shown["groq"]["protocol"], shown["groq"]["auth"]) == ("Groq", "openai", "bearer")
    assert (shown["azure"]["auth"], shown["ollama"]["provider_status"]) == ("api-key", "active")
    assert shown["own-v4"]["price"] == {"input": 1, "output": 2}
    ask(gw, CASES["groq"], "port")
    found = api.ok("GET", "/api/logs?provider=groq")["logs"]
    assert {row["provider"] for row in found} == {"groq"}
    # Each seller's own list has its models, and what an answer says it cost is not an estimate.
    assert api.ok("GET", "/api/prices/unlisted")["models"] == []
    assert "sluicegate_unlisted_model_calls_total{" not in api("GET", "/metrics").body.decode()


# -- by one API -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "model", "path", "arrives", "auth"),
    [
        ("groq", "groq/llama-3.3-70b-versatile", CHAT, f"/openai{CHAT}", f"Bearer {KEY}"),
        ("groq", "groq/openai/gpt-oss-120b", CHAT, f"/openai{CHAT}", f"Bearer {KEY}"),
        ("deepseek", "deepseek/deepseek-chat", CHAT, "/chat/completions", f"Bearer {KEY}"),
        # It has no Responses, so a call in that form is translated; one that has it gets the client's own.
        ("deepseek", "deepseek/deepseek-chat", RESPONSES, "/chat/completions", f"Bearer {KEY}"),
        ("xai", "xai/grok-4.7", RESPONSES, RESPONSES, f"Bearer {KEY}"),
        ("own-v4", "own-v4/some-model", MESSAGES, "/api/paas/v4/chat/completions", f"Bearer {KEY}"),
        ("ollama", "ollama/llama3.2", CHAT, CHAT, None),
    ],
)
def test_a_model_s_name_leads_to_any_provider(gw, name, model, path, arrives, auth):
    fake = gw.fakes[name]
    chat = (
        BY_ID["deepseek/chat-cache-hit-alone"].body if arrives.endswith("/chat/completions") else BY_ID["xai/responses-search"].body
    )
    fake.script = plain(chat, 200, "content-type: application/json")
    before = gw.recorded()
    content = {"input": "hi"} if path == RESPONSES else {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 64}
    reply = gw.post(json.dumps({"model": model, **content}).encode(), None, path, authorization=f"Bearer {VK}")
    assert reply.status == 200, reply.body
    seen = fake.seen[-1]
    plain_name = model.partition("/")[2]
    assert (seen.target, json.loads(seen.body)["model"], seen.header("authorization")) == (arrives, plain_name, auth)
    assert reply.json["object" if path != MESSAGES else "type"] in ("chat.completion", "response", "message")
    row = gw.calls(before + 1)[-1]
    assert (row["provider"], row["outcome"], row["input_tokens"] + row["cache_read_tokens"]) == (
        (name, "completed", 1013) if arrives != RESPONSES else (name, "completed", 9212)
    )


# -- over REST --------------------------------------------------------------------------------------------------------

CUSTOM = {
    "provider": "my-custom",
    "keys": [{"name": "k1", "value": "sk-the-literal-key", "weight": 1.0}],
    "network_config": {"base_url": "https://llm.example.com/v1", "default_request_timeout_in_seconds": 60, "max_retries": 2},
    "custom_provider_config": {"base_provider_type": "openai"},
}


@pytest.mark.parametrize(
    ("name", "path", "status", "accepted", "words"),
    [
        ("groq", "/openai/v1/models", 200, True, "groq accepts it: it answered its list of models"),
        ("deepseek", "/models", 401, False, "deepseek rejects it with status 401"),
        ("own-messages", "/anthropic/v1/models", 403, False, "own-messages rejects it with status 403"),
        ("own_gemini", "/v1beta/models", 200, True, "own_gemini accepts it"),
        ("own-v4", "/api/paas/v4/models", 404, None, "own-v4 answered 404 to the list of models: make a call to try the key"),
    ],
)
def test_a_key_is_tried_by_a_request_that_spends_nothing(gw, name, path, status, accepted, words):
    fake = gw.fakes[name]
    fake.script = plain(b"{}", status)
    tried = Api(gw).ok("POST", f"/api/providers/{name}/keys/key-1/test")
    assert (tried["accepted"], tried["status"]) == (accepted, status)
    assert words in tried["message"]
    assert KEY not in json.dumps(tried)
    seen = fake.seen[-1]
    assert (seen.lines[0].split(b" ")[0], seen.target) == (b"GET", path)
    header, value = CASES[name].auth
    assert seen.header(header) == value


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """Yield the API of a gateway whose environment holds a known provider's own variable."""
    env = {"GROQ_API_KEY": "gsk-1", "ANTHROPIC_API_KEY": "sk-ant"}
    with Gateway(tmp_path_factory.mktemp("rest"), policy_text(), env=env) as gateway:
        yield Api(gateway)


def test_a_known_provider_needs_its_own_variable_alone(api):
    keys = [{"name": "groq-1", "value": "env.GROQ_API_KEY", "weight": 1.0}]
    shown = api.ok("POST", "/api/providers", {"provider": "groq", "keys": keys})
    assert (shown["name"], shown["base_url"], shown["provider_status"]) == ("groq", "https://api.groq.com/openai", "active")
    assert shown["keys"][0] | {"set_aside_until": None} == {
        **keys[0],
        "usable": True,
        "set_aside_until": None,
    }
    # While the variable is set, its address cannot be changed over HTTP: the variable could be sent there next.
    refused = api("PUT", "/api/providers/groq", {"base_url": "https://evil.example"})
    assert refused.status == 400
    assert "could be sent to https://evil.example" in refused.message
    assert api.ok("DELETE", "/api/providers/groq")["message"] == "Provider deleted successfully"
    assert api("GET", "/api/providers/groq").status == 404


def test_a_custom_provider_is_taken_as_bifrost_writes_it(api):
    shown = api.ok("POST", "/api/providers", CUSTOM)
    assert (shown["protocol"], shown["base_url"], shown["auth"]) == ("openai", "https://llm.example.com/v1", "bearer")
    assert "sk-the-literal-key" not in json.dumps(shown)
    assert '"protocol": "openai"' in api.gw.policy.read_text()
    assert api.ok("GET", "/api/providers/my-custom")["keys"][0]["usable"]
    # The same again changes nothing, and a key without a value keeps the one it has.
    again = CUSTOM | {"keys": [{"name": "k1", "weight": 2.0}]}
    assert api.ok("POST", "/api/providers", again)["keys"][0]["weight"] == 2.0
    more = api.ok("POST", "/api/providers/my-custom/keys", {"name": "k2", "value": "sk-another-literal-key"})
    assert (more["name"], more["usable"]) == ("k2", True)
    key = {"name": "Custom", "value": "vk-custom", "provider_configs": [{"provider": "my-custom", "allowed_models": ["m-*"]}]}
    assert api("POST", "/api/governance/virtual-keys", key).status in (200, 201)
    refused = api("DELETE", "/api/providers/my-custom")
    assert refused.status in (400, 409)
    assert "'my-custom' is not a provider" in refused.message
    shown = api.ok("PUT", "/api/providers/my-keyless", {k: CUSTOM[k] for k in ("network_config",)} | KEYLESS)
    assert (shown["auth"], shown["keys"], shown["provider_status"]) == ("none", [], "active")


KEYLESS = {
    "network_config": {"base_url": "https://other.example"},
    "custom_provider_config": {"base_provider_type": "anthropic", "is_key_less": True},
}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"provider": "mine", "keys": []}, "'mine' is not a provider; known are anthropic, azure"),
        ({"provider": "grok"}, "did you mean groq?"),
        ({"provider": "mine", "protocol": "openai"}, "'mine' needs a base_url"),
        ({"provider": "azure", "keys": []}, "'azure' needs a base_url"),
        ({"provider": "v1", "protocol": "openai", "base_url": "https://a.example"}, "'v1' cannot be a provider's name"),
        (
            {"provider": "Bad Name!", "protocol": "openai", "base_url": "https://a.example"},
            "provider: 'Bad Name!' cannot be a provider's name",
        ),
        (CUSTOM | {"protocol": "anthropic"}, "custom_provider_config.base_provider_type: says something else than protocol"),
        (CUSTOM | {"base_url": "https://b.example"}, "network_config.base_url: says something else than base_url"),
        (CUSTOM | {"custom_provider_config": {"base_provider_type": "cohere"}}, "base_provider_type"),
        (CUSTOM | {"custom_provider_config": {"base_provider_type": "openai", "allowed_requests": {}}}, "allowed_requests"),
        (CUSTOM | {"network_config": {"extra_headers": {"a": "b"}}}, "extra_headers"),
        (CUSTOM | {"provider": "other", "network_config": {"base_url": "https://api.openai.com"}}, "is already governed as openai"),
    ],
)
def test_what_cannot_be_configured_is_refused_in_words(api, body, says):
    refused = api("POST", "/api/providers", body)
    assert refused.status == 400, refused.body
    assert says in refused.message
