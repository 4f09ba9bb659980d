"""Prompts read into fingerprints: what is a block, where breakpoints stand, and that nothing is read otherwise the second time."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.prompt_caching.fingerprint import BREAKPOINT_1H, BREAKPOINT_5M, IGNORED, IMAGE
from sluicegate.prompt_caching.reading import MAX_BLOCKS, read_prompt, without_marks
from support.agent_prompts import Claude, Codex, Gemini

KEY = bytes(32)
MARK = {"type": "ephemeral"}
MARK_1H = {"type": "ephemeral", "ttl": "1h"}


def read(body: Any, path: str = "/v1/messages", **more: Any):
    return read_prompt(orjson.dumps(body), path, KEY, **more)


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


CONVERSE = {
    "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
    "messages": [{"role": "user", "content": [{"text": "Hello"}, {"cachePoint": {"type": "default"}}]}],
    "toolConfig": {"tools": [{"toolSpec": {"name": "Read", "inputSchema": {}}}, {"cachePoint": {"type": "default"}}]},
}
CHAT = {
    "model": "gpt-6-sol",
    "tools": [{"type": "function", "function": {"name": "ls"}}],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "system", "content": "Later."},
    ],
}
SHAPES: dict[str, tuple[Any, str, tuple[int, int, int], list[int]]] = {
    "Claude Code": (Claude(1).body(), "/v1/messages", (12, 4, 2), [14, 15, 17]),
    "Codex": (Codex(1).body(), "/v1/responses", (5, 2, 1), []),
    "Gemini CLI": (Gemini(1).body(), "/v1beta/models/x:generateContent", (6, 1, 3), []),
    "Chat Completions": (CHAT, "/v1/chat/completions", (1, 1, 2), []),
    "Converse": (CONVERSE, "/model/x/converse-stream", (1, 1, 1), [0, 1, 2]),
    "one string of input": ({"input": "Hello", "instructions": "Be brief."}, "/v1/responses", (0, 1, 1), []),
    "strings": ({"system": "Be brief.", "messages": [{"role": "user", "content": "Hello"}]}, "/v1/messages", (0, 1, 1), []),
    "automatic caching": (
        {"cache_control": MARK, "messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]},
        "/v1/messages",
        (0, 0, 2),
        [1],
    ),
}
"""Bodies by shape, with how many blocks are tools, system prompt and messages, and which have breakpoints."""


@pytest.mark.parametrize("name", SHAPES)
def test_each_api_has_its_blocks_and_breakpoints(name):
    body, path, counts, points = SHAPES[name]
    made = read(body, path)
    assert (made.tools, made.system, made.count - made.tools - made.system) == counts
    assert made.breakpoints() == points
    assert len(made.digests) == 8 * made.count
    assert len(made.block_sizes()) == made.count


UNREADABLE = {
    "no JSON": b"{",
    "no prompt": b'{"model":"x"}',
    "a kept conversation": b'{"input":"x","previous_response_id":"resp_1"}',
    "tools that are none": b'{"messages":[],"tools":[1]}',
    "messages that are none": b'{"messages":[1]}',
    "too many blocks": orjson.dumps({"messages": [{"role": "user", "content": "x"}] * (MAX_BLOCKS + 1)}),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_followed_is_left_alone(name):
    assert read_prompt(UNREADABLE[name], "/v1/messages", KEY) is None


def test_a_body_that_names_no_list_has_no_blocks():
    assert read_prompt(b'{"messages":{"a":1}}', "/v1/messages", KEY).count == 0


def user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


SAME = {
    "a string and a block of text": (user("Hello"), user([text("Hello")])),
    "a breakpoint more": (user([text("Hello")]), user([text("Hello", cache_control=MARK)])),
    "a longer breakpoint": (user([text("Hello", cache_control=MARK)]), user([text("Hello", cache_control=MARK_1H)])),
    "no breakpoint": (user([text("Hello")]), user([text("Hello", cache_control=None)])),
    "a breakpoint in a result": (
        user([{"type": "tool_result", "tool_use_id": "t", "content": [text("x")]}]),
        user([{"type": "tool_result", "tool_use_id": "t", "content": [text("x", cache_control=MARK)], "cache_control": MARK}]),
    ),
    "another billing line": (
        user("Hi") | {"system": [text("x-anthropic-billing-header: cch=1;"), text("Be brief.")]},
        user("Hi") | {"system": [text("x-anthropic-billing-header: cch=2;"), text("Be brief.")]},
    ),
    "what no cache looks at": (user("Hi") | {"max_tokens": 1, "metadata": {"a": 1}}, user("Hi") | {"stream": True}),
}
OTHER = {
    "another role": (user("Hi"), {"messages": [{"role": "assistant", "content": "Hi"}]}),
    "another word": (user("Hi"), user("hi")),
    "tool_choice": (user("Hi"), user("Hi") | {"tool_choice": {"type": "any"}}),
    "the words of a breakpoint": (user('"cache_control":{"type":"ephemeral"}'), user('"cache_control":{}')),
}


def seen(body: Any) -> tuple[Any, ...]:
    made = read(body)
    return made.digests, made.fields


@pytest.mark.parametrize("name", SAME)
def test_what_a_provider_takes_for_the_same_is_the_same(name):
    one, other = SAME[name]
    assert seen(one) == seen(other)


@pytest.mark.parametrize("name", OTHER)
def test_what_is_different_is_different(name):
    one, other = OTHER[name]
    assert seen(one) != seen(other)


def test_flags_say_what_is_known_of_a_block():
    picture = {"type": "image", "source": {"type": "url", "url": "http://x"}}
    body = user([picture, text("a", cache_control=MARK_1H), {"type": "tool_result", "tool_use_id": "t", "content": [picture]}])
    body["system"] = [text("x-anthropic-billing-header: cch=1;"), text("s", cache_control=MARK)]
    assert list(read(body).flags) == [IGNORED, BREAKPOINT_5M, IMAGE, BREAKPOINT_1H, IMAGE]


def test_the_hashes_depend_on_the_key_and_a_header_on_its_parts():
    body = orjson.dumps(user("Hi"))
    one, other = (read_prompt(body, "/v1/messages", key, "b, a") for key in (KEY, b"k" * 32))
    assert one.digests != other.digests
    assert one.fields == read_prompt(body, "/v1/messages", KEY, "a,b,").fields != read_prompt(body, "/v1/messages", KEY, "a").fields


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text())), st.integers(0, 5), st.sampled_from([None, MARK, MARK_1H]))
def test_taking_out_a_breakpoint_leaves_the_block_as_it_is_without(block, place, mark):
    block.pop("cache_control", None)
    names = list(block)
    with_mark = {n: block[n] for n in names[:place]} | {"cache_control": mark} | {n: block[n] for n in names[place:]}
    for separators in ((",", ":"), (", ", ": ")):
        written, wanted = (json.dumps(b, separators=separators).encode() for b in (with_mark, block))
        left, flag = without_marks(written)
        assert json.loads(left) == block
        if separators == (",", ":"):
            assert left == wanted
        assert flag == (0 if mark is None else BREAKPOINT_1H if mark is MARK_1H else BREAKPOINT_5M)


def without_anchor(made: Any) -> Any:
    return msgspec.structs.replace(made, anchor=None)


@pytest.mark.parametrize("client", [Claude, Codex, Gemini], ids=lambda c: c.__name__)
def test_what_is_taken_over_from_earlier_prompts_is_what_would_have_been_read(client):
    """A conversation grows, is changed anywhere, and goes back: with the last prompts at hand the reading is the same."""
    path = {Claude: "/v1/messages", Codex: "/v1/responses", Gemini: "/v1beta/models/x:generateContent"}[client]
    rng, agent = random.Random(5), client(5)
    known: list[Any] = []
    taken = 0
    for step in range(40):
        body = copy.deepcopy(agent.body())
        messages = body.get("messages") or body.get("input") or body["contents"]
        if step % 5 == 4:
            messages[rng.randrange(len(messages))] = copy.deepcopy(messages[0])
        if step % 7 == 6:
            body["tools"].reverse()
            body.pop("instructions", None)
        if step % 11 == 10:
            del messages[len(messages) // 2 :]
        raw = orjson.dumps(body)
        made = read_prompt(raw, path, KEY, earlier=known[-4:])
        assert without_anchor(made) == without_anchor(read_prompt(raw, path, KEY))
        taken += any(k.anchor is not None and made.shared_prefix(k) >= k.anchor.block for k in known[-4:])
        known.append(made)
        agent.turn(size=rng.choice((50, 3000)))
    assert taken > 20


def test_a_fingerprint_is_small_and_comes_back_as_it_was():
    agent = Claude(6)
    while len(body := orjson.dumps(agent.body())) < 150_000:
        agent.turn()
    made = read_prompt(body, "/v1/messages", KEY)
    packed = msgspec.msgpack.encode(made)
    assert msgspec.msgpack.decode(packed, type=type(made)) == made
    assert len(packed) < 20 * made.count + 400 < 4_000
