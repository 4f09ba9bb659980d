"""Which requests may travel on a provider's key: the table, every known client's requests, and what a policy may add."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.calls.refusal import unsupported_message
from sluicegate.providers import PROTOCOLS, provider_for_path
from sluicegate.providers.endpoints import AllowedPaths, parse_endpoint

METERED, WITH_MODEL, FREE, KEYLESS, REFUSED = "messages", "count_tokens", "other", "keyless", "unsupported"
LOGIN = "login"
"""Sent with the caller's own login alone."""

CLIENTS = {
    "Claude Code 2.1.332": [
        ("anthropic", "POST /v1/messages?beta=true", METERED),
        ("anthropic", "POST /v1/messages/count_tokens?beta=true", WITH_MODEL),
        ("anthropic", "GET /v1/models?limit=1000", FREE),
        ("anthropic", "GET /api/claude_code/settings", FREE),
        ("anthropic", "GET /api/claude_code/policy_limits", FREE),
        ("anthropic", "POST /api/eval/sdk-zAZezfDKGoZuXXKe", FREE),
        ("anthropic", "GET /api/claude_cli/bootstrap", FREE),
        ("anthropic", "GET /api/claude_code_penguin_mode", FREE),
        ("anthropic", "GET /api/claude_code/organizations/metrics_enabled", FREE),
        ("anthropic", "POST /api/claude_code/metrics", FREE),
        ("anthropic", "POST /api/event_logging/v2/batch", FREE),
        ("anthropic", "POST /api/claude_cli_feedback", FREE),
        ("anthropic", "GET /api/claude_cli_profile?account_uuid=x", FREE),
        ("anthropic", "GET /api/model_selector/claude_code", FREE),
        ("anthropic", "GET /api/web/domain_info?domain=example.org", KEYLESS),
        ("anthropic", "GET /api/directory/server-urls", KEYLESS),
        ("anthropic", "GET /api/directory/servers?url_hash=0&visibility=a", KEYLESS),
        ("anthropic", "GET /api/directory/plugins?x=1", KEYLESS),
        ("anthropic", "GET /mcp-registry/v0/servers?version=latest&limit=100", KEYLESS),
        ("anthropic", "HEAD /api/hello", KEYLESS),
        # What belongs to an account with claude.ai is asked with its login or not at all: the provider's key has no part in it.
        ("anthropic", "GET /api/oauth/profile", LOGIN),
        ("anthropic", "GET /api/oauth/usage", LOGIN),
        ("anthropic", "GET /api/oauth/claude_cli/roles", LOGIN),
        ("anthropic", "POST /api/oauth/claude_cli/create_api_key", REFUSED),
        ("anthropic", "GET /api/organization/claude_code_first_token_date", LOGIN),
        ("anthropic", "POST /v1/code/sessions", REFUSED),
    ],
    "Codex 0.171": [
        ("openai", "POST /v1/responses", METERED),
        ("openai", "GET /v1/models?client_version=0.171.0", FREE),
        # An attempt at WebSocket is answered 426 before this table is asked; as plain HTTP it is nothing.
        ("openai", "GET /v1/responses", REFUSED),
        ("openai", "POST /v1/images/generations", REFUSED),
        ("openai", "POST /v1/realtime/calls", REFUSED),
    ],
    "Gemini CLI 0.61": [
        ("gemini", "POST /v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", METERED),
        ("gemini", "POST /v1beta/models/gemini-3.5-flash-lite:generateContent", METERED),
        ("gemini", "POST /v1beta/models/gemini-2.5-flash:countTokens", WITH_MODEL),
        ("gemini", "POST /v1beta/models/openai/gpt-4.1:generateContent", METERED),
        ("gemini", "POST /v1/models/openrouter/anthropic/claude-opus-5:streamGenerateContent?alt=sse", METERED),
        ("gemini", "POST /v1beta/models/openai/gpt-4.1:countTokens", WITH_MODEL),
        ("gemini", "POST /v1beta/models/a/b/c/d:generateContent", REFUSED),
        ("gemini", "POST /v1beta/models/openai%2Fgpt-4.1:generateContent", REFUSED),
        ("gemini", "POST /v1beta/models/openai//gpt-4.1:generateContent", REFUSED),
        ("gemini", "POST /v1beta/models/../gpt-4.1:generateContent", REFUSED),
        ("gemini", "GET /v1beta/models/openai/gpt-4.1", REFUSED),
        ("gemini", "POST /v1beta/models/gemini-embedding-001:embedContent", METERED),
    ],
    "Qwen Code 0.24": [("openai", "POST /v1/chat/completions", METERED)],
    "opencode 1.18": [
        ("anthropic", "POST /v1/messages", METERED),
        ("openai", "POST /v1/responses", METERED),
        ("openai", "POST /v1/chat/completions", METERED),
        ("gemini", "POST /v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse", METERED),
    ],
    "anthropic 2.14.0": [
        ("anthropic", "POST /v1/messages", METERED),
        ("anthropic", "POST /v1/messages/count_tokens", WITH_MODEL),
        ("anthropic", "GET /v1/models", FREE),
        ("anthropic", "GET /v1/models/claude-opus-5-5", FREE),
        ("anthropic", "POST /v1/complete", REFUSED),
        ("anthropic", "POST /v1/messages/batches", REFUSED),
        ("anthropic", "GET /v1/messages/batches", REFUSED),
        ("anthropic", "POST /v1/files", REFUSED),
        ("anthropic", "GET /v1/files/file_1/content", REFUSED),
        ("anthropic", "DELETE /v1/files/file_1", REFUSED),
        ("anthropic", "POST /v1/agents", REFUSED),
        ("anthropic", "POST /v1/sessions", REFUSED),
        ("anthropic", "POST /v1/environments", REFUSED),
        ("anthropic", "POST /v1/skills", REFUSED),
        ("anthropic", "POST /v1/organizations/api_keys", REFUSED),
        ("anthropic", "POST /v1/experimental/generate_prompt", REFUSED),
    ],
    "openai 3.57.0": [
        ("openai", "POST /v1/chat/completions", METERED),
        ("openai", "POST /v1/completions", METERED),
        ("openai", "POST /v1/embeddings", METERED),
        ("openai", "POST /v1/responses", METERED),
        ("openai", "POST /v1/responses/compact", METERED),
        ("openai", "POST /v1/responses/input_tokens", WITH_MODEL),
        ("openai", "GET /v1/models", FREE),
        ("openai", "GET /v1/models/gpt-6.1-sol", FREE),
        ("openai", "DELETE /v1/models/gpt-6.1-sol", REFUSED),
        ("openai", "GET /v1/responses/resp_1", REFUSED),
        ("openai", "POST /v1/responses/resp_1/cancel", REFUSED),
        ("openai", "POST /v1/moderations", REFUSED),
        ("openai", "POST /v1/images/generations", REFUSED),
        ("openai", "POST /v1/audio/speech", REFUSED),
        ("openai", "POST /v1/videos", REFUSED),
        ("openai", "POST /v1/batches", REFUSED),
        ("openai", "POST /v1/files", REFUSED),
        ("openai", "POST /v1/fine_tuning/jobs", REFUSED),
        ("openai", "POST /v1/threads/runs", REFUSED),
        ("openai", "POST /v1/threads/t/runs", REFUSED),
        ("openai", "POST /v1/realtime/sessions", REFUSED),
        ("openai", "POST /v1/realtime/client_secrets", REFUSED),
        ("openai", "POST /v1/chatkit/sessions", REFUSED),
        ("openai", "GET /v1/organization/usage/completions", REFUSED),
    ],
    "google-genai 3.6.1": [
        ("gemini", "POST /v1beta/models/gemini-2.5-pro:generateContent", METERED),
        ("gemini", "POST /v1/models/gemini-2.5-pro:generateContent", METERED),
        ("gemini", "GET /v1beta/models?pageSize=50", FREE),
        ("gemini", "GET /v1beta/models/gemini-2.5-pro", FREE),
        ("gemini", "GET /v1beta/models/gemini-2.5-pro:generateContent", REFUSED),
        ("gemini", "POST /v1beta/models/gemini-2.5-pro:batchGenerateContent", REFUSED),
        ("gemini", "POST /v1beta/models/veo-3:predictLongRunning", REFUSED),
        ("gemini", "POST /v1beta/tunedModels/t:generateContent", REFUSED),
        ("gemini", "POST /v1alpha/auth_tokens", REFUSED),
        ("gemini", "POST /v1beta/interactions", REFUSED),
        ("gemini", "POST /v1beta/cachedContents", REFUSED),
        ("gemini", "POST /upload/v1beta/files", REFUSED),
        ("gemini", "POST /v1beta/openai/chat/completions", REFUSED),
    ],
}
"""What each client asks for, as recorded or as its source has it, and what becomes of it."""

