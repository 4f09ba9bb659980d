"""Requests: which bodies hold nothing but text, how far a call may go, and which models it names."""

from __future__ import annotations

import json

import pytest

from sluicegate.providers import PROTOCOLS
from sluicegate.providers.anthropic import request as messages
from sluicegate.providers.requests.body import Unmetered, models_anywhere
from sluicegate.values import Extent, RequestFacts
from support.client_bodies import CLAUDE_CODE, CODEX, GEMINI_CLI, QWEN_CODE

PATHS = {
    "messages": ("anthropic", "/v1/messages?beta=true"),
    "chat": ("openai", "/v1/chat/completions"),
    "responses": ("openai", "/v1/responses"),
    "completions": ("openai", "/v1/completions"),
    "embeddings": ("openai", "/v1/embeddings"),
    "gemini": ("gemini", "/v1beta/models/g:streamGenerateContent?alt=sse"),
    "embed": ("gemini", "/v1beta/models/g:embedContent"),
}
SMALL = {
    "messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 100},
    "chat": {"messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 100},
    "responses": {"input": "hi", "max_output_tokens": 100},
    "completions": {"prompt": "hi", "max_tokens": 100},
    "embeddings": {"input": "hi"},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {"maxOutputTokens": 100}},
    "embed": {"content": {"parts": [{"text": "hi"}]}},
}


def read(api, body):
    """Return the facts of a body for one of the APIs; ``body`` is JSON text, or fields beside a small call's."""
    provider, path = PATHS[api]
    if isinstance(body, dict):
        body = json.dumps(({} if provider == "gemini" else {"model": "m"}) | SMALL[api] | body)
    return PROTOCOLS[provider].read_request(body.encode(), path)


def user(*blocks):
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def item(*items):
    return {"input": list(items)}


def said(*parts):
    return item({"type": "message", "role": "user", "content": list(parts)})


def part(**fields):
    return {"contents": [{"role": "user", "parts": [fields]}]}


CLIENTS = [("messages", CLAUDE_CODE), ("responses", CODEX), ("chat", QWEN_CODE), ("gemini", GEMINI_CLI)]


@pytest.mark.parametrize(("api", "body"), CLIENTS, ids=[api for api, _ in CLIENTS])
@pytest.mark.parametrize("style", [{}, {"separators": (",", ":")}, {"indent": 1}])
def test_what_real_clients_send_is_known_to_be_text(api, body, style):
    sent = body if api == "gemini" else {"model": "m"} | body
    facts = read(api, json.dumps(sent, **style))
    assert facts.is_text_only
    assert facts.extent.passes == 1
    assert facts.text_bytes == facts.body_bytes


@pytest.mark.parametrize("api", PATHS)
def test_a_small_call_is_text_and_one_with_an_unknown_field_is_not(api):
    assert read(api, {}).is_text_only
    facts = read(api, {"grounding": "https://x"})
    assert not facts.is_text_only
    # What is unknown may be a server tool that loops.
    assert facts.extent.passes > 5


