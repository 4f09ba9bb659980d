"""Providers in a policy: known ones need keys alone, others a protocol and an address, and what cannot be is said in words."""

from __future__ import annotations

import pytest

from sluicegate.policy.loader import PolicyError, load
from sluicegate.policy.model import Policy
from sluicegate.providers.signing import aws
from sluicegate.values import RequestFacts


def policy(tmp_path, text: str) -> Policy:
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\n" + text)
    return load(file, env={"KEY": "k"}, now=0)


OPEN = "protocol: openai, base_url: 'https://a.example"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("providers: {mine: {}}", "providers.mine: 'mine' is not a provider; known are anthropic, openai"),
        ("providers: {mine: {}}", "any other needs protocol (anthropic, openai, gemini, vertex, bedrock) and base_url"),
        ("providers: {grok: {}}", "did you mean groq?"),
        ("providers: {mine: {protocol: openai}}", "'mine' needs a base_url"),
        ("providers: {mine: {protocol: cohere, base_url: 'https://a.example'}}", "providers.mine.protocol"),
        ("providers: {azure: {}}", "'azure' needs a base_url: base_url is your resource's"),
        (
            "providers: {vertex: {keys: [{name: k, vertex_key_config: {region: us}}]}}",
            "needs the project_id of a Google Cloud project",
        ),
        ("providers: {vertex: {keys: [{name: k, vertex_key_config: {project_id: a/b}}]}}", "needs the project_id"),
        ("providers: {vertex: {keys: [{name: k, vertex_key_config: {project_id: p, region: a.b}}]}}", "a region such as global"),
        (
            "providers: {vertex: {keys: [{name: a, vertex_key_config: {project_id: p}}, {name: b, vertex_key_config: {project_id: q}}]}}",
            "providers.vertex.keys[1]: the keys of one provider share project_id and region",
        ),
        ("providers: {bedrock: {keys: [{name: k, bedrock_key_config: {region: Frankfurt}}]}}", "'Frankfurt' is no AWS region"),
        (
            "providers: {bedrock: {base_url: 'https://a.example', keys: [{name: k, bedrock_key_config: {region: 'a, b'}}]}}",
            "providers.bedrock.keys[0]: 'a, b' is no AWS region",
        ),
        ("providers: {bedrock: {keys: [{name: k, bedrock_key_config: {region: 'file:/etc/passwd'}}]}}", "'file:/etc/passwd' is no"),
        ("providers: {groq: {keys: [{name: k, bedrock_key_config: {}}]}}", "bedrock_key_config is for protocol bedrock"),
        (
            "providers: {bedrock: {keys: [{name: k, vertex_key_config: {project_id: p}}]}}",
            "vertex_key_config is for protocol vertex, and this provider speaks bedrock",
        ),
        (
            "providers: {bedrock: {keys: [{name: k, bedrock_key_config: {access_key: a}}]}}",
            "access_key and secret_key belong together",
        ),
        (
            "providers: {bedrock: {keys: [{name: k, bedrock_key_config: {session_token: env.T}}]}}",
            "session_token belongs to an access_key and secret_key",
        ),
        (
            "providers: {bedrock: {keys: [{name: a, bedrock_key_config: {region: us-east-1}}, "
            "{name: b, bedrock_key_config: {region: eu-west-1}}]}}",
            "its keys are of several regions (eu-west-1, us-east-1): give each region a provider of its own, with protocol: bedrock",
        ),
        ("providers: {groq: {keys: [{name: k}]}}", "a key needs a value: env.NAME or file:PATH"),
        ("providers: {anthropic: {protocol: openai}}", "'anthropic' speaks its own protocol"),
        ("providers: {deepseek: {protocol: anthropic}}", "'deepseek' needs a base_url"),
        (f"providers: {{v1: {{{OPEN}'}}}}", "'v1' cannot be a provider's name: /v1 on the gateway's port is a path of the gateway"),
        (f"providers: {{genai: {{{OPEN}'}}}}", "/genai on the gateway's port is a path of gemini"),
        (f"providers: {{Mine: {{{OPEN}'}}}}", "'Mine' cannot be a provider's name: write up to 40 of a-z"),
        (f"providers: {{'a/b': {{{OPEN}'}}}}", "cannot be a provider's name"),
        ("providers: {groq: {auth: basic}}", "providers.groq.auth"),
        ("providers: {groq: {price: {input: -1, output: 1}}}", "providers.groq.price.input"),
        (
            "providers: {openai: {base_url: 'https://api.groq.com/openai'}, groq: {}}",
            "host 'api.groq.com' is already governed as openai",
        ),
        (f"providers: {{a: {{{OPEN}/1'}}, b: {{{OPEN}/2'}}}}", "host 'a.example' is already governed as a"),
        (f"providers: {{a: {{{OPEN}', hosts: [api.x.ai]}}, xai: {{}}}}", "host 'api.x.ai' is already governed as a"),
        (
            "virtual_keys: [{id: k, provider_configs: [{provider: groq}]}]",
            "provider 'groq' is not configured: add it under providers",
        ),
        ("model_configs: [{model_name: m, provider: mine}]", "'mine' is not a provider"),
        (
            f"providers: {{a: {{{OPEN}', allow_paths: [POST /v1/chat/completions]}}}}",
            "'POST /v1/chat/completions' is sent anyway, as metered",
        ),
    ],
)
def test_what_cannot_be_is_said_in_words(tmp_path, text, says):
    with pytest.raises(PolicyError) as refused:
        policy(tmp_path, text)
    assert says in str(refused.value)


