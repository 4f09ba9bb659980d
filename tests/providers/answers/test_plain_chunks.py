"""Chunks that are only kept make no difference to what is read: compared with reading each of them field by field."""

from __future__ import annotations

from itertools import product
from typing import Any

import orjson
import pytest

from sluicegate.calls.answer import AnswerReader
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.gemini import answer as gemini_answer
from sluicegate.providers.openai import answer as openai_answer
from support.streams import recorded_answers

CHAT: list[dict[str, Any]] = [
    {},
    {"usage": None, "service_tier": None},
    {"usage": {"prompt_tokens": 9, "completion_tokens": 3}},
    {"usage": {"prompt_tokens": 9, "completion_tokens": -1}},
    {"choices": []},
    {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}},
    {"choices": [{"delta": {}}]},
    {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"delta": {"reasoning": "thought"}}]},
    {"choices": [{"delta": {"reasoning_content": "thought"}}]},
    {"choices": [{"delta": {"tool_calls": [{"index": 3, "function": {"arguments": "{}"}}]}}]},
    {"choices": [{"text": "a legacy word"}]},
    {"choices": [{"index": 0.0, "delta": {"content": "a word"}}]},
    {"choices": [{"index": 1, "delta": {"content": "another"}}]},
    {"choices": [{"index": 0, "delta": {"content": "b"}}, {"index": 1, "delta": {"content": "c"}}]},
    {"choices": [{"index": -1, "delta": {"content": "d"}}]},
    {"choices": [{"delta": {"content": "e"}, "finish_reason": "length"}]},
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"choices": [{"delta": {"content": "e"}, "usage": {"prompt_tokens": 7, "completion_tokens": 2}}]},
    {"model": "gpt-5-search-api"},
    {"model": None},
    {"service_tier": "flex"},
    {"error": {"code": "overloaded"}},
    {"type": "error"},
    {"x_groq": {"usage": {"prompt_tokens": 4, "completion_tokens": 4}}},
]
"""What a chunk may hold instead of a word of the one choice."""

