"""Fields: each one that an API documents is translated, left out or refused by name, and an unknown one is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sluicegate.translation.conversation import Untranslatable
from sluicegate.translation.requests.effort import BUDGET_TOKENS
from sluicegate.translation.requests.fields import GENERATION_CONFIG, RULES
from sluicegate.translation.requests.translate import translate
from support.client_bodies import CLAUDE_CODE, CODEX, GEMINI_CLI, QWEN_CODE
from support.documented_fields import CHAT, GEMINI, MESSAGES, RESPONSES
from support.translations import MODELS, PATHS, others

SMALL = {
    "messages": {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]},
    "chat": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "responses": {"model": "m", "input": "hi"},
    "generate_content": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
}
DOCUMENTED = {"messages": MESSAGES, "chat": CHAT, "responses": RESPONSES, "generate_content": GEMINI}


PLACES = ("no result", "no call", "an image of the type", "a file", "stop:", "messages:", "tools:")
"""What a refusal names that is not a field."""


def outcome(source, target, body):
    """Return the target's body, or the words of the refusal."""
    try:
        return json.loads(translate(json.dumps(body).encode(), PATHS[source], source, target, MODELS[target]).body)
    except Untranslatable as refused:
        return refused.message


@pytest.mark.parametrize("source", SMALL)
def test_each_documented_field_is_known_and_a_refusal_names_it(source):
    for field in DOCUMENTED[source]:
        results = [outcome(source, target, SMALL[source] | field.body) for target in others(source)]
        for words in (result for result in results if isinstance(result, str)):
            assert "is not a field of" not in words, (field.name, words)
            named = {*field.body, *field.body.get("generationConfig", ()), *field.body.get("generation_config", ()), *PLACES}
            assert any(name.replace("_", "").lower() in words.replace("_", "").lower() for name in named), (field.name, words)


@pytest.mark.parametrize("source", SMALL)
def test_a_field_that_nothing_is_known_of_is_refused_by_name_and_null_says_nothing(source):
    for target in others(source):
        assert "'brandNew'" in outcome(source, target, SMALL[source] | {"brandNew": 1})
        assert outcome(source, target, SMALL[source] | {"brandNew": None}) == outcome(source, target, SMALL[source])


CLIENTS = [
    ("messages", {"model": "claude-opus-5-5"} | CLAUDE_CODE),
    ("responses", CODEX),
    ("chat", {"model": "qwen3-coder-plus"} | QWEN_CODE),
    ("generate_content", GEMINI_CLI),
]


@pytest.mark.parametrize(("source", "body"), CLIENTS, ids=[source for source, _ in CLIENTS])
def test_what_real_clients_send_is_translated_for_every_provider(source, body):
    for target in others(source):
        sent = outcome(source, target, body)
        assert isinstance(sent, dict), sent
        text = json.dumps(sent)
        for private in ("device_id", "sessionId", "thread_id", "billing-header", "diagnostics", "client_metadata"):
            assert private not in text
        tools = sent["tools"][0]["functionDeclarations"] if target == "generate_content" else sent["tools"]
        assert len(tools) == {"messages": 2, "responses": 2, "chat": 1, "generate_content": 1}[source]