VERTEX = "vertex: {keys: [{name: k, value: t, vertex_key_config: {project_id: p}}]}"
HAIKU = "claude-haiku-4-5-20251001"


@pytest.mark.parametrize(
    ("provider", "asked", "own"),
    [
        ("vertex", f"us.anthropic.{HAIKU}-v1:0", HAIKU),
        ("vertex", f"arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.{HAIKU}-v1:0", HAIKU),
        ("vertex", "Claude-Opus-4-5@20251101[1m]", "claude-opus-4-5@20251101"),
        ("vertex", "gemini-2.5-flash", "gemini-2.5-flash"),
        ("anthropic", f"us.anthropic.{HAIKU}-v1:0", HAIKU),
        ("anthropic", f"{HAIKU}[1m]", f"{HAIKU}[1m]"),
    ],
)
def test_a_provider_has_a_model_by_its_own_name(tmp_path, provider, asked, own):
    assert policy(tmp_path, f"providers: {{{VERTEX}}}").providers[provider].own_name(asked) == own


@pytest.mark.parametrize("base_url", ["", "base_url: 'https://a.example', "])
def test_what_a_region_s_variable_holds_is_not_shown(tmp_path, base_url):
    file = tmp_path / "policy.yaml"
    keys = "[{name: a, bedrock_key_config: {region: env.SECRET}}, {name: b, bedrock_key_config: {region: us-east-1}}]"
    file.write_text(f"version: 1\nproviders: {{bedrock: {{{base_url}keys: {keys}}}}}")
    with pytest.raises(PolicyError, match=r"'env\.SECRET' is no AWS region") as refused:
        load(file, env={"SECRET": "sk-ant-secret"}, now=0)
    assert "sk-ant" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "written", "sent", "whole"),
    [
        ("groq", "{}", "https://api.groq.com:443/openai/v1/chat/completions", "/openai/v1/chat/completions"),
        (
            "groq",
            "{base_url: 'https://eu.example/groq/openai/v1/'}",
            "https://eu.example:443/groq/openai/v1/chat/completions",
            None,
        ),
        ("openrouter", "{}", "https://openrouter.ai:443/api/v1/chat/completions", "/api/v1/chat/completions"),
        ("deepseek", "{}", "https://api.deepseek.com:443/chat/completions", "/chat/completions"),
        ("deepseek", "{}", "https://api.deepseek.com:443/chat/completions", "/v1/chat/completions"),
        ("deepseek", "{base_url: 'https://api.deepseek.com/v1'}", "https://api.deepseek.com:443/v1/chat/completions", None),
        ("qwen", "{}", "https://dashscope-intl.aliyuncs.com:443/compatible-mode/v1/chat/completions", None),
        ("fireworks", "{}", "https://api.fireworks.ai:443/inference/v1/chat/completions", None),
        ("cohere", "{}", "https://api.cohere.ai:443/compatibility/v1/chat/completions", None),
        ("ollama", "{}", "http://localhost:11434/v1/chat/completions", None),
        ("vllm", "{base_url: 'http://10.0.0.5:9000/v1'}", "http://10.0.0.5:9000/v1/chat/completions", None),
        (
            "azure",
            "{base_url: 'https://me.openai.azure.com/openai/v1'}",
            "https://me.openai.azure.com:443/openai/v1/chat/completions",
            None,
        ),
        (
            "zai",
            "{protocol: openai, base_url: 'https://api.z.ai/api/paas/v4'}",
            "https://api.z.ai:443/api/paas/v4/chat/completions",
            None,
        ),
        ("openai", "{base_url: 'https://a.example/v1'}", "https://a.example:443/v1/chat/completions", None),
        ("openai", "{base_url: 'https://a.example/proxy'}", "https://a.example:443/proxy/v1/chat/completions", None),
    ],
)
def test_a_call_goes_where_the_provider_s_own_documents_say(tmp_path, name, written, sent, whole):
    provider = policy(tmp_path, f"providers: {{{name}: {written}}}").providers[name]
    inner = "/v1/chat/completions"
    host = f"{provider.scheme}://{provider.host}:{provider.port}"
    assert host + provider.prefix + provider.outer_path(inner) == sent
    # What a client writes at the provider's own address is the same call, and so is its path behind our prefix.
    assert provider.inner_path(whole or sent.removeprefix(host), is_whole=True) == inner
    assert provider.inner_path(inner + "?a=b", is_whole=False) == inner + "?a=b"
    assert provider.kind_of("POST", inner) == "messages"