ASKED = sorted({row for rows in CLIENTS.values() for row in rows})
SERVED = [row for row in ASKED if row[2] != REFUSED]

PREFIXES = {"anthropic": "anthropic", "openai": "openai", "genai": "gemini", "gemini": "gemini"}

KEY_HEADERS = {"anthropic": {"x-api-key"}, "openai": {"authorization"}, "gemini": {"x-goog-api-key"}}


def kind_of(name: str, method: str, path: str) -> str:
    return PROTOCOLS[name].endpoints.kind(method, path)


def route(method: str, path: str, *headers: str) -> tuple[str, str] | None:
    return provider_for_path(method, path, headers, kind_of, PREFIXES)


@pytest.mark.parametrize(("provider", "asked", "kind"), ASKED)
def test_every_request_of_the_known_clients(provider, asked, kind):
    method, path = asked.split(" ")
    assert kind_of(provider, method, path) == kind
    prefix = {"gemini": "/genai"}.get(provider, f"/{provider}")
    assert route(method, prefix + path) == (provider, path)
    assert route(method, f"{prefix}_passthrough{path}") == (provider, path)
    # At the root of our port it goes to the same provider, also if it is refused there: the client knows that form of error.
    for root in ("", "/litellm", "/langchain", "/pydanticai", "/cursor"):
        assert route(method, root + path, *KEY_HEADERS[provider]) == (provider, path)
    assert route(method, "/litellms" + path) is None


