"""Which hosts of no provider agents may reach, by name and by address."""

from __future__ import annotations

import pytest

from sluicegate.addresses import is_host
from sluicegate.network.egress.judgement import refusal_of_address, refusal_of_hidden_name, refusal_of_host
from sluicegate.network.egress.model_hosts import find_model_host, model_hosts
from sluicegate.policy.server_schema import Egress
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.known import ALWAYS_GOVERNED, known_providers

OPEN, CLOSED = Egress(), Egress(default="deny", allow=("*.example.com", "10.1.*"), deny=("bad.example.com", "10.1.2.*", "1.1.1.1"))


@pytest.mark.parametrize(
    ("egress", "host", "says"),
    [
        (OPEN, "github.com", None),
        (OPEN, "1.1.1.1", None),
        (OPEN, "10.0.0.1", "list it under egress.allow"),
        (OPEN, "127.0.0.1", "list it under egress.allow"),
        (OPEN, "fe80::1", "list it under egress.allow"),
        (OPEN, "127.0.0.1.5", "is not a host name or address that every reader reads alike"),
        (OPEN, "a%2eb", "is not a host name or address that every reader reads alike"),
        (OPEN, "openrouter.ai", "openrouter.ai is a model API (OpenRouter)"),
        (CLOSED, "github.com", "list it under egress.allow"),
        (CLOSED, "a.example.com", None),
        (CLOSED, "bad.example.com", "Policy does not let agents reach bad.example.com"),
        (CLOSED, "10.1.1.1", None),
        (CLOSED, "10.1.2.1", "Policy does not let agents reach 10.1.2.1"),
        (CLOSED, "api.groq.com", "govern it with providers.groq.keys in the gateway's policy"),
        (CLOSED, "api.z.ai", "providers.NAME: {protocol: openai, base_url: https://api.z.ai/api/paas, keys: ...}"),
        (CLOSED, "me.openai.azure.com", "providers.azure: {base_url: https://me.openai.azure.com/openai, keys: ...}"),
        (Egress(allow=("openrouter.ai",)), "openrouter.ai", None),
        (Egress(allow=("*", "openrouter.*")), "openrouter.ai", "is a model API"),
        (Egress(model_hosts="tunnel"), "openrouter.ai", None),
        (Egress(model_hosts="tunnel", default="deny"), "openrouter.ai", "list it under egress.allow"),
        (Egress(model_hosts="tunnel", deny=("openrouter.ai",)), "openrouter.ai", "Policy does not let agents reach openrouter.ai"),
    ],
)
def test_a_host_by_its_name(egress, host, says):
    refusal = refusal_of_host(egress, host)
    assert refusal is None if says is None else says in refusal.message
    assert refusal is None or (refusal.style is not None) == ("model API" in refusal.message)


@pytest.mark.parametrize(
    ("egress", "host", "address", "is_refused"),
    [
        (OPEN, "a.test", "1.1.1.1", False),
        (OPEN, "a.test", "169.254.169.254", True),
        (OPEN, "a.test", "fec0::1", True),
        (Egress(allow=("a.test",)), "a.test", "10.0.0.1", False),
        (Egress(allow=("10.0.0.1",)), "a.test", "10.0.0.1", False),
        (CLOSED, "a.example.com", "1.1.1.1", True),
        (CLOSED, "a.example.com", "10.1.2.9", True),
    ],
)
def test_a_host_by_its_address(egress, host, address, is_refused):
    assert (refusal_of_address(egress, host, address) is not None) == is_refused


def test_a_hidden_name_needs_policys_word():
    assert refusal_of_hidden_name(OPEN, "a.example.com") is not None
    assert refusal_of_hidden_name(CLOSED, "a.example.com") is None
    assert refusal_of_hidden_name(Egress(encrypted_names="tunnel"), "b.test") is None