@pytest.mark.parametrize(
    ("path", "inner"),
    [
        ("/chat/completions?x=1", "/v1/chat/completions?x=1"),
        ("/models", "/v1/models"),
        ("/v1/models/deepseek-chat", "/v1/models/deepseek-chat"),
        ("/beta/completions", "/beta/completions"),
        ("/anthropic/v1/messages", "/anthropic/v1/messages"),
        ("/user/balance", "/user/balance"),
        ("//chat/completions", "//chat/completions"),
    ],
)
def test_without_a_version_only_known_paths_get_one(tmp_path, path, inner):
    provider = policy(tmp_path, "providers: {deepseek: {}}").providers["deepseek"]
    assert provider.inner_path(path, is_whole=True) == inner
    assert provider.inner_path(path, is_whole=False) == inner


def test_hosts_prefixes_and_keys_of_configured_providers(tmp_path):
    text = (
        "providers:\n"
        "  together: {keys: [{name: a, value: env.KEY}], hosts: [t.example]}\n"
        "  qwen: {keys: [{name: a, value: env.KEY}]}\n"
        "  ollama: {}\n"
        "  mine: {protocol: anthropic, base_url: 'https://m.example/x', auth: none, price: {input: 1, output: 2}}\n"
    )
    found = policy(tmp_path, text)
    assert list(found.providers) == ["anthropic", "openai", "gemini", "together", "qwen", "ollama", "mine"]
    owners = {host: found.provider_of_host(host, port) for host, port in HOSTS}
    assert {host: owner.name if owner else None for host, owner in owners.items()} == {
        "api.together.ai": "together",
        "API.Together.XYZ.": "together",
        "t.example": "together",
        "dashscope.aliyuncs.com": "qwen",
        "m.example": "mine",
        "localhost": "ollama",
        "api.groq.com": None,
        "api.anthropic.com": "anthropic",
    }
    assert found.provider_of_host("localhost", 8080) is None
    assert {p: found.prefixes.get(p) for p in ("genai", "gemini", "qwen", "dashscope", "mine", "groq")} == {
        "genai": "gemini",
        "gemini": "gemini",
        "qwen": "qwen",
        "dashscope": "qwen",
        "mine": "mine",
        "groq": None,
    }
    mine, ollama, together = (found.providers[n] for n in ("mine", "ollama", "together"))
    assert (mine.auth, mine.is_keyless, ollama.is_keyless, together.is_keyless) == ("none", True, True, False)
    assert (together.auth, together.seller.listed_as, ollama.seller.flat, mine.seller.flat) == (
        "bearer",
        "together",
        (0, 0),
        (1, 2),
    )
    assert found.providers["openai"].seller is None