HIDING = [
    ("messages", user({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}})),
    ("messages", user({"type": "image", "source": {"type": "url", "url": "https://x"}})),
    ("messages", user({"type": "document", "source": {"type": "file", "file_id": "f"}})),
    ("messages", user({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}})),
    ("messages", user({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "t"}, "citations": {"enabled": True}})),
    ("messages", user({"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": {}}]}})),
    ("messages", user({"type": "search_result", "source": "s", "title": "t", "content": [], "citations": {"enabled": True}})),
    ("messages", user({"type": "container_upload", "file_id": "f"})),
    ("messages", user({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {}}]})),
    ("messages", user({"type": "compaction", "content": None, "encrypted_content": "abc="})),
    ("messages", user({"type": "something_new", "text": "t"})),
    ("messages", user({"type": "text", "text": "t", "file_id": "f"})),
    ("messages", user(["text"])),
    ("messages", {"system": [{"type": "image", "source": {}}]}),
    ("messages", {"container": "c"}),
    ("messages", {"mcp_servers": [{"type": "url", "url": "https://x", "name": "n"}]}),
    ("messages", {"thread": {"type": "continue", "previous_message_id": "m"}}),
    ("messages", {"compaction": {"type": "summarize"}}),
    ("messages", {"context_management": {"edits": [{"type": "compact_20260112"}]}}),
    ("messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ("messages", {"tools": [{"type": "browser_toolset_20260801"}]}),
    ("messages", {"tools": [{"name": "f", "input_schema": {}, "url": "https://x"}]}),
    ("chat", user({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}})),
    ("chat", user({"type": "image_url", "image_url": "https://x"})),
    ("chat", user({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}})),
    ("chat", user({"type": "file", "file": {"file_data": "AA=="}})),
    ("chat", user({"type": "video_url", "video_url": {"url": "https://x"}})),
    ("chat", {"messages": [{"role": "assistant", "audio": {"id": "a"}}]}),
    ("chat", {"web_search_options": {}}),
    ("chat", {"enable_search": True}),
    ("chat", {"modalities": ["text", "audio"]}),
    ("chat", {"input": "hi"}),
    ("responses", said({"type": "input_image", "image_url": "data:image/png;base64,AA=="})),
    ("responses", said({"type": "input_image", "file_id": "f"})),
    ("responses", said({"type": "input_file", "file_url": "https://x"})),
    ("responses", said({"type": "input_file", "file_data": "data:application/pdf;base64,AA=="})),
    ("responses", said({"type": "input_text", "text": "t", "file_id": "f"})),
    ("responses", item({"type": "item_reference", "id": "i"})),
    ("responses", item({"id": "msg_1"})),
    ("responses", item({"type": "reasoning", "id": "rs_1", "summary": []})),
    ("responses", item({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None})),
    ("responses", item({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": ""})),
    ("responses", item({"type": "compaction", "encrypted_content": "abc="})),
    ("responses", item({"type": "compaction_trigger"})),
    ("responses", item({"type": "additional_tools", "role": "developer", "tools": [{"type": "web_search"}]})),
    ("responses", {"previous_response_id": "r"}),
    ("responses", {"conversation": "c"}),
    ("responses", {"prompt": {"id": "p"}}),
    ("responses", {"context_management": [{"type": "compaction"}]}),
    ("responses", {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "mcp", "server_label": "s"}]}]}),
    ("responses", {"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]}),
    ("responses", {"tools": [{"type": "tool_search"}]}),
    ("responses", {"messages": [{"role": "user", "content": "hi"}]}),
    ("gemini", part(inlineData={"mimeType": "image/png", "data": "AA=="})),
    ("gemini", part(inline_data={"mime_type": "image/png", "data": "AA=="})),
    ("gemini", part(fileData={"fileUri": "https://x"})),
    ("gemini", part(functionResponse={"name": "f", "response": {}, "parts": [{"inlineData": {}}]})),
    ("gemini", {"cachedContent": "cachedContents/c"}),
    ("gemini", {"cached_content": "cachedContents/c"}),
    ("gemini", {"tools": [{"codeExecution": {}}]}),
    ("gemini", {"tools": [{"file_search": {"file_search_store_names": ["s"]}}]}),
    ("gemini", {"tools": [{"functionDeclarations": []}, {"urlContext": {}}]}),
    ("gemini", {"system_instruction": {"parts": [{"file_data": {"file_uri": "u"}}]}}),
    ("gemini", {"generationConfig": {"responseModalities": ["AUDIO"]}}),
]  # fmt: skip
"""Bodies whose cost is more than their bytes say, by API."""


@pytest.mark.parametrize(("api", "body"), HIDING, ids=lambda x: x if isinstance(x, str) else json.dumps(x)[:60])
def test_whatever_may_add_input_is_not_text(api, body):
    facts = read(api, body)
    assert isinstance(facts, RequestFacts)
    assert not facts.is_text_only
    # However its words are spelt.
    provider, path = PATHS[api]
    text = json.dumps(({} if provider == "gemini" else {"model": "m"}) | SMALL[api] | body)
    spelt = "".join(rf"\u{ord(c):04x}" if c.isalpha() and text[i - 1] == '"' else c for i, c in enumerate(text))
    other = PROTOCOLS[provider].read_request(spelt.encode(), path)
    spelling = {"body_bytes": 0, "text_bytes": 0, "images": 0, "members": None}
    assert other._replace(**spelling) == facts._replace(**spelling)


@pytest.mark.parametrize(
    ("api", "text", "wrong"),
    [
        ("messages", '{"model":"m","max_tokens":9,"thinking":{"type":"enabled","budget_tokens":1,"budget_tokens":9000}}', "twice"),
        ("messages", '{"model":"m","fallbacks":[{"model":"a","model":"b"}]}', "twice"),
        ("messages", '{"model":"m","tools":[{"type":"web_search_20250305","max_uses":1,"max_uses":90}]}', "twice"),
        ("messages", '{"model":"m","fallbacks":[{"model":""}]}', "a model's name has"),
        ("messages", '{"model":"m","max_tokens":%s}' % ("9" * 5000), "too long"),
        ("chat", '{"model":"m","max_tokens":1,"max_completion_tokens":9000}', "limit the same answer differently"),
        ("chat", '{"model":"m","n":129}', "more than 128"),
        ("chat", '{"model":"m","n":-1}', "whole number"),
        ("gemini", '{"generationConfig":{},"generation_config":{"maxOutputTokens":9}}', "one field"),
        ("gemini", '{"generationConfig":{"maxOutputTokens":1,"max_output_tokens":9000}}', "one field"),
        ("gemini", '{"generationConfig":{"candidateCount":1,"candidate_count":8}}', "one field"),
        ("gemini", '{"generationConfig":{"thinkingConfig":{},"thinking_config":{"thinkingBudget":9}}}', "one field"),
        ("gemini", '{"generationConfig":{"maxOutputTokens":1,"maxOutputTokens":9000}}', "twice"),
        ("gemini", '{"contents":[],"contents":[]}', "twice"),
        ("gemini", '{"cachedContent":"a","cached_content":"b"}', "one field"),
        ("messages", '{"model":"m","MODEL":"dear"}', "'MODEL' is read as 'model'"),
        ("messages", '{"mod\\u0045l":"dear","model":"m"}', "'modEl' is read as 'model'"),
        ("messages", '{"model":"m","max_tokens":1,"Max_To\u212aens":9000}', "is read as 'max_tokens'"),
        ("messages", '{"model":"m","Stream":true}', "'Stream' is read as 'stream'"),
        ("messages", '{"model":"m","Fallbacks":[]}', "'Fallbacks' is read as 'fallbacks'"),
        ("messages", '{"model":"m","tools":[{"type":"web_search_20250305","max_uses":1,"Max_Uses":90}]}', "'Max_Uses' is read as"),
        ("responses", '{"model":"m","Background":true}', "'Background' is read as 'background'"),
        ("chat", '{"model":"m","N":100}', "'N' is read as 'n'"),
        ("gemini", '{"GenerationConfig":{"candidateCount":8},"generationConfig":{}}', "'GenerationConfig' is read as"),
        ("gemini", '{"generationConfig":{"CandidateCount":8}}', "'CandidateCount' is read as 'candidateCount'"),
        ("gemini", "[]", "JSON object"),
        ("gemini", '{"generationConfig":{"candidateCount":1000}}', "more than 128"),
    ],
)  # fmt: skip
def test_a_governed_field_that_could_be_read_in_two_ways_is_refused(api, text, wrong):
    found = read(api, text)
    assert wrong in found
    assert not isinstance(found, Unmetered)


ADVISOR = {"type": "advisor_20260301", "name": "advisor", "model": "dear"}
LOOP = 11


@pytest.mark.parametrize(
    ("api", "body", "extent"),
    [
        ("messages", {}, Extent(output_tokens=100)),
        ("messages", {"max_tokens": None}, Extent()),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 9000}}, Extent(output_tokens=9000)),
        ("messages", {"tools": [{"type": "bash_20250124", "name": "bash"}]}, Extent(output_tokens=100, prompt_tokens=4096)),
        ("messages", {"tools": [{"type": "web_search_20250305", "max_uses": 3}]}, Extent(LOOP, 100, web_searches=3)),
        ("messages", {"tools": [{"type": "web_search_20260318"}]}, Extent(LOOP, 100, web_searches=110)),
        ("messages", {"tools": [{"type": "web_fetch_20260318"}]}, Extent(LOOP, 100)),
        ("messages", {"tools": [{"type": "code_execution_20260521"}]}, Extent(LOOP, 100, code_sessions=110)),
        ("messages", {"tools": [ADVISOR | {"max_uses": 2, "max_tokens": 500}]}, Extent(LOOP + 2, 500)),
        ("messages", {"tools": [ADVISOR]}, Extent(2 * LOOP)),
        ("messages", {"context_management": {"edits": [{"type": "compact_20260112"}]}}, Extent(2)),
        ("messages", {"context_management": {"edits": [{"type": "compact_20260112"}]}, "tools": [{"type": "web_fetch_20260318"}]}, Extent(2 * LOOP)),
        ("messages", {"fallbacks": [{"model": "a"}, {"model": "b", "max_tokens": 700}]}, Extent(3, 700)),
        ("messages", {"fallbacks": [{"model": "a", "thinking": {"type": "enabled", "budget_tokens": 900}}]}, Extent(2, 900)),
        ("messages", {"fallbacks": "default"}, Extent(4, 100)),
        ("messages", {"fallbacks": [{"model": "a"}], "tools": [{"type": "web_search_20250305", "max_uses": 3}]}, Extent(2 * LOOP, 100, web_searches=6)),
        ("chat", {}, Extent(output_tokens=100)),
        ("chat", {"n": 4}, Extent(output_tokens=100, candidates=4)),
        ("chat", {"max_completion_tokens": None, "max_output_tokens": 5}, None),
        ("chat", {"enable_thinking": True, "thinking_budget": 50}, Extent(output_tokens=150)),
        ("chat", {"enable_thinking": True}, Extent()),
        ("chat", {"prediction": {"type": "content", "content": "t"}}, Extent(candidates=2)),
        ("chat", {"max_completion_tokens": 0}, Extent()),
        ("completions", {"n": 2, "best_of": 5}, Extent(output_tokens=100, candidates=5)),
        ("completions", {"prompt": ["a", "b", "c"]}, Extent(128, 100, prompts=3, web_searches=1280, file_searches=1280, code_sessions=1280)),
        ("embeddings", {"input": ["a", "b", "c"]}, Extent(output_tokens=0, prompts=3)),
        ("responses", {}, Extent(output_tokens=100)),
        ("responses", {"max_output_tokens": None, "max_tokens": 5}, None),
        ("responses", {"tools": [{"type": "web_search"}], "max_tool_calls": 2}, Extent(3, 100, web_searches=2)),
        ("responses", {"tools": [{"type": "file_search", "vector_store_ids": ["v"]}], "max_tool_calls": 2}, Extent(3, 100, file_searches=2)),
        ("responses", {"tools": [{"type": "code_interpreter", "container": "c"}], "max_tool_calls": 2}, Extent(3, 100, code_sessions=2)),
        ("responses", {"tools": [{"type": "mcp", "server_label": "s"}]}, Extent(128, 100)),
        ("responses", item({"type": "additional_tools", "role": "developer", "tools": [{"type": "web_search"}]}) | {"max_tool_calls": 1}, None),
        ("responses", {"context_management": [{"type": "compaction"}]}, Extent(2)),
        ("responses", {"previous_response_id": "r"}, Extent(1, 100)),
        ("gemini", {}, Extent(output_tokens=100)),
        ("gemini", {"generation_config": {"candidate_count": 3, "max_output_tokens": 7}, "generationConfig": None}, None),
        ("gemini", {"generationConfig": {"maxOutputTokens": 100, "thinkingConfig": {"thinkingBudget": 900}}}, Extent(1, 900)),
        ("gemini", {"generationConfig": {"maxOutputTokens": 100, "thinkingConfig": {"thinkingBudget": -1}}}, Extent(1, 100)),
        ("gemini", {"generationConfig": {"candidateCount": 8}}, Extent(candidates=8)),
        ("gemini", {"tools": [{"codeExecution": {}}]}, Extent(LOOP, 100)),
        ("gemini", {"tools": [{"google_search": {}}]}, Extent(LOOP, 100, web_searches=110)),
        ("gemini", {"cachedContent": "c"}, Extent(LOOP, 100, web_searches=110, file_searches=110, code_sessions=110)),
        ("gemini", {"generationConfig": {"maxOutputTokens": 0}}, Extent()),
        ("embed", {}, Extent(output_tokens=0)),
    ],
)  # fmt: skip
def test_how_far_a_call_may_go(api, body, extent):
    facts = read(api, body)
    if extent is None:
        # Refused, or unknown fields beside the limit: at least as far as any tool.
        assert isinstance(facts, str) or facts.extent.passes > 1 or facts.extent.output_tokens is None
    else:
        assert facts.extent == extent._replace(may_be_fast=False)


