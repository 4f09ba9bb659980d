"""The whole of a translated call: request there, answer back, and counts of tokens where nobody counts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from sluicegate.translation import DIALECTS, AnswerTranslator, Untranslatable, count_tokens, translate_request
from sluicegate.translation.answers import chat_writer, gemini_writer, messages_writer
from sluicegate.translation.answers.response_object import INCOMPLETE
from sluicegate.translation.events import FinishReason

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "translation.md"

LONG_NAME = "mcp__a_server_with_a_long_name__" + "a_tool_with_a_long_name_" * 3

MESSAGES_BODY = {
    "model": "claude-x",
    "max_tokens": 100,
    "stream": True,
    "messages": [{"role": "user", "content": "List the files."}],
    "tools": [{"name": LONG_NAME, "description": "Lists.", "input_schema": {"type": "object", "properties": {}}}],
}


def test_a_call_goes_there_and_back():
    sent = translate_request(json.dumps(MESSAGES_BODY).encode(), "/v1/messages", "messages", "chat", "gpt-x")
    assert sent.path == "/v1/chat/completions"
    body = json.loads(sent.body)
    assert body["model"] == "gpt-x"
    name = body["tools"][0]["function"]["name"]
    assert len(name) <= 64
    call = {"index": 0, "id": "call_0123456789", "function": {"name": name, "arguments": "{}"}}
    chunks = [
        {"id": "x", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]},
        {"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    ]
    answer = AnswerTranslator("messages", "chat", sent.context, answer_id="call-1", created_s=1)
    assert answer.content_type.startswith("text/event-stream")
    written = b"".join(answer.feed(f"data: {json.dumps(chunk)}\n\n".encode()) for chunk in chunks) + answer.end()
    assert f'"name":"{LONG_NAME}"'.encode() in written
    assert b'"model":"gpt-x"' in written
    assert written.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')


def test_a_gemini_client_that_asks_for_no_events_gets_a_list():
    body = json.dumps({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}).encode()
    sent = translate_request(body, "/v1beta/models/gemini-x:streamGenerateContent", "generate_content", "chat", "gpt-x")
    answer = AnswerTranslator("generate_content", "chat", sent.context, answer_id="call-1", created_s=1)
    assert answer.content_type == "application/json"
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
    written = answer.feed(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()) + answer.end()
    first, last = json.loads(written)
    assert first["candidates"][0]["content"]["parts"] == [{"text": "Hi"}]
    assert last["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize(
    ("source", "path", "body", "name"),
    [
        ("messages", "/v1/messages/count_tokens", {"model": "m", "messages": MESSAGES_BODY["messages"]}, "input_tokens"),
        ("responses", "/v1/responses/input_tokens", {"model": "m", "input": "List the files."}, "input_tokens"),
        (
            "generate_content",
            "/v1beta/models/m:countTokens",
            {"contents": [{"role": "user", "parts": [{"text": "List the files."}]}]},
            "totalTokens",
        ),
        (
            "generate_content",
            "/v1beta/models/m:countTokens",
            {"generateContentRequest": {"model": "models/m", "contents": [{"parts": [{"text": "List the files."}]}]}},
            "totalTokens",
        ),
    ],
)
def test_tokens_are_estimated_in_the_clients_form(source, path, body, name):
    assert json.loads(count_tokens(json.dumps(body).encode(), path, source))[name] == 4 + len("List the files.") // 4


def test_what_cannot_be_translated_is_counted_by_its_length():
    body = json.dumps({"model": "m", "messages": 7, "text": "x" * 400}).encode()
    assert json.loads(count_tokens(body, "/v1/messages/count_tokens", "messages")) == {"input_tokens": len(body) // 4}


def test_what_is_no_request_is_not_counted():
    with pytest.raises(Untranslatable):
        count_tokens(b"[]", "/v1/messages/count_tokens", "messages")
    with pytest.raises(Untranslatable, match="counts tokens"):
        count_tokens(b'{"model": "m", "messages": []}', "/v1/chat/completions", "chat")


def test_an_image_and_a_tools_result_count():
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 4000}}
    call = {"type": "tool_use", "id": "toolu_1", "name": "Look", "input": {"at": "it"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "y" * 80}, image]}
    messages = [
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    body = json.dumps({"model": "m", "messages": messages}).encode()
    tokens = json.loads(count_tokens(body, "/v1/messages/count_tokens", "messages"))["input_tokens"]
    assert 1600 + 20 < tokens < 1600 + 60


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_answer_that_is_not_json_is_an_error(dialect):
    sent = translate_request(json.dumps(MESSAGES_BODY | {"stream": False}).encode(), "/v1/messages", "messages", "chat", "gpt-x")
    answer = AnswerTranslator(dialect, "chat", sent.context, answer_id="call-1", created_s=1)
    assert b"not JSON" in answer.whole(b"<html>")
    assert getattr(answer.ending, "status", None) == 502


def test_the_document_has_every_reason_to_finish():
    rows = re.findall(r"^\| (\w+) \|(.*)\|$", DOCUMENT.read_text(), re.MULTILINE)
    documented = {reason: [re.findall(r"`(\w+)`", cell) for cell in cells.split("|")] for reason, cells in rows}
    for reason in get_args(FinishReason.__value__):
        messages, chat, responses, gemini = documented[reason]
        cause = INCOMPLETE.get(reason)
        assert messages == [messages_writer.STOP_REASONS[reason]]
        assert chat == [chat_writer.FINISH_REASONS[reason]]
        assert responses == (["incomplete", cause] if cause else ["completed"])
        assert gemini == [gemini_writer.FINISH_REASONS[reason]]