HOSTS = [
    ("api.together.ai", 443),
    ("API.Together.XYZ.", 443),
    ("t.example", None),
    ("dashscope.aliyuncs.com", 443),
    ("m.example", 443),
    ("localhost", 11434),
    ("api.groq.com", 443),
    ("api.anthropic.com", 443),
]


def test_another_protocol_of_a_known_company_keeps_nothing_of_the_first(tmp_path):
    text = "providers: {deepseek: {protocol: anthropic, base_url: 'https://api.deepseek.com/anthropic'}}"
    provider = policy(tmp_path, text).providers["deepseek"]
    assert (provider.protocol, provider.auth, provider.version) == ("anthropic", "x-api-key", "/v1")
    assert provider.inner_path("/anthropic/v1/messages", is_whole=True) == "/v1/messages"
    assert provider.seller.listed_as == "deepseek"


@pytest.mark.parametrize(
    ("name", "model", "reason"),
    [
        ("openrouter", "anthropic/claude-opus-5-5", "OpenRouter chooses who serves a call"),
        ("perplexity", "perplexity/sonar", "Perplexity bills searches beside tokens"),
        ("groq", "groq/compound-mini", "compound systems call models and tools"),
        ("groq", "llama-3.3-70b-versatile", None),
        ("openai", "gpt-4o", None),
    ],
)
def test_where_nobody_knows_the_most_a_call_can_cost_it_has_no_bound(tmp_path, name, model, reason):
    provider = policy(tmp_path, "providers: {openrouter: {}, perplexity: {}, groq: {}}").providers[name]
    facts = provider.bounded(RequestFacts(model=model))
    assert (reason is None) == (not facts.extent.unbounded)
    assert (reason or "") in (facts.extent.unbounded or "")


def test_azure_has_model_calls_of_its_own_and_no_other_provider_has_them(tmp_path):
    found = policy(tmp_path, "providers: {azure: {base_url: 'https://me.openai.azure.com/openai/v1'}, groq: {}}").providers
    azure, path = found["azure"], "/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    assert azure.inner_path("/openai" + path, is_whole=True) == azure.outer_path(path) == path
    assert (azure.kind_of("POST", path), azure.kind_of("GET", path)) == ("messages", "unsupported")
    assert azure.kind_of("POST", "/deployments/gpt-4o/extensions/chat/completions") == "unsupported"
    assert found["groq"].kind_of("POST", path) == found["openai"].kind_of("POST", path) == "unsupported"


def test_a_key_that_signs_needs_the_extra_and_says_which(tmp_path, monkeypatch):
    text = "providers: {bedrock: {keys: [{name: k, bedrock_key_config: {region: us-east-1}}]}}"
    loaded = policy(tmp_path, text)
    assert loaded.providers["bedrock"].base_url == "https://bedrock-runtime.us-east-1.amazonaws.com:443"
    assert loaded.providers["bedrock"].keys[0].is_usable
    monkeypatch.setattr(aws, "is_installed", lambda: False)
    with pytest.raises(PolicyError, match=r"pip install 'sluicegate\[bedrock\]'"):
        policy(tmp_path, text)


@pytest.mark.parametrize(
    ("region", "env", "host"),
    [
        ("eu-west-1", {"AWS_REGION": "us-west-2"}, "bedrock-runtime.eu-west-1.amazonaws.com"),
        ("env.MINE", {"MINE": "ap-south-1"}, "bedrock-runtime.ap-south-1.amazonaws.com"),
        (None, {"AWS_REGION": "us-west-2", "AWS_DEFAULT_REGION": "us-east-2"}, "bedrock-runtime.us-west-2.amazonaws.com"),
        (None, {"AWS_DEFAULT_REGION": "us-east-2"}, "bedrock-runtime.us-east-2.amazonaws.com"),
        (None, {}, "bedrock-runtime.us-east-1.amazonaws.com"),
        ("cn-north-1", {}, "bedrock-runtime.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_the_region_of_its_keys_says_where_bedrock_is(tmp_path, region, env, host):
    config = "{}" if region is None else f"{{region: {region}}}"
    file = tmp_path / "policy.yaml"
    file.write_text(f"version: 1\nproviders: {{bedrock: {{keys: [{{name: k, bedrock_key_config: {config}}}]}}}}")
    served = load(file, env=env, now=0).providers["bedrock"]
    assert (served.host, served.hosts) == (host, {host})