WORD: dict[str, Any] = {"content": {"parts": [{"text": "a word"}]}, "index": 0}
GEMINI: list[dict[str, Any]] = [
    {},
    {"usageMetadata": {"promptTokenCount": 9, "cachedContentTokenCount": 4, "candidatesTokenCount": 1}},
    {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2}},
    {"usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 7}},
    {"usageMetadata": {"toolUsePromptTokenCount": 3}},
    {"usageMetadata": {"promptTokenCount": 9, "cachedContentTokenCount": 0, "candidatesTokenCount": 8}},
    {"usageMetadata": {"promptTokenCount": 0, "cachedContentTokenCount": 0, "candidatesTokenCount": 0}},
    {"usageMetadata": {"promptTokenCount": 8.5}},
    {"usageMetadata": {"promptTokenCount": 9, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}]}},
    {"usageMetadata": {"promptTokenCount": 9, "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 4}]}},
    {"usageMetadata": {"promptTokenCount": 9, "serviceTier": "FLEX"}},
    {"usageMetadata": {"promptTokenCount": 9, "trafficType": "ON_DEMAND_PRIORITY"}},
    {"candidates": []},
    {"candidates": [], "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 12}},
    {"candidates": [WORD | {"content": {"parts": [{"text": ""}]}}], "usageMetadata": {"promptTokenCount": 9}},
    {"candidates": [WORD | {"content": {"parts": [{"functionCall": {"name": "f"}}]}}]},
    {"candidates": [WORD, WORD | {"index": 1}]},
    {"candidates": [WORD | {"index": 1}], "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3}},
    {"candidates": [WORD | {"finishReason": "STOP"}]},
    {"candidates": [WORD | {"finishReason": "MAX_TOKENS"}], "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 6}},
    {"candidates": [WORD | {"groundingMetadata": {"webSearchQueries": ["q"]}}]},
    {"modelVersion": "gemini-2.5-flash"},
    {"modelVersion": None},
    {"promptFeedback": {"blockReason": "SAFETY"}},
    {"error": {"code": 500}},
]

PLAIN: dict[str, dict[str, Any]] = {
    "openai": {"model": "gpt-5", "choices": [{"index": 0, "delta": {"content": "a word"}}]},
    "gemini": {"modelVersion": "gemini-2.5-pro", "candidates": [WORD]},
}


def read(provider: str, chunks: list[bytes], *, is_plain_kept: bool) -> dict[str, Any]:
    """Read a stream and return everything that depends on it, asked for once at its end."""
    with pytest.MonkeyPatch.context() as patch:
        if not is_plain_kept:
            patch.setattr(openai_answer, "plain_chat_chunk", lambda data: None)
            patch.setattr(openai_answer, "_are_plain_deltas", lambda *_: False)
            patch.setattr(gemini_answer, "plain_gemini_chunk", lambda data: None)
        reader = AnswerReader(PROTOCOLS[provider].usage_reader(), "", "text/event-stream")
        for chunk in chunks:
            reader.feed(chunk)
        answer = reader.finish()
    delivered = answer.delivered
    names = ("usage", "is_readable", "is_final", "output_tokens", "is_truncated", "is_unbilled", "has_content", "error")
    read_of = {name: getattr(answer, name) for name in names}
    return read_of | {"delivered": (delivered.characters, delivered.text, delivered.has_hidden), "tools": answer.tool_requests}


def event(provider: str, *changes: dict[str, Any]) -> bytes:
    chunk = dict(PLAIN[provider])
    for change in changes:
        chunk |= change
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


@pytest.mark.parametrize(("provider", "changes"), [("openai", CHAT), ("gemini", GEMINI)])
def test_plain_chunks_add_only_content_and_counts(provider: str, changes: list[dict[str, Any]]) -> None:
    """Whatever two chunks follow the first, and whether the stream goes on after them or not."""
    for first, second in product(changes, repeat=2):
        stream = [event(provider), event(provider, first), event(provider, second)]
        for ending in ([], [event(provider)], [event(provider, changes[1])], [b"data: [DONE]\n\n"]):
            kept, each = (read(provider, stream + ending, is_plain_kept=is_kept) for is_kept in (True, False))
            assert kept == each, stream + ending


@pytest.mark.parametrize("provider", ["openai", "gemini"])
def test_recorded_streams_are_read_alike(provider: str) -> None:
    streams = [r for r in recorded_answers(provider) if r.is_stream]
    assert len(streams) > 20
    for recorded in streams:
        chunks = [event + b"\n\n" for event in recorded.body.replace(b"\r\n", b"\n").split(b"\n\n") if event]
        for ends in {*range(min(len(chunks), 12)), len(chunks) - 1, len(chunks)}:
            kept, each = (read(provider, chunks[:ends], is_plain_kept=is_kept) for is_kept in (True, False))
            assert kept == each, (recorded.id, ends)
            assert read(provider, [b"".join(chunks[:ends])], is_plain_kept=True) == each, (recorded.id, ends)


def named(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind} | fields))


RESPONSE: dict[str, Any] = {"model": "gpt-5", "status": "in_progress"}
USED = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}
CREATED = named("response.created", response=RESPONSE)
COMPLETED = named("response.completed", response=RESPONSE | {"status": "completed", "usage": USED})
DELTA = named("response.output_text.delta", output_index=0, content_index=0, delta="a word")
RESPONSES = [
    DELTA,
    DELTA * 3,
    named("response.function_call_arguments.delta", output_index=1, delta="{}") * 3,
    # Lines that begin like a delta's within another event.
    b"data: x" + DELTA * 4,
    b"id: 1\n" + DELTA * 3,
    DELTA.replace(b'"a word"', b'"a word","usage":{"input_tokens":7,"output_tokens":2}') * 3,
    DELTA.replace(b'"a word"', b'"a word","us\\u0061ge":{"input_tokens":8,"output_tokens":5}') * 3,
    named("response.output_item.done", output_index=2, item={"type": "web_search_call", "status": "completed"}),
    CREATED,
    COMPLETED,
    b": a comment\n\n",
    b"data: [DONE]\n\n",
]


@pytest.mark.parametrize("first", range(len(RESPONSES)))
def test_deltas_in_a_row_among_other_events_say_the_same_as_one_by_one(first: int) -> None:
    for begin, second, third in product((b"", CREATED), RESPONSES, RESPONSES):
        text = begin + RESPONSES[first] + second + third + DELTA * 3
        each = read("openai", [one + b"\n\n" for one in text.split(b"\n\n")[:-1]], is_plain_kept=False)
        assert read("openai", [text], is_plain_kept=True) == each, text


def test_bursts_and_single_events_are_only_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    for module in (openai_answer, gemini_answer):
        monkeypatch.setattr(module, "parse_report", lambda data, name: parsed.append(data) or orjson.loads(data))
    reader = AnswerReader(PROTOCOLS["openai"].usage_reader(), "", "text/event-stream")
    reader.feed(CREATED + DELTA * 100 + named("response.output_text.done", text="a word" * 100) + COMPLETED)
    assert len(parsed) == 3
    for provider in ("openai", "gemini"):
        reader = AnswerReader(PROTOCOLS[provider].usage_reader(), "", "text/event-stream")
        monkeypatch.setattr(reader.reader, "feed_event", (feed := Feeding(reader.reader.feed_event)))
        for _ in range(100):
            reader.feed(event(provider))
        assert feed.count == 1


class Feeding:
    """Counts the events that a reader reads by themselves."""

    def __init__(self, feed_event: Any) -> None:
        self.feed_event, self.count = feed_event, 0

    def __call__(self, name: str, data: bytes) -> None:
        self.count += 1
        self.feed_event(name, data)


def test_a_long_plain_stream_is_only_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the first and the last chunk are plain, and none of their counts is noted until the end."""
    noted: list[Any] = []
    reader = PROTOCOLS["gemini"].usage_reader()
    monkeypatch.setattr(gemini_answer.TokenCounts, "report", lambda self, metadata: noted.append(metadata))
    content = {"content": {"parts": [{"text": "a word"}], "role": "model"}, "index": 0}
    for number in range(1, 101):
        counts = {"promptTokenCount": 5, "candidatesTokenCount": number}
        reader.feed_event("", orjson.dumps({"candidates": [content], "usageMetadata": counts}))
    assert [metadata["candidatesTokenCount"] for metadata in noted] == [1]
    assert reader.usage is None
    assert [metadata["candidatesTokenCount"] for metadata in noted] == [1, 100]
