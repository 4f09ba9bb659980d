"""Counts that servers report in places, and by names, of their own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sluicegate.calls.answer import Answer, AnswerReader
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.bedrock.answer import BedrockUsage
from sluicegate.values import Usage


def counts(usage: Usage | None) -> tuple[int, ...] | None:
    """Input, output, cache reads, cache writes of five minutes and of an hour."""
    if usage is None:
        return None
    read, writes = usage.cache_read_tokens, (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens)
    return (usage.input_tokens, usage.output_tokens, read, *writes)


def answer(protocol: str, body: bytes) -> Answer:
    reader = AnswerReader(PROTOCOLS[protocol].usage_reader(), "", "")
    reader.feed(body)
    return reader.finish()


def chat(usage: dict[str, Any], model: str = "gpt-6.1-sol", **fields: Any) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    return answer("openai", json.dumps({"model": model, "choices": [choice], "usage": usage, **fields}).encode())


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


P, C, T = "prompt_tokens", "completion_tokens", "total_tokens"
READ, WRITE = "cache_read_input_tokens", "cache_creation_input_tokens"


@pytest.mark.parametrize(
    ("usage", "billed", "estimated"),
    [
        # Of two names for one count the zero is the one that is not filled.
        ({"input_tokens": 0, P: 100, "output_tokens": 0, C: 20}, (100, 20, 0, 0, 0), False),
        ({P: 100, C: 20, "prompt_tokens_details": {"cached_tokens": 0}, "prompt_cache_hit_tokens": 64}, (36, 20, 64, 0, 0), False),
        (
            {P: 100, C: 20, "input_tokens_details": {"cached_tokens": 0}, "prompt_tokens_details": {"cached_tokens": 9}},
            (91, 20, 9, 0, 0),
            False,
        ),
        # Gateways in front of Anthropic.
        ({P: 100, C: 20, T: 120, READ: 60, WRITE: 10}, (30, 20, 60, 10, 0), False),
        ({P: 30, C: 20, T: 120, READ: 60, WRITE: 10}, (30, 20, 60, 10, 0), False),
        # The total shows whether the cached input is in the prompt.
        ({P: 100, C: 20, T: 120, "prompt_tokens_details": {"cached_tokens": 60}}, (40, 20, 60, 0, 0), False),
        ({P: 100, C: 20, T: 180, "prompt_tokens_details": {"cached_tokens": 60}}, (100, 20, 60, 0, 0), False),
        ({P: 40, C: 20, T: 60, "prompt_tokens_details": {"cached_tokens": 60}}, (40, 20, 60, 0, 0), True),
        # And whether the reasoning is in the output, as it can't be where it is more than that.
        ({P: 100, C: 20, T: 120, "completion_tokens_details": {"reasoning_tokens": 15}}, (100, 20, 0, 0, 0), False),
        ({P: 100, C: 20, T: 135, "completion_tokens_details": {"reasoning_tokens": 15}}, (100, 35, 0, 0, 0), False),
        ({P: 100, C: 20, "completion_tokens_details": {"reasoning_tokens": 30}}, (100, 50, 0, 0, 0), False),
        (
            {
                **{P: 100, C: 20, T: 195, "prompt_tokens_details": {"cached_tokens": 60}},
                "completion_tokens_details": {"reasoning_tokens": 15},
            },
            (100, 35, 60, 0, 0),
            False,
        ),
        ({P: 100, C: 20, T: 10**9}, (100, 20, 0, 0, 0), False),
    ],
)
def test_counts_of_chat_are_read_by_what_explains_them(usage, billed, estimated):
    found = chat(usage)
    assert (counts(found.usage), found.is_final) == (billed, True)
    assert found.usage is not None
    assert found.usage.estimated == estimated


def test_what_gemini_thought_may_be_in_the_total_alone():
    usage = {P: 20, C: 198, T: 623}
    assert counts(chat(usage, "gemini-2.5-flash").usage) == (20, 603, 0, 0, 0)
    assert counts(chat(usage, "google/gemini-2.5-flash").usage) == (20, 603, 0, 0, 0)
    assert counts(chat(usage, "gpt-6.1-sol").usage) == (20, 198, 0, 0, 0)


def test_an_embedding_may_be_counted_in_the_total_alone():
    body = {"object": "list", "data": [{"embedding": [0.5]}], "model": "text-embedding-3-small", "usage": {T: 8}}
    found = answer("openai", json.dumps(body).encode())
    assert (counts(found.usage), found.is_final) == ((8, 0, 0, 0, 0), True)


@pytest.mark.parametrize("kind", ["response.completed", "response.done"])
@pytest.mark.parametrize("is_inside", [True, False])
def test_a_response_may_report_beside_its_object(kind, is_inside):
    usage = {"usage": {"input_tokens": 100, "output_tokens": 20}}
    body = sse(
        {"type": "response.created", "response": {"model": "gpt-6.1-sol", "usage": None}},
        {"type": "response.output_text.delta", "delta": "hi"},
        {"type": kind, "response": {"status": "completed"} | (usage if is_inside else {})} | ({} if is_inside else usage),
    )
    found = answer("openai", body)
    assert (counts(found.usage), found.is_final) == ((100, 20, 0, 0, 0), True)


def message(usage: dict[str, Any], text: str = "Hello") -> Answer:
    body = {"type": "message", "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "usage": usage}
    return answer("anthropic", json.dumps(body).encode())


@pytest.mark.parametrize("output", [{}, {"output_tokens": 0}, {"output_tokens": None}])
def test_a_whole_message_without_an_output_count_is_not_final(output):
    found = message({"input_tokens": 10, **output})
    assert (counts(found.usage), found.is_final, found.delivered.characters) == ((10, 0, 0, 0, 0), False, 5)
    assert message({"input_tokens": 10, "output_tokens": 0}, "").is_final


START = {"type": "message_start", "message": {"model": "claude-haiku-4-5", "usage": {"input_tokens": 1, WRITE: 30}}}
START["message"]["usage"]["cache_creation"] = {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}


@pytest.mark.parametrize(
    ("total", "writes", "estimated"),
    [
        (30, (10, 20), False),
        (50, (30, 20), True),  # what has come since has no split
        (25, (25, 0), True),  # the split is of more than was written
        (None, (10, 20), False),
    ],
)
def test_a_later_total_of_cache_writes_keeps_the_split_that_it_has_room_for(total, writes, estimated):
    closing = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7, WRITE: total}}
    usage = answer("anthropic", sse(START, TEXT, closing)).usage
    assert (counts(usage), usage.estimated) == ((1, 7, 0, *writes), estimated)


METRICS = {"inputTokenCount": 100, "outputTokenCount": 9, "cacheReadInputTokenCount": 40}


@pytest.mark.parametrize(
    ("start", "closing", "billed"),
    [
        ({}, {}, (100, 9, 40, 0, 0)),
        ({"output_tokens": 1}, {"output_tokens": 7}, (100, 7, 40, 0, 0)),
        ({"input_tokens": 0}, {"output_tokens": 7}, (100, 7, 40, 0, 0)),
        ({"input_tokens": 90}, {"output_tokens": 7}, (90, 7, 0, 0, 0)),
        ({"input_tokens": 90, READ: 30}, {"output_tokens": 7}, (90, 7, 30, 0, 0)),
    ],
)
def test_bedrocks_metrics_stand_in_for_an_input_that_the_model_did_not_count(start, closing, billed):
    reader = BedrockUsage()
    for event in (
        {"type": "message_start", "message": {"usage": start}},
        TEXT,
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": closing},
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": METRICS},
    ):
        reader.feed_event(event["type"], json.dumps(event).encode())
    assert (counts(reader.usage), reader.is_final) == (billed, True)


@pytest.mark.parametrize(
    ("counted", "billed", "estimated"),
    [
        ({"thoughtsTokenCount": 300, "totalTokenCount": 420}, (100, 320, 0, 0, 0), False),
        ({"totalTokenCount": 420}, (100, 320, 0, 0, 0), True),
        ({"totalTokenCount": 120}, (100, 20, 0, 0, 0), False),
        ({"totalTokenCount": "many"}, (100, 20, 0, 0, 0), False),
        ({"toolUsePromptTokenCount": 30, "totalTokenCount": 150}, (130, 20, 0, 0, 0), False),
        ({"cachedContentTokenCount": 60, "totalTokenCount": 120}, (40, 20, 60, 0, 0), False),
        ({"cachedContentTokenCount": 60, "totalTokenCount": 180}, (100, 20, 60, 0, 0), False),
    ],
)
def test_geminis_total_shows_what_the_other_counts_leave_out(counted, billed, estimated):
    chunk = {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]}
    report = {"promptTokenCount": 100, "candidatesTokenCount": 20, **counted}
    found = answer("gemini", json.dumps(chunk | {"usageMetadata": report}).encode())
    assert (counts(found.usage), found.usage.estimated, found.is_final) == (billed, estimated, True)


@pytest.mark.parametrize(("written", "tier"), [("SERVICE_TIER_FLEX", "flex"), ("PRIORITY", "priority"), ("standard", "standard")])
def test_geminis_tier_is_read_in_either_spelling(written, tier):
    chunk = {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]}
    counted = {"promptTokenCount": 5, "candidatesTokenCount": 2, "serviceTier": written}
    assert answer("gemini", json.dumps(chunk | {"usageMetadata": counted}).encode()).usage.service_tier == tier


@pytest.mark.parametrize(
    ("delta", "characters"),
    [
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hello"}, {"type": "text", "text": "you"}]}]}, 8),
        ({"content": [{"type": "text", "text": "hello"}]}, 5),
        ({"thinking_blocks": [{"type": "thinking", "thinking": "hello", "signature": "AAAA"}]}, 5),
        # The same under a name that is known counts once.
        ({"reasoning_content": "hello", "thinking_blocks": [{"type": "thinking", "thinking": "hello"}]}, 5),
        ({"something_new": {"parts": ["hello", "you"]}}, 8),
        ({"content": None, "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}, 0),
        ({"role": "assistant", "content": "", "annotations": [{"title": "a page"}]}, 0),
    ],
)
def test_what_a_cut_chat_stream_delivered_is_counted_whatever_it_is_called(delta, characters):
    chunk = {"model": "magistral", "choices": [{"index": 0, "delta": delta}]}
    found = answer("openai", b"data: %s\n\n" % json.dumps(chunk).encode() * 3)
    assert (found.delivered.characters, found.is_final) == (3 * characters, False)


def test_a_delta_of_a_response_may_be_an_object():
    events = [{"type": "response.reasoning_summary.delta", "item_id": "i", "delta": {"type": "text", "text": "hello"}}] * 3
    assert answer("openai", sse(*events)).delivered.characters == 15
