"""Whether two answers say the same, and what the text of an answer is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sluicegate.caching.semantic.answers import MAX_COMPARED_BYTES, agree, text_of

LONG = "A mutex is a lock that only one thread may hold at a time, so that shared data is changed by one alone."


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Use `pip install x`.", "Use  `pip install x`.\n"),
        (LONG, LONG.replace("A mutex is a lock", "A mutex is simply a lock")),
        ("Run this:\n```sh\nls  \n```", "Run this:\n```sh\nls\n```"),
    ],
)
def test_what_says_the_same_agrees(one, other):
    assert agree(one, other)
    assert agree(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Use `pip install x`.", "Use `pip uninstall x`."),
        (LONG, LONG.replace("only one", "not one")),
        ("Yes. " + LONG, "No. " + LONG),
        (LONG + " It holds 1 thread.", LONG + " It holds 2 threads."),
        (LONG + "\n```\na\n```", LONG + "\n```\nb\n```"),
        (LONG + "\n```\na\n```", LONG),
        (LONG + " It can't wait.", LONG + " It can wait."),
        (LONG, "Something else entirely, about cats and the weather of tomorrow."),
        (LONG, ""),
        (None, None),
        ("", ""),
    ],
)
def test_what_may_say_another_thing_does_not_agree(one, other):
    assert not agree(one, other)
    assert not agree(other, one)


def events(*values: Any) -> bytes:
    return b"".join(b"event: x\r\ndata: %s\r\n\r\n" % json.dumps(value).encode() for value in values) + b"data: [DONE]\n\n"


BLOCK = {"type": "text", "text": "hi"}


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"type": "message", "content": [BLOCK]}).encode(),
        json.dumps({"type": "message", "content": [{"type": "thinking", "thinking": "h"}, BLOCK]}).encode(),
        json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi", "tool_calls": None}}]}).encode(),
        json.dumps(
            {"output": [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}]}
        ).encode(),
        json.dumps({"candidates": [{"content": {"parts": [{"text": "h"}, {"text": "i"}]}}]}).encode(),
        json.dumps([{"candidates": [{"content": {"parts": [{"text": x}]}}]} for x in "hi"]).encode(),
        events(
            {"type": "message_start", "message": {"content": []}},
            {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "h"}},
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "i"}},
            {"type": "message_stop"},
        ),
        events(
            {"choices": [{"delta": {"content": "h"}}]}, {"choices": [{"delta": {"content": "i"}}]}, {"choices": [], "usage": {}}
        ),
        events(
            {"type": "response.output_item.added", "item": {"type": "message"}},
            {"type": "response.output_text.delta", "delta": "hi"},
            {"type": "response.completed", "response": {}},
        ),
        events({"candidates": [{"content": {"parts": [{"text": "hi"}]}}]}),
    ],
)
def test_the_text_of_an_answer_is_found_in_every_form(body):
    assert text_of(body) == "hi"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"content": [',
        b"{}" + b" " * MAX_COMPARED_BYTES,
        json.dumps({"type": "message", "content": [BLOCK, {"type": "tool_use", "name": "Bash"}]}).encode(),
        json.dumps({"choices": [{"message": {"content": "hi", "tool_calls": [{}]}}]}).encode(),
        json.dumps({"choices": [{"index": x, "message": {"content": "hi"}} for x in (0, 1)]}).encode(),
        json.dumps({"output": [{"type": "function_call"}]}).encode(),
        json.dumps({"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]}).encode(),
        json.dumps({"candidates": []}).encode(),
        events({"type": "content_block_start", "content_block": {"type": "tool_use"}}),
        events({"type": "response.output_item.added", "item": {"type": "function_call"}}),
        events({"type": "response.refusal.delta", "delta": "no"}),
    ],
)
def test_what_is_not_one_text_has_none(body):
    assert not text_of(body)