@pytest.mark.parametrize(("provider", "asked", "kind"), SERVED)
def test_method_and_path_are_judged_together(provider, asked, kind):
    method, path = asked.split(" ")
    listed = {str(endpoint) for endpoint, _ in PROTOCOLS[provider].endpoints.rows}
    for other in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", method.lower()} - {method}:
        if f"{other} {path.partition('?')[0]}" not in listed:
            assert kind_of(provider, other, path) == REFUSED


SPELLINGS = (
    lambda p: p + "/",
    lambda p: "/" + p,
    lambda p: p.replace("/", "//", 2),
    lambda p: p.upper(),
    lambda p: "/x/.." + p,
    lambda p: "/." + p,
    lambda p: p + "/.",
    lambda p: p + "/x/..",
    lambda p: p + ";x=1",
    lambda p: p + "%3Fbeta=true",
    lambda p: p + "%2F",
    lambda p: p + "%00",
    lambda p: p + "#x",
    lambda p: p + " ",
    lambda p: p + "\\",
    lambda p: p.replace("/", "\\"),
    lambda p: p[:-1] + quote(p[-1]).replace(p[-1], f"%{ord(p[-1]):02x}"),
    lambda p: "/api" + p,
)


@pytest.mark.parametrize("respell", SPELLINGS)
def test_another_spelling_of_a_path_is_on_no_table(respell):
    for provider, asked, _ in SERVED:
        method, path = asked.split(" ")
        assert kind_of(provider, method, respell(path.partition("?")[0])) == REFUSED


@given(st.sampled_from(SERVED), st.text(st.sampled_from("/.%;?#\\ aA0:@{}*~-"), min_size=1, max_size=6), st.integers(0, 80))
def test_what_is_put_into_a_path_never_makes_it_a_cheaper_one(row, more, at):
    provider, asked, kind = row
    method, path = asked.split(" ")
    bare = path.partition("?")[0]
    changed = bare[: min(at, len(bare))] + more + bare[min(at, len(bare)) :]
    found = kind_of(provider, method, changed)
    if found != REFUSED and kind == METERED:
        # All that is left of it is another model's name, or a query.
        assert found == METERED
        assert re.fullmatch(r"[A-Za-z0-9/._~@:-]+", changed.partition("?")[0])
        assert "/." not in changed.partition("?")[0]


@pytest.mark.parametrize(
    ("asked", "headers", "found"),
    [
        ("GET /v1/models?limit=1000", ["x-api-key"], "anthropic"),
        ("GET /v1/models", ["anthropic-version", "authorization"], "anthropic"),
        ("GET /v1/models", ["authorization"], "openai"),
        ("GET /v1/models", [], "openai"),
        ("GET /v1/models", ["x-goog-api-key"], "gemini"),
        ("GET /v1/models/gpt-5", ["authorization"], "openai"),
        ("GET /v1/models/claude-opus-5-5", ["x-api-key"], "anthropic"),
        ("POST /v1/models/g:generateContent", ["x-api-key"], "gemini"),
        ("POST /v1/models/openai/g:generateContent", ["x-api-key"], "gemini"),
        ("GET /v1/models/g:generateContent", ["authorization"], "gemini"),
        ("POST /v1/images/generations", ["x-api-key"], "openai"),
        ("POST /v1/moderations", [], "openai"),
        ("POST /v1/files", ["x-api-key"], "anthropic"),
        ("POST /v1/files", ["authorization"], "openai"),
        ("POST /v1/messages/batches", ["authorization"], "anthropic"),
        ("POST /v1/organizations/api_keys", ["authorization"], "anthropic"),
        ("GET /v1/responses", ["authorization"], "openai"),
        ("POST /v1beta/files", ["x-goog-api-key"], "gemini"),
        ("GET /api/claude_code/settings", ["x-api-key"], "anthropic"),
        ("POST /openai", [], "openai"),
        ("POST /openai?x=1", [], "openai"),
        *((f"{method} {path}", ["x-api-key"], None) for method in ("GET", "POST") for path in (
            "/", "/favicon.ico", "/v1", "/v1/", "/v1/other", "/v1/responsesx", "/v1/messagesx", "/anthropicx/v1/messages",
            "/v2/messages", "//v1/messages", "/V1/messages", "/v1/models/a/b", "/v1%2fmessages", "/openai2/v1/responses",
            "/compatible-mode/v1/chat/completions", "/api/v1/messages", "/api", "/v1alphax/models",
        )),
    ],
)  # fmt: skip
def test_paths_at_the_root_of_our_port(asked, headers, found):
    method, path = asked.split(" ")
    went = route(method, path, *headers)
    assert (went and went[0]) == found