@pytest.mark.parametrize(
    ("api", "body", "models"),
    [
        ("messages", {"tools": [ADVISOR]}, ["dear"]),
        ("messages", {"fallbacks": [{"model": "a"}, {"model": "b"}, {"model": "a"}]}, ["a", "b"]),
        ("messages", {"fallbacks": ["a"]}, ["a"]),
        ("messages", {"fallbacks": "default"}, ["claude-default"]),
        ("messages", {"models": ["a", "b"]}, ["a", "b"]),
        ("messages", user({"type": "tool_addition", "tool": {"type": "tool_definition", "definition": ADVISOR}}), ["dear"]),
        ("messages", {"tools": [{"name": "Agent", "input_schema": {"properties": {"model": "dear"}}}]}, []),
        ("messages", user({"type": "tool_use", "id": "t", "name": "Agent", "input": {"model": "dear"}}), []),
        ("chat", {"models": ["a"], "route": "fallback"}, ["a"]),
        ("chat", {"moderation": {"model": "a"}}, ["a"]),
        ("responses", {"tools": [{"type": "image_generation", "model": "dear"}]}, ["dear"]),
        ("responses", {"tools": [{"type": "image_generation", "svg": {"model": "dear"}}]}, ["dear"]),
        ("responses", item({"type": "additional_tools", "tools": [{"type": "image_generation", "model": "dear"}]}), ["dear"]),
        ("messages", {"extra_body": {"routing": [{"model": "dear"}]}}, ["dear"]),
        ("messages", {"fallback_model": "dear"}, ["dear"]),
        ("messages", {"odd": {"Model_ID": "dear"}}, ["dear"]),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 9, "model": "dear"}}, ["dear"]),
        ("messages", {"context_management": {"edits": [{"type": "compact_20260112", "model": "dear"}]}}, ["dear"]),
        ("messages", {"mcp_servers": [{"url": "u", "sampling": {"model": "dear"}}]}, ["dear"]),
        ("messages", {"tools": [{"name": "t", "input_schema": {"model": "no"}, "model": "dear"}]}, ["dear"]),
        ("messages", {"fallbacks": [{"model": "a", "advisor": {"model": "b"}}]}, ["a", "b"]),
        ("messages", {"metadata": {"model": "no"}}, []),
        ("messages", {"output_config": {"format": {"type": "json_schema", "schema": {"properties": {"model": {"type": "string"}}}}}}, []),
        ("messages", user({"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}}), []),
        ("chat", {"plugins": [{"id": "web", "model": "dear"}]}, ["dear"]),
        ("chat", {"tool_choice": {"type": "x", "model": "dear"}}, ["dear"]),
        ("chat", {"response_format": {"type": "json_schema", "json_schema": {"schema": {"model": "no"}}}}, []),
        ("chat", {"response_format": {"type": "json_object", "judge": {"model": "dear"}}}, ["dear"]),
        ("responses", {"text": {"format": {"schema": {"model": "no"}}, "model": "dear"}}, ["dear"]),
        ("messages", {"tools": ADVISOR}, ["dear"]),
        ("chat", {"tools": {"type": "image_generation", "model": "dear"}}, ["dear"]),
        ("responses", {"tools": [{"type": "function", "name": "f", "parameters": {"model": "no"}, "models": ["dear"]}]}, ["dear"]),
        ("responses", {"reasoning": {"model": "dear"}}, ["dear"]),
        ("gemini", {"generationConfig": {"routingConfig": {"manualMode": {"modelName": "dear"}}}}, ["dear"]),
        ("gemini", {"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"model": "no"}}]}]}, []),
        ("gemini", {"tools": [{"googleSearch": {"model": "dear"}}]}, ["dear"]),
        ("gemini", {"requests": [{"model": "models/dear"}]}, ["dear"]),
        ("messages", {"tools": [ADVISOR | {"model": "m", "MODEL": "dear"}]}, ["m", "dear"]),
        ("messages", {"fallbacks": [{"model": "m", "Model": "dear"}]}, ["m", "dear"]),
        ("messages", {"odd": {"fallbackMODELS": ["dear"]}}, ["dear"]),
        ("gemini", {"tools": [{"googleSearch": {"MODEL_ID": "dear"}}]}, ["dear"]),
        ("gemini", {"model": "models/g"}, []),
        ("gemini", {"model": "models/dear"}, ["dear"]),
    ],
)  # fmt: skip
def test_every_model_that_a_body_names_is_found(api, body, models):
    facts = read(api, body)
    assert not isinstance(facts, str), facts
    assert list(facts.models) == models
    assert facts.named_models == (facts.model, *models)


@pytest.mark.parametrize(
    "field",
    [
        '"odd":{"model":"a","model":"b"}',
        '"odd":{"mod\\u0065l":"a","x":[{"model":"b"}]}',
        '"tools":[{"type":"advisor_1","x":{"model":"a","model":"b"}}]',
    ],
)
def test_both_models_of_a_field_that_stands_twice_are_found(field):
    """Nobody knows which of the two the provider reads."""
    facts = read("messages", '{"model":"m","messages":[],' + field + "}")
    assert set(facts.models) == {"a", "b"}


@pytest.mark.parametrize(
    "odd",
    ['{"model":"\\ud83d"}', '[{"model":"%s"}]' % ("x" * 201), '{"model":"a\\u0000"}', "[" * 100_000 + '"model"' + "]" * 100_000],
)
def test_what_names_a_model_and_cannot_be_judged_is_refused(odd):
    assert isinstance(read("messages", '{"model":"m","messages":[],"odd":' + odd + "}"), str)


@pytest.mark.parametrize(
    ("body", "path", "models"),
    [
        (b"", "/v1/files", ()),
        (b'{"model":"a","deep":[{"models":["b","a"]},{"model_id":"c"}]}', "/v1/images/generations", ("c", "b", "a")),
        (b'{"x":{"model":"a","model":"b"}}', "/v1/x", ("a", "b")),
        (b'{"mod\\u0065l":"a"}', "/v1/x", ("a",)),
        (b"{}", "/v1beta/models/imagen-4:predict", ("imagen-4",)),
        (b"{}", "/v1/models/gpt-5", ("gpt-5",)),
        (b"--x\r\nmodel: a", "/v1/audio/transcriptions", None),
        ('{"model":"a"}'.encode("utf-16"), "/v1/x", None),
        (b'{"a":"%s"}' % (b"x" * 300_000), "/v1/x", None),
        (b"[" * 120_000 + b"]" * 120_000, "/v1/x", None),
    ],
)
def test_models_that_a_request_of_an_unknown_kind_names(body, path, models):
    found = models_anywhere(body, path)
    assert (found and set(found)) == (models and set(models))


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("chat", {"modalities": ["text", "audio"]}),
        ("chat", user({"type": "input_audio", "input_audio": {}})),
        ("chat", {"messages": [7]}),
        ("responses", {"tools": [{"type": "image_generation"}]}),
        ("responses", {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "64g"}}]}),
        ("responses", said({"type": "input_audio"})),
        ("gemini", part(inlineData={"mimeType": "audio/wav", "data": "AA=="})),
        ("gemini", part(inlineData={"mimeType": "video/mp4", "data": "AA=="})),
        ("gemini", part(inlineData={"mimeType": "image/png", "mime_type": "audio/wav"})),
        ("gemini", '{"contents":[{"parts":[{"inlineData":{"mimeType":"audio/wav","mimeType":"image/png"}}]}]}'),
        ("gemini", '{"contents":[{"parts":[{"fileData":{"mimeType" : "Audio/wav"}}],"parts":[{"text":"x"}]}],"tools":[]}'),
        ("gemini", part(fileData={"fileUri": "u"})),
        ("gemini", part(functionResponse={"parts": [{"inline_data": {"mime_type": "audio/wav"}}]})),
        ("gemini", {"contents": 7}),
        ("gemini", {"generationConfig": {"responseModalities": ["IMAGE"]}}),
        ("gemini", {"generationConfig": {"routingConfig": {}}, "contents": []}),
        ("gemini", {"tools": [{"googleMaps": {}}]}),
    ],
)
def test_what_is_billed_at_unknown_rates_has_no_bound(api, body):
    assert read(api, body).extent.unbounded


