"""Kept answers in their other form: the stream of a whole one and the whole of a stream say the same, or there is none."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.caching.answer_cache import AnswerCache
from sluicegate.caching.cache_key import CacheKey
from sluicegate.caching.capture import WholeAnswer
from sluicegate.caching.forms import conversion
from sluicegate.caching.forms.asked import FORM_TAGS, Asked, Shape, asked_of
from sluicegate.caching.forms.conversion import converted, fits, shape_of, usage_in
from sluicegate.caching.forms.lossless import LossyError, parse
from sluicegate.caching.keyed_hash import KeyedHash
from sluicegate.caching.meaning import Meaning
from sluicegate.caching.rules import ExactRules
from sluicegate.policy.cache_schema import ExactCache
from sluicegate.translation.conversation import DIALECTS, Dialect
from sluicegate.values import Principal, RequestFacts, Usage
from support.answer_cases import written_answers
from support.hypothesis_profiles import examples
from support.streams import recorded_answers
from support.wire_forms import check_stream

SHAPES: tuple[Shape, ...] = ("whole", "events", "list")


def other(body: bytes, dialect: Dialect, shape: Shape, *, has_usage: bool = True) -> bytes | None:
    return converted(body, Asked(dialect, shape, has_usage))


def said(body: bytes, dialect: Dialect) -> Any:
    return conversion._content_of(dialect, body)


def same(body: bytes, dialect: Dialect, *, is_proper: bool = True) -> int:
    """Check every other form of an answer, and the way back from it; return how many there are.

    Streams of an answer that ``is_proper`` are so too.
    """
    count = 0
    for shape in SHAPES if dialect == "generate_content" else SHAPES[:2]:
        made = other(body, dialect, shape) if shape != shape_of(body) else None
        if made is None:
            continue
        count += 1
        assert shape_of(made) == shape
        if shape != "whole" and is_proper:
            assert check_stream(dialect, made, is_list=shape == "list") in ("complete", "incomplete")
        assert usage_in(dialect, made) == usage_in(dialect, body)
        assert said(made, dialect) == said(body, dialect)
        back = other(made, dialect, shape_of(body))
        # A stream of items that only their provider knows has a whole, and that whole no stream.
        assert back is not None or not is_proper
        if back is None:
            continue
        assert said(back, dialect) == said(body, dialect)
        assert usage_in(dialect, back) == usage_in(dialect, body)
    return count


def test_what_the_gateway_writes_is_the_same_in_both_forms_and_back():
    count = sum(same(form, client) for _, client, stream, whole in written_answers() for form in (stream, whole))
    assert count > 400


def test_recorded_answers_are_the_same_in_both_forms_or_have_only_one():
    names: dict[str, Dialect] = {"anthropic": "messages", "openai": "chat", "gemini": "generate_content"}
    count = 0
    for recorded in recorded_answers():
        dialect = names.get(recorded.provider)
        if dialect is not None and not recorded.error:
            is_responses = recorded.path is not None and recorded.path.endswith("/responses")
            count += same(recorded.body, "responses" if is_responses else dialect, is_proper=False)
    assert count > 100


# -- what an answer may hold, in the form that it has whole --

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
WORDS = TEXTS.map(lambda text: f"x{text}")
OBJECTS = st.dictionaries(
    TEXTS,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS, st.lists, max_leaves=4
    ),
    max_size=3,
)
COUNTS = st.integers(0, 1 << 30)


def messages(draw: Any) -> dict[str, Any]:
    blocks = st.one_of(
        st.builds(lambda text: {"type": "text", "text": text, "citations": None}, WORDS),
        st.builds(lambda text, sig: {"type": "thinking", "thinking": text, "signature": sig}, WORDS, WORDS),
        st.builds(lambda data: {"type": "redacted_thinking", "data": data}, WORDS),
        st.builds(
            lambda n, i: {"type": "tool_use", "id": f"toolu_{n:020d}", "name": "Bash", "input": i}, st.integers(0, 99), OBJECTS
        ),
    )
    usage = {"input_tokens": draw(COUNTS), "output_tokens": draw(COUNTS), "service_tier": "standard", "server_tool_use": None}
    content = draw(st.lists(blocks, min_size=1, max_size=4, unique_by=lambda b: b.get("id", json.dumps(b))))
    fields = {"id": "msg_01abcdefgh", "type": "message", "role": "assistant", "model": "m", "content": content}
    return fields | {"stop_reason": draw(st.sampled_from(["end_turn", "tool_use"])), "stop_sequence": None, "usage": usage}


def chat(draw: Any) -> dict[str, Any]:
    call = st.builds(
        lambda n, i: {"id": f"call_{n:020d}", "type": "function", "function": {"name": "f", "arguments": json.dumps(i)}},
        st.integers(0, 99),
        OBJECTS,
    )
    calls = draw(st.lists(call, max_size=3, unique_by=lambda c: c["id"]))
    message = {"role": "assistant", "content": draw(WORDS), "refusal": None} | ({"tool_calls": calls} if calls else {})
    reason = "tool_calls" if calls else "stop"
    choices = [{"index": n, "message": message, "logprobs": None, "finish_reason": reason} for n in range(draw(st.integers(1, 3)))]
    usage = {"prompt_tokens": draw(COUNTS), "completion_tokens": draw(COUNTS), "total_tokens": 0}
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    fields = {"id": "chatcmpl-abcdefgh", "object": "chat.completion", "created": 1_790_000_000, "model": "m"}
    return fields | {"system_fingerprint": "fp_1", "choices": choices, "usage": usage}


def responses(draw: Any) -> dict[str, Any]:
    part = st.builds(lambda text: {"type": "output_text", "text": text, "annotations": [], "logprobs": []}, WORDS)
    done = {"status": "completed"}
    item = st.one_of(
        st.builds(
            lambda parts: {"type": "message", "role": "assistant", "content": parts} | done, st.lists(part, min_size=1, max_size=2)
        ),
        st.builds(
            lambda text: {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}], "encrypted_content": "g"}, WORDS
        ),
        st.builds(lambda i: {"type": "function_call", "name": "f", "arguments": json.dumps(i)} | done, OBJECTS),
        st.builds(lambda text: {"type": "custom_tool_call", "name": "patch", "input": text} | done, WORDS),
    )
    output = [
        dict(one, id=f"it_{n}", call_id=f"call_{n:020d}") for n, one in enumerate(draw(st.lists(item, min_size=1, max_size=4)))
    ]
    usage = {"input_tokens": draw(COUNTS), "output_tokens": draw(COUNTS), "total_tokens": 0}
    fields = {"id": "resp_abcdefgh", "object": "response", "created_at": 1_790_000_000, "status": "completed", "model": "m"}
    return fields | {"output": output, "usage": usage, "error": None}


def generate_content(draw: Any) -> dict[str, Any]:
    part = st.one_of(
        st.builds(lambda text: {"text": text}, WORDS),
        st.builds(lambda text: {"text": text, "thought": True}, WORDS),
        st.builds(lambda i: {"functionCall": {"name": "f", "args": i}, "thoughtSignature": "s"}, OBJECTS),
    )
    content = {"role": "model", "parts": draw(st.lists(part, min_size=1, max_size=4))}
    usage = {"promptTokenCount": draw(COUNTS), "candidatesTokenCount": draw(COUNTS), "totalTokenCount": 0}
    candidate = {"content": content, "finishReason": "STOP", "index": 0, "safetyRatings": []}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "abcdefgh"}


WHOLES = {"messages": messages, "chat": chat, "responses": responses, "generate_content": generate_content}


@settings(max_examples=examples(30))
@given(st.data(), st.sampled_from(DIALECTS), st.booleans())
def test_any_whole_answer_comes_back_from_its_stream_as_it_was(data, dialect, is_ascii):
    whole = WHOLES[dialect](data.draw)
    body = json.dumps(whole, ensure_ascii=is_ascii).encode()
    for shape in ("events", "list") if dialect == "generate_content" else ("events",):
        stream = other(body, dialect, shape)
        assert stream is not None
        back = other(stream, dialect, "whole")
        assert back is not None
        expected = whole
        if dialect == "generate_content":
            # Its parts come as they were; texts that follow one another are one.
            assert said(back, dialect) == said(body, dialect)
            expected = whole | {"candidates": [dict(whole["candidates"][0], content=json.loads(back)["candidates"][0]["content"])]}
        assert json.loads(back) == expected
        assert usage_in(dialect, stream) == usage_in(dialect, body)


# -- what has no other form --

MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "stop_sequence": None}
SPENT = {"input_tokens": 1, "output_tokens": 2}
TEXT = {"type": "text", "text": "x"}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
COMPLETION = {"id": "chatcmpl-1", "model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 2}}


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (
            "messages",
            json.dumps(MESSAGE | {"usage": SPENT, "content": [{"type": "server_tool_use", "id": "s", "name": "web_search"}]}),
        ),
        ("messages", json.dumps(MESSAGE | {"usage": SPENT, "content": [TEXT]})[:-1] + ', "id": "msg_2"}'),
        ("messages", json.dumps(MESSAGE | {"usage": SPENT, "content": [TEXT]})[:-1] + ', "x": 0.12345678901234567891}'),
        ("messages", json.dumps(MESSAGE | {"usage": SPENT, "content": [TEXT]})[:-1] + ', "x": NaN}'),
        ("messages", '{"type": "error", "error": {"type": "overloaded_error", "message": "x"}}'),
        ("chat", json.dumps(COMPLETION | {"choices": [CHOICE], "x_groq": {"id": "req_1"}})),
        ("chat", json.dumps(COMPLETION | {"choices": [dict(CHOICE, message={"content": "x", "audio": {"id": "a"}})]})),
        ("chat", json.dumps(COMPLETION | {"choices": [CHOICE], "usage": None})),
        ("responses", json.dumps({"id": "resp_1", "status": "completed", "output": [{"type": "web_search_call", "id": "w"}]})),
        ("responses", json.dumps({"id": "resp_1", "status": "incomplete", "output": []})),
        ("generate_content", json.dumps({"promptFeedback": {"blockReason": "SAFETY"}})[:-2]),
    ],
)
def test_what_would_lose_something_has_no_other_form(dialect, body):
    assert other(body.encode(), dialect, "events") is None


@pytest.mark.parametrize(
    "piece",
    [
        'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n',
        'event: new_event\ndata: {"type":"new_event"}\n\n',
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":7,"delta":{"type":"text_delta","text":"x"}}\n\n',
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"new_delta","text":"x"}}\n\n',
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x","more":1}}\n\n',
        "data: {broken\n\n",
    ],
)
def test_a_stream_that_says_what_nobody_knows_is_not_made_whole(piece):
    stream = other(json.dumps(MESSAGE | {"usage": SPENT, "content": [TEXT]}).encode(), "messages", "events")
    assert stream is not None
    assert other(stream, "messages", "whole") is not None
    before, mark, after = stream.partition(b"event: content_block_stop")
    assert other(before + piece.encode() + mark + after, "messages", "whole") is None


def test_long_answers_are_given_as_they_were_kept(monkeypatch):
    body = json.dumps(MESSAGE | {"usage": SPENT, "content": [TEXT]}).encode()
    monkeypatch.setattr(conversion, "MAX_BYTES", len(body))
    assert other(body, "messages", "events") is not None
    assert other(body + b" ", "messages", "events") is None


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":1}', "NaN", "-Infinity", "-0", "1e400", "0.1000000000000000055511151231257827", "[", "[" * 200_000]
)
def test_what_would_be_another_value_once_written_again_is_not_read(text):
    with pytest.raises(LossyError):
        parse(text)


# -- usage in streams of Chat Completions --


def test_only_who_asks_for_it_gets_a_chunk_for_the_usage_and_the_rest_of_a_stream_stays():
    whole = json.dumps(COMPLETION | {"choices": [CHOICE]}).encode()
    with_usage, without = other(whole, "chat", "events"), other(whole, "chat", "events", has_usage=False)
    assert with_usage is not None
    assert without is not None
    assert with_usage.count(b"prompt_tokens") == 1
    assert b"usage" not in without
    assert other(with_usage, "chat", "events", has_usage=False) is not None
    assert not fits(with_usage, Asked("chat", "events", False))
    assert fits(with_usage, Asked("chat", "events"))
    shown = other(with_usage, "chat", "events", has_usage=False)
    assert shown is not None
    assert b"prompt_tokens" not in shown
    assert [line for line in with_usage.split(b"\n\n") if b"prompt_tokens" not in line] == shown.split(b"\n\n")


# -- which calls share an answer --


def asked(dialect: Dialect, path: str, **members: Any) -> tuple[Asked, set[str], str]:
    raw = {name: json.dumps(value).encode() for name, value in members.items()}
    is_stream = bool(members.get("stream")) or ":stream" in path
    facts = RequestFacts("m", stream=is_stream, members={"model": b'"m"', **raw})
    found, shared = asked_of(facts, path)
    assert found.dialect == dialect
    return found, set(facts.members or ()) - {"model"}, shared


@pytest.mark.parametrize(
    ("path", "members", "form", "left", "shared"),
    [
        ("/v1/messages?beta=true", {}, ("messages", "whole", True), set(), "/v1/messages?beta=true"),
        ("/v1/messages?beta=true", {"stream": False}, ("messages", "whole", True), set(), "/v1/messages?beta=true"),
        ("/v1/messages", {"stream": True}, ("messages", "events", True), set(), "/v1/messages"),
        ("/v1/messages", {"stream": None}, ("messages", "whole", True), {"stream"}, "/v1/messages"),
        ("/p/m:streamRawPredict", {"stream": True}, ("messages", "events", True), set(), "/p/m:rawPredict"),
        ("/v1/chat/completions", {"stream": True}, ("chat", "events", False), set(), "/v1/chat/completions"),
        (
            "/v1/chat/completions",
            {"stream": True, "stream_options": {"include_usage": True}},
            ("chat", "events", True),
            set(),
            "/v1/chat/completions",
        ),
        (
            "/v1/chat/completions",
            {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
            ("chat", "events", True),
            {"stream_options"},
            "/v1/chat/completions",
        ),
        (
            "/v1/responses",
            {"stream": True, "stream_options": {}},
            ("responses", "events", True),
            {"stream_options"},
            "/v1/responses",
        ),
        ("/v1beta/m:generateContent?key=k", {}, ("generate_content", "whole", True), set(), "/v1beta/m:generateContent?key=k"),
        ("/v1beta/m:streamGenerateContent?alt=sse", {}, ("generate_content", "events", True), set(), "/v1beta/m:generateContent"),
        ("/v1beta/m:streamGenerateContent", {}, ("generate_content", "list", True), set(), "/v1beta/m:generateContent"),
        (
            "/v1beta/m:streamGenerateContent?alt=json&a=b",
            {},
            ("generate_content", "list", True),
            set(),
            "/v1beta/m:generateContent?a=b",
        ),
        (
            "/v1beta/m:streamGenerateContent?alt=proto",
            {},
            ("generate_content", "list", True),
            set(),
            "/v1beta/m:generateContent?alt=proto",
        ),
    ],
)
def test_a_call_is_the_same_whatever_form_it_asks_for(path, members, form, left, shared):
    assert asked(form[0], path, **members) == (Asked(*form), left, shared)
    assert Asked(*form).tag in FORM_TAGS


def test_other_apis_have_one_form():
    facts = RequestFacts("m", stream=True, members={"stream": b"true"})
    assert asked_of(facts, "/v1/completions") == (Asked(None), "/v1/completions")
    assert facts.members == {"stream": b"true"}


# -- in the cache --


def test_an_answer_in_another_form_is_made_once_and_goes_with_the_kept_one(tmp_path, monkeypatch):
    made: list[bytes] = []
    monkeypatch.setattr("sluicegate.caching.answer_cache.converted", lambda *a: made.append(converted(*a) or b"") or made[-1])
    body = json.dumps(MESSAGE | {"id": "msg_0123456789", "usage": SPENT, "content": [TEXT]}).encode()
    who, rules = Principal("vk-1", "alice", None, None, None), ExactRules.of(ExactCache(enabled=True))
    stream, key = Asked("messages", "events"), CacheKey(KeyedHash(bytes(32)), Meaning(("a call",), (), (), {}, 0))

    async def work() -> None:
        cache = AnswerCache(tmp_path)
        await cache.open()
        for at in (1000, 2000):
            told = ("anthropic", "m", "application/json", body.replace(b'"x"', b'"%d"' % at))
            begun = cache.pending.begin(key)
            assert begun is not None
            cache.keep(WholeAnswer(at, 10_000, who, "user", told, Usage(), None), begun, rules)
            await begun.result
            for _ in range(2):
                found = await cache.find(key.whole, 3000, 10_000, stream)
                assert found is not None
                assert (shape_of(found.body), found.content_type) == ("events", "text/event-stream; charset=utf-8")
                assert b'"text":"%d"' % at in found.body
                assert b"msg_0123456789" not in found.given_again(3000)
            assert len(made) == at // 1000
        assert cache.clear() == 1
        assert await cache.find(key.whole, 3000, 10_000, stream) is None
        assert not cache._hot
        assert cache._hot_bytes == 0
        cache.close()

    asyncio.run(work())
