"""Vertex AI on the wire: as a provider of any client's calls, and as the API that a client speaks."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from support import model_apis
from support.fake_provider import FakeProvider, sse
from support.harness import VK, Gateway, policy_text
from support.vertex import PROJECT, REGION, FakeVertex, TokenEndpoint

pytestmark = pytest.mark.wire

OPUS, OLD_OPUS, FLASH = "claude-opus-5-5", "claude-opus-4-5@20251101", "gemini-2.5-flash"
SAID = [{"role": "user", "content": "hi"}]
CLAUDE = {"anthropic_version": "vertex-2023-10-16", "max_tokens": 100, "messages": SAID}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
HOST = f"{REGION}-aiplatform.googleapis.com"
OURS = f"/v1/projects/{PROJECT}/locations/{REGION}/publishers"
THEIRS = "/projects/mine/locations/global/publishers"

ROUTES = [
    {"name": "elsewhere", "when": {"provider": "vertex", "model": "claude-sonnet-*"}, "targets": [{"provider": "anthropic"}]},
    {
        "name": "other-maker",
        "when": {"provider": "vertex", "model": "claude-haiku-*"},
        "targets": [{"provider": "vertex", "model": FLASH}],
    },
    {
        "name": "to-gemini",
        "when": {"provider": "vertex", "model": "gemini-3*"},
        "targets": [{"provider": "gemini", "model": FLASH}],
    },
    {"name": "to-claude", "when": {"provider": "gemini"}, "targets": [{"provider": "vertex", "model": OLD_OPUS}]},
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        tokens = stack.enter_context(TokenEndpoint())
        vertex = stack.enter_context(FakeVertex(tokens))
        anthropic, gemini = (stack.enter_context(FakeProvider(model_apis.answer)) for _ in range(2))
        folder = tmp_path_factory.mktemp("vertex")
        (folder / "account.json").write_text(tokens.account())
        config = {"project_id": PROJECT, "region": REGION, "auth_credentials": f"file:{folder / 'account.json'}"}
        providers = {
            "vertex": {"base_url": vertex.url, "keys": [{"name": "account", "vertex_key_config": config}]},
            "anthropic": {"base_url": anthropic.url, "keys": [{"name": "k", "value": "sk-real"}]},
            "gemini": {"base_url": gemini.url, "keys": [{"name": "k", "value": "g-real"}]},
        }
        keys = [{"id": VK}, {"id": "vk-poor", "budget": {"max_limit": 0, "reset_duration": "1M"}}]
        policy = policy_text(providers=providers, virtual_keys=keys, routes=ROUTES, customers=[], teams=[], users=[])
        gateway = stack.enter_context(Gateway(folder, policy))
        gateway.vertex, gateway.tokens, gateway.anthropic, gateway.gemini = vertex, tokens, anthropic, gemini
        yield gateway


def called(lab, path, body, key=VK, way="port", carrier="x_bf_vk", **headers):
    """Make a call; return its answer and its record."""
    before = lab.recorded()
    raw = json.dumps(body).encode()
    if way == "port":
        reply = lab.post(raw, None, path, **{carrier: key}, **headers)
    else:
        reply = lab.proxied(raw, None, path, HOST, user=key, **headers)
    return reply, lab.calls(before + 1)[-1]


@pytest.mark.parametrize("way", ["port", "HTTPS_PROXY"])
@pytest.mark.parametrize(
    ("method", "model", "body"),
    [
        ("streamRawPredict", OPUS, CLAUDE | {"stream": True}),
        ("rawPredict", OLD_OPUS, CLAUDE),
        ("generateContent", FLASH, GEMINI),
        ("streamGenerateContent?alt=sse", FLASH, GEMINI),
    ],
)
def test_a_client_of_vertex_is_answered_by_our_project_and_its_bytes_stay(lab, way, method, model, body):
    publisher = "google" if model == FLASH else "anthropic"
    rest = f"/{publisher}/models/{model}:{method}"
    path = f"/vertex{THEIRS}{rest}" if way == "port" else f"/v1{THEIRS}{rest}"
    reply, record = called(lab, path, body, way=way, authorization="Bearer ya29.the-client-s-own")
    assert reply.status == 200, reply.body
    seen = lab.vertex.seen[-1]
    assert (seen.target, seen.body) == (OURS + rest, json.dumps(body).encode())
    assert (record["provider"], record["model_requested"], record["outcome"]) == ("vertex", model, "completed")
    assert (record["input_tokens"], record["output_tokens"], record["estimated"]) == (100, 8 if publisher == "google" else 50, 0)
    prices = {
        FLASH: 100 * 300 + 8 * 2500,
        OPUS: (100 * 4000 + 50 * 20000) * 11 // 10,
        OLD_OPUS: (100 * 5000 + 50 * 25000) * 11 // 10,
    }
    assert record["cost_nano"] == prices[model]
    assert not lab.vertex.refusals


def test_gemini_cli_names_no_project_where_it_has_a_key(lab):
    """With GOOGLE_GENAI_USE_VERTEXAI, GOOGLE_API_KEY and GOOGLE_VERTEX_BASE_URL: seen on the wire of 0.61."""
    path = f"/vertex/v1beta1/publishers/google/models/{FLASH}:streamGenerateContent?alt=sse"
    reply, _ = called(lab, path, GEMINI, carrier="x_goog_api_key")
    assert reply.status == 200, reply.body
    assert lab.vertex.seen[-1].target == path.replace("/vertex/v1beta1", f"/v1beta1/projects/{PROJECT}/locations/{REGION}")


def test_one_token_serves_all_calls(lab):
    called(lab, f"/vertex{THEIRS}/google/models/{FLASH}:generateContent", GEMINI)
    assert len(lab.tokens.given) == 1


MESSAGES = {"max_tokens": 100, "messages": SAID, "context_management": {"edits": []}}


@pytest.mark.parametrize(("stream", "has_length"), [(True, False), (True, True), (False, False)])
def test_a_client_of_anthropic_is_answered_by_vertex(lab, stream, has_length):
    lab.vertex.has_length = has_length
    body = {"model": "vertex/claude-opus-4-5-20251101", "stream": stream, **MESSAGES}
    betas = "claude-code-20250219,context-management-2025-06-27"
    reply, record = called(lab, "/v1/messages?beta=true", body, anthropic_version="2023-06-01", anthropic_beta=betas)
    assert reply.status == 200, (reply.body, lab.vertex.refusals)
    seen = lab.vertex.seen[-1]
    method = "streamRawPredict" if stream else "rawPredict"
    assert seen.target == f"{OURS}/anthropic/models/{OLD_OPUS}:{method}"
    assert json.loads(seen.body) == CLAUDE | {"stream": stream}
    assert seen.header("anthropic-beta") == "claude-code-20250219"
    assert (record["provider"], record["output_tokens"], record["estimated"]) == ("vertex", 50, 0)
    if stream:
        # Vertex has events of its own in the stream, which are not part of Messages.
        assert reply.body == b"".join(sse(model_apis.ANSWER, "claude-opus-4-5-20251101"))


@pytest.mark.parametrize(
    ("path", "body", "target"),
    [
        ("/v1/chat/completions", {"model": f"vertex/{OPUS}", "messages": SAID}, f"/anthropic/models/{OPUS}:rawPredict"),
        (
            "/v1/messages",
            {"model": f"vertex/{FLASH}", "max_tokens": 9, "messages": SAID},
            f"/google/models/{FLASH}:generateContent",
        ),
        (f"/v1beta/models/{FLASH}:streamGenerateContent?alt=sse", GEMINI, f"/anthropic/models/{OLD_OPUS}:streamRawPredict"),
        (f"/vertex{THEIRS}/anthropic/models/claude-haiku-4-5:rawPredict", CLAUDE, f"/google/models/{FLASH}:generateContent"),
    ],
)
def test_other_clients_are_answered_in_translation(lab, path, body, target):
    lab.vertex.refusals.clear()
    reply, record = called(lab, path, body)
    assert reply.status == 200, (reply.body, lab.vertex.refusals)
    assert lab.vertex.seen[-1].target.partition("?")[0].partition("/publishers")[2] == target
    assert b"Hello" in reply.body
    assert (record["provider"], record["outcome"], record["estimated"]) == ("vertex", "completed", 0)


def test_a_client_of_vertex_is_answered_by_anthropic_itself(lab):
    path = f"/vertex{THEIRS}/anthropic/models/claude-sonnet-4-5@20250929:streamRawPredict"
    reply, record = called(lab, path, CLAUDE | {"stream": True})
    assert reply.status == 200, reply.body
    seen = lab.anthropic.seen[-1]
    assert (seen.target, seen.header("x-api-key"), seen.header("anthropic-version")) == ("/v1/messages", "sk-real", "2023-06-01")
    assert json.loads(seen.body) == {"model": "claude-sonnet-4-5-20250929", "max_tokens": 100, "messages": SAID, "stream": True}
    assert (record["provider"], record["outcome"], record["output_tokens"]) == ("anthropic", "completed", 50)


def test_a_client_of_vertex_is_answered_by_gemini_itself(lab):
    reply, record = called(lab, f"/vertex/v1beta1{THEIRS}/google/models/gemini-3-pro:generateContent", GEMINI)
    assert reply.status == 200, reply.body
    seen = lab.gemini.seen[-1]
    assert (seen.target, seen.header("x-goog-api-key"), seen.body) == (
        f"/v1beta/models/{FLASH}:generateContent",
        "g-real",
        json.dumps(GEMINI).encode(),
    )
    assert (record["provider"], record["outcome"]) == ("gemini", "completed")


def test_tokens_are_counted_for_nothing(lab):
    count = f"/vertex{THEIRS}/anthropic/models/count-tokens:rawPredict"
    reply, _ = called(lab, count, {"model": OPUS, "messages": SAID})
    assert (reply.status, reply.json) == (200, {"input_tokens": 11})
    reply, _ = called(lab, count, {"model": "claude-sonnet-5", "messages": SAID})
    assert (reply.status, reply.headers["x-sluicegate-estimated"]) == (200, "true")


@pytest.mark.parametrize(
    ("path", "body", "reason", "says"),
    [
        (f"{THEIRS}/anthropic/models/{FLASH}:rawPredict", CLAUDE, "invalid_request", "is not a model of the publisher"),
        (f"{THEIRS}/google/models/{OPUS}:generateContent", GEMINI, "invalid_request", "is not a model of the publisher"),
        (f"{THEIRS}/anthropic/models/{OPUS}:rawPredict", CLAUDE | {"stream": True}, "invalid_request", "say two things"),
        (f"{THEIRS}/anthropic/models/{OPUS}:streamRawPredict", CLAUDE, "invalid_request", "say two things"),
        (f"{THEIRS}/anthropic/models/{OPUS}:rawPredict", CLAUDE | {"model": "claude-haiku-4-5"}, "invalid_request", "model"),
        (f"{THEIRS}/anthropic/models/{OPUS}:rawPredict", [], "invalid_request", "is a JSON object"),
        (f"{THEIRS}/meta/models/llama:rawPredict", {}, "unsupported", "is not supported"),
        ("/projects/mine/locations/global/endpoints/1:predict", {}, "unsupported", "is not supported"),
    ],
)
def test_what_cannot_be_judged_is_refused(lab, path, body, reason, says):
    before = len(lab.vertex.seen)
    reply, record = called(lab, f"/vertex{path}", body)
    assert (reply.status, reply.reason, record["outcome"]) == (400, reason, "denied")
    assert says in reply.message
    assert len(lab.vertex.seen) == before


def test_a_refusal_is_in_an_envelope_that_clients_of_either_maker_read(lab):
    reply, _ = called(
        lab, f"/vertex{THEIRS}/anthropic/models/{OPUS}:rawPredict", CLAUDE, key="vk-poor", user_agent="claude-cli/2.1.332"
    )
    assert (reply.status, reply.json["type"], reply.json["error"]["type"]) == (409, "error", "budget_exceeded")
    assert (reply.json["error"]["code"], reply.json["error"]["status"]) == (409, "BUDGET_EXCEEDED")


@pytest.mark.parametrize(("status", "wanted"), [(429, 429), (403, 503)])
def test_an_error_of_google_s_has_the_form_of_the_client(lab, status, wanted):
    lab.vertex.error = status, {"error": {"code": status, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED"}}
    try:
        reply, _ = called(lab, "/v1/messages", {"model": f"vertex/{OPUS}", **MESSAGES})
    finally:
        lab.vertex.error = None
    assert (reply.status, reply.json["type"]) == (wanted, "error")
    assert "Quota exceeded." in reply.message


def test_a_key_comes_over_http_with_its_account_in_a_file_of_its_own(lab):
    admin = {"authorization": f"Bearer {lab.token}", "content-type": "application/json"}

    def add(config):
        key = {"name": "sent", "weight": 0, "vertex_key_config": {"project_id": PROJECT, "region": REGION, **config}}
        return lab.request("POST", "/api/providers/vertex/keys", json.dumps(key).encode(), admin)

    # The machine's own account may be named in the policy file alone: whoever gets its token could use it.
    assert add({}).status == 400
    assert "token_uri is not Google's" in add({"auth_credentials": '{"type": "service_account", "token_uri": "http://x/"}'}).message
    assert "is not the JSON" in add({"auth_credentials": '{"type": "external_account"}'}).message
    added = add({"auth_credentials": lab.tokens.account()})
    assert (added.status, added.json["usable"]) == (200, True), added.body
    assert "PRIVATE KEY" not in added.body.decode() + lab.policy.read_text()
    stored = Path(added.json["value"].removeprefix("file:"))
    assert json.loads(stored.read_text()) == json.loads(lab.tokens.account())
    assert lab.request("DELETE", "/api/providers/vertex/keys/sent", None, admin).status == 200
    assert not stored.exists()