@pytest.mark.parametrize(
    ("body", "fast"),
    [
        ({}, False),
        ({"speed": "standard"}, False),
        ({"speed": "fast"}, True),
        ({"speed": "warp"}, True),
        ({"fallbacks": [{"model": "a", "speed": "fast"}]}, True),
        ({"fallbacks": [{"model": "a", "speed": None}]}, False),
    ],
)
def test_only_what_asks_for_speed_may_be_fast(body, fast):
    assert read("messages", body).extent.may_be_fast is fast


@pytest.mark.parametrize("model", ["gemini-2.5-flash-image", "gemini-3-pro-image-preview", "gemini-2.5-pro-preview-tts"])
def test_a_model_that_draws_or_speaks_unasked_has_no_bound(model):
    found = PROTOCOLS["gemini"].read_request(json.dumps(SMALL["gemini"]).encode(), f"/v1beta/models/{model}:generateContent")
    assert found.extent.unbounded


@pytest.mark.parametrize("fields", [{"max_output_tokens": 1}, {"max_tokens": 0}, {"max_completion_tokens": 0}])
def test_what_does_not_limit_a_chat_answer_is_not_taken_for_its_limit(fields):
    facts = read("chat", {"max_completion_tokens": None} | fields)
    assert (facts.max_tokens, facts.extent.output_tokens) == (None, None)