def test_a_prefix_is_removed_once_and_only_as_a_whole_segment():
    assert route("POST", "/anthropic/v1/messages?beta=true") == ("anthropic", "/v1/messages?beta=true")
    assert route("POST", "/anthropic/anthropic/v1/messages") == ("anthropic", "/anthropic/v1/messages")
    assert kind_of("anthropic", "POST", "/anthropic/v1/messages") == REFUSED
    assert route("GET", "/genai?x") == ("gemini", "/?x")


ALLOWED = AllowedPaths(["POST /v1/files", "GET /v1/files/{id}/content", "DELETE /v1/files/*", "POST /v1beta/models/{m}:predict"])


@pytest.mark.parametrize(
    ("asked", "may"),
    [
        ("POST /v1/files", True),
        ("POST /v1/files?beta=true", True),
        ("GET /v1/files", False),
        ("GET /v1/files/file_1/content", True),
        ("GET /v1/files/a/b/content", False),
        ("GET /v1/files/../content", False),
        ("GET /v1/files/a%2fb/content", False),
        ("GET /v1/files//content", False),
        ("DELETE /v1/files/file_1", True),
        ("DELETE /v1/files/", False),
        ("POST /v1beta/models/imagen-4:predict", True),
        ("POST /v1beta/models/imagen-4:predictLongRunning", False),
        ("POST /v1beta/models/a:b:predict", False),
        ("POST /v1/files/", False),
        ("POST /V1/files", False),
    ],
)
def test_a_policy_allows_what_it_lists_and_nothing_beside(asked, may):
    assert ALLOWED.allow(*asked.split(" ")) is may


@pytest.mark.parametrize(
    "text",
    [
        "/v1/files",
        "POST",
        "POST v1/files",
        "post /v1/files",
        "BREW /v1/files",
        "OPTIONS /v1/files",
        "POST /v1/files?x=1",
        "POST /v1/../files",
        "POST /v1/./files",
        "POST /v1/..",
        "POST //v1/files",
        "POST /v1/files/",
        "POST /v1/f%69les",
        "POST /v1/files x",
        "POST  /v1/files",
        "POST /v1/fi\tles",
        "POST /v1/files;x",
        "POST /" + "x" * 400,
        "POST /v1/{",
        "",
    ],
)
def test_what_is_not_a_method_and_a_path_is_refused_in_a_policy(text):
    with pytest.raises(ValueError, match="write a method and a path"):
        parse_endpoint(text)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/realtime/client_secrets",
        "/v1/realtime/sessions",
        "/v1/realtime/calls",
        "/v1/chatkit/sessions",
        "/v1/organizations/api_keys",
        "/v1/organization/admin_api_keys",
        "/v1/organization/projects/{id}/service_accounts",
        "/v1alpha/auth_tokens",
        "/v1beta/authTokens",
        "/v1/vaults/{id}/credentials",
        "/api/oauth/claude_cli/create_api_key",
    ],
)
def test_no_policy_allows_what_hands_out_credentials(path):
    with pytest.raises(ValueError, match="no policy can allow it"):
        parse_endpoint(f"POST {path}")
    wide = "/".join("*" if part else "" for part in path.split("/"))
    assert not AllowedPaths([f"POST {wide}"]).allow("POST", path.replace("{id}", "x"))
    assert "no policy can allow it" in unsupported_message("openai", "POST", path.replace("{id}", "x"))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("POST /v1/files", 'providers.anthropic.allow_paths: ["POST /v1/files"]'),
        ("GET /v1/files/file_1/content", 'providers.anthropic.allow_paths: ["GET /v1/files/file_1/content"]'),
        ("POST //v1/messages", None),
        ("BREW /v1/messages", None),
        ("POST /v1/m\x00essages", None),
    ],
)
def test_a_refusal_names_the_line_of_policy_that_would_allow_it(asked, says):
    message = unsupported_message("anthropic", *asked.split(" "))
    assert message.startswith(f"{asked} is not supported")
    assert (says in message) if says else ("allow_paths" not in message)
    if says:
        line = re.search(r'\["(.*)"\]', message)[1]
        assert AllowedPaths([line]).allow(*asked.split(" "))