DUMPED = {
    "messages": {
        "messages": [
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look.", "citations": None},
                    {"type": "tool_use", "id": "c1", "name": "read", "input": {}, "caller": {"type": "direct"}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "A", "is_error": None}]},
        ],
        "tools": [{"type": "custom", "name": "read", "input_schema": {"type": "object"}, "defer_loading": None}],
    },
    "chat": {
        "messages": [
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": "I look.",
                "refusal": None,
                "annotations": [],
                "audio": None,
                "function_call": None,
                "tool_calls": [{"id": "c1", "index": 0, "type": "function", "function": {"name": "read", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c1", "name": "read", "content": [{"type": "text", "text": "A"}]},
        ],
        "tools": [{"type": "function", "function": {"name": "read", "description": None, "parameters": None, "strict": None}}],
        "stop": None,
        "tool_choice": None,
    },
    "responses": {
        "input": [
            {"role": "user", "content": "hi"},
            {"id": "rs_1", "type": "reasoning", "summary": [], "content": None, "encrypted_content": None, "status": None},
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}],
            },
            {"id": "fc_1", "type": "function_call", "call_id": "c1", "name": "read", "arguments": "{}", "status": "completed"},
            {"type": "function_call_output", "call_id": "c1", "output": "A"},
        ],
        "tools": [{"type": "function", "name": "read", "parameters": {"type": "object"}, "strict": None, "description": None}],
    },
    "generate_content": {
        "contents": [
            {"role": "user", "parts": [{"text": "hi", "thought": None, "functionCall": None}]},
            {"role": "model", "parts": [{"text": "I look."}, {"functionCall": {"id": None, "name": "read", "args": {}}}]},
            {"role": "user", "parts": [{"functionResponse": {"id": None, "name": "read", "response": {"result": "A"}}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "read", "parameters": None}], "googleSearch": None}],
    },
}
"""Answers that programs send back as the official libraries print them, with all that is unset."""


@pytest.mark.parametrize("source", DUMPED)
def test_what_libraries_send_back_with_its_unset_fields_says_the_same(source):
    sent = {target: outcome(source, target, SMALL[source] | DUMPED[source]) for target in others(source)}
    for target, body in sent.items():
        assert isinstance(body, dict), (target, body)
        text = json.dumps(body)
        assert all(text.count(word) == 1 for word in ('"I look."', '"A"', '"hi"')), (target, text)


def test_the_fields_of_claude_code_are_all_known():
    body = {"model": "claude-opus-5-5"} | CLAUDE_CODE | {"safeguards": {"a": 1}}
    assert "'safeguards'" in outcome("messages", "chat", body)
    thinking_free = {name: value for name, value in body.items() if name != "safeguards"}
    assert isinstance(outcome("messages", "chat", thinking_free), dict)


@pytest.mark.parametrize("target", ["chat", "responses", "generate_content"])
def test_a_parse_that_two_readers_could_disagree_on_is_refused(target):
    for body in (
        b'{"model":"a","model":"b"}',
        b'{"max_tokens":NaN}',
        b"[]",
        b"",
        b"\xff",
        b'{"messages":' + b"[" * 100_000,
        b"1" * 5000,
    ):
        with pytest.raises(Untranslatable):
            translate(body, "/v1/messages", "messages", target, "m")


@pytest.mark.parametrize("both", [{"generationConfig": {}, "generation_config": {}}, {"generationConfig": {"topP": 1, "top_p": 0}}])
def test_a_field_of_gemini_in_both_spellings_is_refused(both):
    assert "two spellings" in outcome("generate_content", "chat", SMALL["generate_content"] | both)


TITLES = {"messages": "Messages", "chat": "Chat Completions", "responses": "Responses", "generate_content": "generateContent"}


def test_the_document_lists_the_fields_that_are_left_out_and_refused():
    text = (Path(__file__).resolve().parents[2] / "docs/translation.md").read_text()
    rules = {name: (sorted(r.dropped), sorted(r.refused)) for name, r in RULES.items()}
    for names, more in zip(rules["generate_content"], (GENERATION_CONFIG.dropped, GENERATION_CONFIG.refused), strict=True):
        names += [f"generationConfig.{name}" for name in sorted(more)]
    for column, title in enumerate(("### Left out", "### Refused")):
        section = text.partition(title)[2].partition("\n#")[0]
        for name, lists in rules.items():
            (row,) = re.findall(rf"^\| {TITLES[name]} \| (.*) \|$", section, re.MULTILINE)
            assert re.findall(r"`([^`]+)`", row) == lists[column]


def test_the_document_has_the_table_of_budgets():
    text = (Path(__file__).resolve().parents[2] / "docs/translation.md").read_text()
    rows = re.findall(r"^\| (\w[\w, ]*) \| ([\d,]+) \|$", text, re.MULTILINE)
    assert {effort: int(budget.replace(",", "")) for efforts, budget in rows for effort in efforts.split(", ")} == BUDGET_TOKENS