@pytest.mark.parametrize("model", ["gpt-4o-search-preview", "gpt-4o-mini-search-preview-2025-03-11", "gpt-5-search-api"])
def test_a_model_that_searches_unasked_is_bounded_with_its_searches(model):
    facts = read("chat", {"model": model})
    assert not facts.is_text_only
    assert facts.extent.web_searches >= 1
    assert facts.extent.passes > 1


@pytest.mark.parametrize(("mode", "does_more"), [("pro", True), ("ultra", True), ("standard", False), (None, False)])
def test_a_mode_of_several_runs_is_bounded_by_all_of_them(mode, does_more):
    extent = read("responses", {"reasoning": {"effort": "low", "mode": mode}}).extent
    assert (extent.passes > 1, extent.output_tokens is None) == (does_more, does_more)


@pytest.mark.parametrize(("model", "tokens"), [("gpt-4o-mini", 300 * 48_169), ("gpt-4.1", 0)])
def test_images_that_are_billed_as_more_than_they_take_of_the_window_are_bounded_apart(model, tokens):
    image = {"type": "image_url", "image_url": {"url": "https://x.example", "detail": "high"}}
    body = {"model": model} | SMALL["chat"] | user(*[image] * 300)
    for text in (json.dumps(body), json.dumps(body).replace("image_url", "image\\u005furl")):
        extent = read("chat", text).extent
        assert extent.passes == 1
        assert (extent.image_tokens >= tokens) if tokens else (extent.image_tokens == 0)
    assert read("chat", {"model": model}).extent.image_tokens == 0


