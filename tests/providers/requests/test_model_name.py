"""The grammar of a model's name, alone and wherever a call names a model."""

import json

import pytest

from sluicegate.providers.anthropic.request import read_request as read_messages
from sluicegate.providers.gemini.request import read_request as read_gemini
from sluicegate.providers.openai.request import read_request as read_openai
from sluicegate.providers.requests.body import models_anywhere
from sluicegate.providers.requests.model_name import MAX_MODEL_NAME_CHARS, is_model_name

USUAL = [
    "claude-opus-5-20261001",
    "claude-sonnet-5[1m]",
    "gpt-4o",
    "o3",
    "gpt-5.1-codex-max",
    "gemini-3.0-flash-001",
    "models/gemini-3-pro",
    "publishers/google/models/gemini-3-pro@001",
    "claude-opus-4-1@20250805",
    "anthropic/claude-opus-5",
    "~anthropic/claude-opus-latest",
    "@cf/meta/llama-3.1-8b-instruct",
    "@preset/reviews",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct-Turbo",
    "deepseek/deepseek-r1:free",
    "qwen3:8b",
    "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M",
    "accounts/fireworks/models/deepseek-v3p1",
    "ft:gpt-4o-mini-2024-07-18:acme::A1b2C3",
    "anthropic.claude-3-5-sonnet-20241022-v2:0",
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-1-20250805-v1:0",
    "team_deployment+eu",
    "m",
    "a" * MAX_MODEL_NAME_CHARS,
]

ODD = [
    "",
    "claude-../admin",
    "claude-x/../gpt-5",
    "claude-x/..",
    "../claude-x",
    "claude-x/./y",
    "claude..x",
    "/claude-x",
    "claude-x/",
    "claude-x//y",
    "claude x",
    " claude-x",
    "claude-x ",
    "claude-x\t",
    "claude-x\n",
    "claude-x\r\nx-api-key: 1",
    "claude-x\0",
    "claude-x\x7f",
    "claude-x\u2028",
    "claude-x\u200b",
    "claude-x\u202e",
    "claude-\u00e9",
    "\uff43laude-x",
    "claude-x\\..\\y",
    "claude-x%2f..%2fy",
    "claude-x%252fy",
    "claude-%00",
    "claude-x?key=1",
    "claude-x#y",
    "claude-x;y",
    "claude-x&model=gpt-5",
    "claude-x,gpt-5",
    "claude-*",
    "claude-x[1m]/y",
    "claude-x[",
    'claude-"x"',
    "claude-<x>",
    "claude-$HOME",
    "claude-{x}",
    "a" * (MAX_MODEL_NAME_CHARS + 1),
    "claude-" + "x" * 5000,
]


@pytest.mark.parametrize("name", USUAL)
def test_names_as_vendors_write_them_are_names(name):
    assert is_model_name(name)
    assert not isinstance(read_messages(body_of(name)), str)
    assert not isinstance(read_openai(body_of(name), "/v1/chat/completions"), str)


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_what_could_be_read_as_another_name_is_refused_wherever_a_call_names_a_model(name):
    assert not is_model_name(name)
    refusals = [
        read_messages(body_of(name)),
        read_messages(body_of("claude-x", fallbacks=[{"model": name}])),
        read_messages(body_of("claude-x", tools=[{"type": "advisor_20260301", "name": "advisor", "model": name}])),
        read_openai(body_of(name), "/v1/chat/completions"),
        read_openai(body_of(name), "/v1/responses"),
        read_openai(body_of("gpt-5", models=["gpt-5", name]), "/v1/chat/completions"),
        read_openai(body_of("gpt-5", fallbacks=[f"openai/{name}"]), "/v1/chat/completions"),
        read_openai(body_of(f"openai/{name}"), "/v1/chat/completions"),
        read_gemini(body_of(f"models/{name}"), "/v1beta/models/gemini-3-pro:generateContent"),
    ]
    assert all(isinstance(refusal, str) for refusal in refusals), refusals
    assert models_anywhere(body_of(name), "/v1/else") is None


def test_a_refused_name_is_told_what_a_name_has():
    assert "'model' cannot be judged: a model's name has letters" in str(read_messages(body_of("claude-x/../gpt-5")))
    assert "'model' cannot be judged" in str(read_openai(body_of("claude x"), "/v1/chat/completions"))


def test_the_model_in_a_path_of_gemini_follows_the_same_rule():
    path = "/v1beta/models/{}:generateContent"
    assert not isinstance(read_gemini(b'{"contents":[]}', path.format("gemini-3.0-pro")), str)
    for name in ("gemini..pro", "-x", ".x", "g" * (MAX_MODEL_NAME_CHARS + 1)):
        assert isinstance(read_gemini(b'{"contents":[]}', path.format(name)), str), name


def body_of(model: str, **more: object) -> bytes:
    """Return a body that every API takes, naming this model."""
    messages = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}
    return json.dumps({"model": model, **messages, **more}).encode()
