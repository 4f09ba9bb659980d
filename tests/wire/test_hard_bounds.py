"""Hard budgets through the whole chain: what may cost more than it seems is refused with its worst case."""

from __future__ import annotations

import json

import pytest

from support.harness import OPUS, VK, Gateway, policy_text

pytestmark = pytest.mark.wire

HAIKU = "claude-haiku-4-5"
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
GEMINI = "/genai/v1beta/models/gemini-2.5-flash:generateContent"
GPT = "gpt-4.1"


def user(*blocks):
    return [{"role": "user", "content": list(blocks) or "hi"}]


def messages(**fields):
    return "/v1/messages", {"model": HAIKU, "max_tokens": 100, "messages": user()} | fields


def chat(**fields):
    return CHAT, {"model": GPT, "max_completion_tokens": 100, "messages": user()} | fields


def responses(**fields):
    return RESPONSES, {"model": GPT, "max_output_tokens": 100, "input": "hi"} | fields


def gemini(*parts, **fields):
    contents = [{"role": "user", "parts": [{"text": "hi"}, *parts]}]
    body = {"generationConfig": {"maxOutputTokens": 100}, "contents": contents} | fields
    return GEMINI, {name: value for name, value in body.items() if value is not None}


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    """A gateway whose key has five cents left under a hard budget: enough for small calls, and for no context window."""
    cents = {"max_limit": 0.05, "reset_duration": "1M", "enforcement": "hard"}
    narrow = [{"provider": "anthropic", "allowed_models": ["claude-haiku-*"]}]
    providers = {name: {"simulate": True} for name in ("anthropic", "openai", "gemini")}
    keys = [{"id": VK, "budget": cents}, {"id": "vk-haiku", "provider_configs": narrow}, {"id": "vk-free"}]
    policy = policy_text(None, providers=providers, virtual_keys=keys, customers=[], teams=[], users=[])
    with Gateway(tmp_path_factory.mktemp("bounds"), policy) as gw:
        yield gw


SMALL = [messages(), chat(), chat(n=3), responses(), gemini()]
LARGE = [
    messages(context_management={"edits": [{"type": "compact_20260112"}]}),
    messages(fallbacks=[{"model": OPUS, "max_tokens": 9000}]),
    messages(tools=[{"type": "web_search_20260318", "name": "web_search"}]),
    messages(thinking={"type": "enabled", "budget_tokens": 60_000}),
    messages(messages=user({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}})),
    responses(conversation="conv_1"),
    responses(input=[{"type": "item_reference", "id": "msg_1"}]),
    responses(prompt={"id": "pmpt_1"}),
    responses(input=[{"role": "user", "content": [{"type": "input_file", "file_url": "https://x.example"}]}]),
    responses(input=[{"role": "user", "content": [{"type": "input_file", "file_data": "AA=="}]}]),
    chat(n=100),
    gemini(generationConfig={"maxOutputTokens": 6000, "candidateCount": 8}),
    gemini(generationConfig=None, generation_config={"max_output_tokens": 6000, "candidate_count": 8}),
    gemini(tools=[{"codeExecution": {}}]),
    gemini(tools=[{"fileSearch": {"fileSearchStoreNames": ["s"]}}]),
    gemini({"inlineData": {"mimeType": "image/png", "data": "AA=="}}),
]


@pytest.mark.parametrize(("path", "body"), LARGE, ids=lambda x: x if isinstance(x, str) else json.dumps(x)[-60:])
def test_what_does_not_fit_is_refused_with_its_worst_case(edge, path, body):
    reply = edge.post(json.dumps(body).encode(), path=path)
    assert (reply.status, reply.reason) == (402, "budget_exceeded")
    assert "worst case" in reply.message


@pytest.mark.parametrize(("path", "body"), SMALL, ids=lambda x: x if isinstance(x, str) else json.dumps(x)[-60:])
def test_small_calls_of_text_pass(edge, path, body):
    """They reach the simulated provider, which knows the Messages API alone and says so."""
    reply = edge.post(json.dumps(body).encode(), path=path)
    assert reply.reason is None
    assert reply.status == 200 or "is not simulated" in reply.message


def test_what_has_no_worst_case_says_why(edge):
    path, body = chat(messages=user({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}))
    reply = edge.post(json.dumps(body).encode(), path=path)
    assert (reply.status, reply.reason) == (402, "budget_exceeded")
    assert "sound is billed at other rates" in reply.message


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (RESPONSES, {"model": GPT, "input": "hi", "background": True}, "fetched later"),
        ("/openai/v1/threads/t/runs", {"model": GPT}, "threads"),
        ("/openai/v1/threads/runs", {"model": GPT}, "threads"),
        ("/openai/v1/realtime/sessions", {"model": GPT}, "no policy can allow it"),
        ("/openai/v1/realtime/client_secrets", {"session": {"model": GPT}}, "no policy can allow it"),
        ("/openai/v1/batches", {"input_file_id": "f"}, "batches"),
        ("/anthropic/v1/messages/batches", {"requests": []}, "batches"),
        ("/genai/v1beta/models/g:batchGenerateContent", {}, "is not supported"),
    ],
)
def test_what_cannot_be_metered_is_refused(edge, path, body, words):
    reply = edge.post(json.dumps(body).encode(), key="vk-free", path=path)
    assert (reply.status, reply.reason) == (400, "unsupported")
    assert words in reply.message


@pytest.mark.parametrize(
    "fields",
    [
        {"fallbacks": [{"model": OPUS}]},
        {"fallbacks": "default"},
        {"models": [OPUS]},
        {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": OPUS}]},
    ],
)
def test_every_model_that_a_body_names_is_judged(edge, fields):
    path, body = messages(**fields)
    reply = edge.post(json.dumps(body).encode(), key="vk-haiku", path=path)
    assert reply.reason == "model_blocked"
    assert edge.post(json.dumps(messages()[1]).encode(), key="vk-haiku", path=path).status == 200