def test_a_tool_that_is_named_again_is_read_again():
    large = {"name": "t", "description": "x" * 10_000, "input_schema": {}, "defer_loading": True}
    found = {"type": "tool_result", "tool_use_id": "u", "content": [{"type": "tool_reference", "tool_name": "t"}] * 50}
    offered = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "t"}}
    facts = read("messages", {"tools": [large]} | user(found, offered))
    assert facts.is_text_only
    assert facts.extent.prompt_tokens >= 51 * 10_000
    escaped = json.dumps({"model": "m"} | SMALL["messages"] | {"tools": [large]} | user(found)).replace(
        "tool_ref", "tool\\u005fref"
    )
    other = PROTOCOLS["anthropic"].read_request(escaped.encode(), "/v1/messages")
    assert other.extent.prompt_tokens >= 50 * 10_000


def test_media_at_the_rate_of_text_has_a_bound():
    assert not read("gemini", part(inlineData={"mimeType": "image/png"})).extent.unbounded
    assert not read("chat", user({"type": "image_url", "image_url": "u"})).extent.unbounded


def test_an_answer_that_is_fetched_later_cannot_be_metered():
    found = read("responses", {"background": True})
    assert isinstance(found, Unmetered)
    assert isinstance(read("responses", {"background": False}), RequestFacts)


