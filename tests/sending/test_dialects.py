"""Which API a target is asked in, and under which path."""

from __future__ import annotations

import pytest

from sluicegate.policy.loader import load
from sluicegate.sending.dialects import dialect_of_provider, path_elsewhere, speaks_alike
from sluicegate.sending.prepared import ClientRequest, in_place
from sluicegate.translation.dialect_paths import dialect_of_path

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
POLICY = "version: 1\nproviders: {groq: {}, deepseek: {}, perplexity: {}, mine: {protocol: openai, base_url: 'https://a.example'}}"


@pytest.fixture(scope="module")
def providers(tmp_path_factory):
    file = tmp_path_factory.mktemp("dialects") / "policy.yaml"
    file.write_text(POLICY)
    return load(file, env={}, now=0).providers


@pytest.mark.parametrize(
    ("name", "path", "dialect", "alike"),
    [
        ("groq", CHAT, "chat", True),
        ("groq", RESPONSES, "responses", True),
        ("groq", MESSAGES, "chat", False),
        ("deepseek", RESPONSES, "chat", False),
        ("perplexity", CHAT, "responses", False),
        ("perplexity", RESPONSES, "responses", True),
        ("mine", RESPONSES, "chat", False),
        ("mine", "/v1/embeddings", "chat", True),
        ("anthropic", CHAT, "messages", False),
        ("gemini", CHAT, "generate_content", False),
        ("openai", RESPONSES, "responses", True),
    ],
)
def test_a_provider_is_asked_in_the_client_s_own_api_if_it_has_that(providers, name, path, dialect, alike):
    protocol = "anthropic" if path == MESSAGES else "openai"
    assert dialect_of_provider(providers[name], dialect_of_path(path)) == dialect
    assert speaks_alike(ClientRequest("POST", path, [], b""), protocol, providers[name]) == alike


@pytest.mark.parametrize(
    ("path", "elsewhere"),
    [
        ("/deployments/gpt-4o/chat/completions?api-version=2024-10-21", CHAT),
        ("/deployments/a/embeddings", "/v1/embeddings"),
        (f"{CHAT}?a=b", f"{CHAT}?a=b"),
        ("/v1/deployments/a/chat/completions", "/v1/deployments/a/chat/completions"),
    ],
)
def test_a_deployment_s_path_is_a_plain_one_at_other_providers(path, elsewhere):
    assert path_elsewhere(path) == elsewhere


def test_another_model_takes_its_place_in_a_deployment_s_path_too():
    path, body = in_place("openai", "/deployments/one/chat/completions?a=b", b'{"model":"one","n":1}', "one", "two")
    assert (path, body) == ("/deployments/two/chat/completions?a=b", b'{"model":"two","n":1}')
    assert in_place("openai", CHAT, b'{"model":"one"}', "one", "one") == (CHAT, b'{"model":"one"}')