EXAMPLES = {
    "generativelanguage.mtls.googleapis.com": "gemini",
    "autopush-generativelanguage.sandbox.googleapis.com": "gemini",
    "us-east5-aiplatform.mtls.googleapis.com": "vertex",
    "daily-cloudcode-pa.sandbox.googleapis.com": "gemini",
    "ai-gateway.helicone.ai": "openai",
    "api.portkey.ai": "openai",
    "x.us-east-1.aws.endpoints.huggingface.cloud": "openai",
    "runtime.sagemaker.us-east-1.amazonaws.com": "openai",
    "inference.generativeai.us-chicago-1.oci.oraclecloud.com": "openai",
    "dashscope.aliyuncs.com": "openai",
    "cn-hongkong.dashscope.aliyuncs.com": "openai",
    "ws-1.cn-beijing.maas.aliyuncs.com": "openai",
    "chatgpt.com": "openai",
    "eu.api.openai.com": "openai",
    "cloudcode-pa.googleapis.com": "gemini",
    "daily-cloudcode-pa.googleapis.com": "gemini",
    "aiplatform.googleapis.com": "vertex",
    "europe-west4-aiplatform.googleapis.com": "vertex",
    "bedrock-runtime.us-east-1.amazonaws.com": "bedrock",
    "bedrock-mantle.us-west-2.api.aws": "anthropic",
    "mycompany.openai.azure.com": "openai",
    "api.mistral.ai": "openai",
    "api.deepseek.com": "openai",
    "api.groq.com": "openai",
    "api.x.ai": "openai",
    "opencode.ai": "openai",
    "ollama.com": "openai",
    "api2.cursor.sh": "openai",
    "agentn.api5.cursor.sh": "openai",
    "agent-gcpp-uswest.api5.cursor.sh": "openai",
    "server.codeium.com": "openai",
    "q.us-east-1.amazonaws.com": "anthropic",
    "codewhisperer.us-east-1.amazonaws.com": "anthropic",
    "ampcode.com": "anthropic",
    "app.factory.ai": "anthropic",
}


@pytest.mark.parametrize("host", EXAMPLES)
def test_known_model_apis(host):
    entry = find_model_host(host)
    assert entry is not None
    assert entry.style == EXAMPLES[host]
    assert len(entry.advice(host)) > 20


@pytest.mark.parametrize(
    "host",
    [
        "github.com",
        "ab.chatgpt.com",
        "storage.googleapis.com",
        "s3.us-east-1.amazonaws.com",
        "registry.npmjs.org",
        "huggingface.co",
        "registry.ollama.ai",
        "models.dev",
        "cursor.com",
        "sqs.us-east-1.amazonaws.com",
        "marketplace.cursorapi.com",
    ],
)
def test_hosts_that_agents_need_for_other_things_are_no_model_apis(host):
    assert find_model_host(host) is None


def test_the_data_is_well_formed():
    """Every entry says what to do, speaks a known style, and covers no host that a provider governs."""
    seen = set()
    for entry in model_hosts():
        assert entry.style in PROTOCOLS
        assert (entry.base_url is None and entry.provider is None) != (entry.hint is None), entry.name
        for host in entry.hosts:
            assert is_host(host.replace("*", "x")), host
            assert host not in seen
            seen.add(host)
    governed = [host for name in ALWAYS_GOVERNED for host in known_providers()[name].hosts]
    assert not [host for host in governed if find_model_host(host) is not None]


def test_hosts_of_known_providers_are_refused_where_policy_does_not_configure_them():
    """And the advice is to configure the provider that would govern them: the two tables never contradict each other."""
    for known in known_providers().values():
        for host in known.hosts if known.name not in ALWAYS_GOVERNED else ():
            entry = find_model_host(host)
            assert entry is not None, host
            assert (entry.provider, entry.style) == (known.name, known.protocol), host
            assert f"providers.{known.name}" in entry.advice(host)
    for entry in model_hosts():
        if entry.provider is not None:
            known = known_providers()[entry.provider]
            assert known.unsupported is None
            # What is not a host of the provider's own data needs a base_url: the advice says which.
            assert entry.base_url is not None or {h for h in entry.hosts if "*" not in h} <= known.hosts, entry.name