@pytest.mark.parametrize(
    ("api", "field"),
    [
        ("messages", '"messages":[{"role":"user","content":[%s]}]'),
        ("responses", '"input":[%s]'),
        ("gemini", '"contents":[{"parts":[%s]}]'),
    ],
)
def test_a_body_of_a_million_unknown_parts_is_refused_and_not_searched(api, field):
    body = '{"model":"m","odd":1,' + field % ",".join(["{}"] * 1_000_001) + "}"
    assert "more than 1000000 parts" in read(api, body)


SETTINGS = {"thinking": {"type": "enabled", "budget_tokens": 64}, "temperature": 1, "stop_sequences": ["end"], "speed": "standard"}


@pytest.mark.parametrize(
    "other",
    [
        {"model": "n"},
        {"stream": True},
        {"max_tokens": 101},
        {"max_tokens": "1"},
        {"speed": "fast"},
        {"service_tier": "batch"},
        {"inference_geo": "us"},
        {"thinking": {"type": "enabled", "budget_tokens": 640}},
        {"advisor": {"model": "b"}},
        {"Model": "b"},
        {"MAX_TOKENS": 1},
        {"fallbacks": [{"model": "b"}]},
        {"messages": [{"role": "user", "content": "longer"}]},
        {"system": "b"},
    ],
    ids=json.dumps,
)
def test_settings_are_read_once_and_stand_for_no_others(other):
    """What is remembered of a body's settings is what reading them gives, and any change of them is seen."""
    messages._usual_settings.cache_clear()
    fresh = read("messages", SETTINGS | other)
    messages._usual_settings.cache_clear()
    usual = [read("messages", SETTINGS) for _ in range(3)]
    assert usual[0] == usual[1] == usual[2] != fresh
    assert (messages._usual_settings.cache_info().hits, messages._usual_settings.cache_info().misses) == (2, 1)
    assert [read("messages", SETTINGS | other) for _ in range(2)] == [fresh, fresh]


def test_long_settings_are_not_remembered():
    messages._usual_settings.cache_clear()
    long = {"stop_sequences": ["x" * messages.MAX_REMEMBERED_BYTES]}
    assert read("messages", long) == read("messages", long)
    assert messages._usual_settings.cache_info().currsize == 0
