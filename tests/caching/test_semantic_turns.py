"""Which calls may be answered by an answer to another question, and what must be equal in both."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from sluicegate.caching.semantic.turns import MAX_TEXT_BYTES, MAX_TURN_BYTES, turn_of

QUESTION = "What is a mutex?"


def members(body: dict[str, Any]) -> dict[str, Any]:
    return msgspec.json.decode(json.dumps(body), type=dict[str, msgspec.Raw])


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


TEXT = [{"type": "text", "text": QUESTION, "cache_control": {"type": "ephemeral"}}]


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "max_tokens": 9, "messages": [user(QUESTION)]},
        {"model": "m", "max_tokens": 9, "messages": [user(TEXT)], "system": [{"type": "text", "text": "Be brief."}], "tools": []},
        {"model": "m", "messages": [{"role": "system", "content": "Be brief."}, user(QUESTION)], "temperature": 0, "stream": True},
        {"model": "m", "input": QUESTION, "instructions": "Be brief."},
        {"model": "m", "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": QUESTION}]}]},
        {"contents": [{"parts": [{"text": QUESTION}]}], "generationConfig": {"temperature": 0}},
        {"contents": [{"role": "user", "parts": [{"text": QUESTION}]}]},
    ],
)
def test_one_short_turn_of_text_may_be(body):
    found = turn_of(members(body))
    assert found is not None
    assert found.text == QUESTION
    assert QUESTION.encode() not in found.frame


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": [user(QUESTION)], "input": QUESTION},
        {"messages": [user(QUESTION)], "tools": [{"name": "Bash"}]},
        {"messages": [user(QUESTION)], "mcp_servers": [{}]},
        {"messages": [user(QUESTION)], "web_search_options": {}},
        {"messages": [user(QUESTION)], "container": "c"},
        {"messages": [user(QUESTION)], "something_new": 1},
        {"messages": [user(QUESTION), {"role": "assistant", "content": "It"}]},
        {"messages": [user(QUESTION), {"role": "assistant", "content": "A lock."}, user("And a semaphore?")]},
        {"messages": [user("Hello"), user(QUESTION)]},
        {"messages": [user([{"type": "image", "source": {}}, *TEXT])]},
        {"messages": [user([{"type": "tool_result", "tool_use_id": "t", "content": "x"}])]},
        {"messages": [user([*TEXT, *TEXT])]},
        {"messages": [user([{"type": "text", "text": QUESTION, "citations": []}])]},
        {"messages": [{"role": "user", "content": QUESTION, "name": "alice"}]},
        {"messages": [{"role": "system", "content": QUESTION}]},
        {"messages": [{"role": "tool", "content": "x"}, user(QUESTION)]},
        {"messages": [user("")]},
        {"messages": [user(" \n")]},
        {"messages": [user("x" * (MAX_TEXT_BYTES + 1))]},
        {"messages": [{"role": "system", "content": "x" * MAX_TURN_BYTES}, user(QUESTION)]},
        {"messages": QUESTION},
        {"messages": [QUESTION]},
        {"messages": None},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
        {"input": [{"type": "item_reference", "id": "x"}, user(QUESTION)]},
        {"input": QUESTION, "previous_response_id": "r"},
        {"contents": [{"parts": [{"inlineData": {}}]}]},
        {"contents": [{"parts": [{"text": QUESTION, "thought": True}]}]},
        {"contents": [{"role": "model", "parts": [{"text": QUESTION}]}]},
        {"contents": [{"parts": [{"text": QUESTION}]}], "tools": [{"googleSearch": {}}]},
        {"contents": [{"parts": [{"text": QUESTION}]}], "cachedContent": "c"},
    ],
)
def test_whatever_may_act_or_is_long_or_unknown_may_not(body):
    assert turn_of(members(body)) is None


def test_the_frame_keeps_all_but_the_question():
    def frame(system: str, text: str, kind: Any = None) -> bytes:
        found = turn_of(members({"messages": [{"role": "system", "content": system}, user(kind or text)]}))
        assert found is not None
        return found.frame

    assert frame("Be brief.", "a") == frame("Be brief.", "b")
    assert frame("Be brief.", "a") != frame("Be long.", "a")
    assert frame("Be brief.", "a") != frame("Be brief.", "", [{"type": "text", "text": "a"}])
