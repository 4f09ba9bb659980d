"""Events in their usual form say the same as when they are read field by field."""

from __future__ import annotations

import json
import random
from typing import Any

import orjson
import pytest

from sluicegate.providers.anthropic import answer
from sluicegate.providers.anthropic.plain_events import plain_event
from sluicegate.providers.bedrock.answer import BedrockUsage
from sluicegate.values import Usage

IN, OUT, READ, WRITE = "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"
SPLIT = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
COUNTS: list[Any] = [0, 0, 1, 18, 120, 4000, 8831, 9000, 12.0, None]
ODD: list[Any] = [1.5, -1, "12", True, 1 << 41, [], {}]

FULL = {
    IN: 9,
    READ: 4000,
    WRITE: 18,
    "cache_creation": {SPLIT[0]: 18, SPLIT[1]: 0},
    OUT: 1,
    "service_tier": "standard",
    "inference_geo": "not_available",
}
START = {"type": "message_start", "message": {"model": "m", "content": [], "stop_reason": None, "usage": FULL}}
DELTA = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
    "usage": {IN: 9, READ: 4000, WRITE: 18, OUT: 40, "server_tool_use": {"web_search_requests": 0}},
}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "ls", "input": {}}}


@pytest.mark.parametrize("event", [START, DELTA, BLOCK])
def test_the_usual_events_are_plain(event):
    assert plain_event(event["type"], orjson.dumps(event)) is not None


@pytest.mark.parametrize(
    "data",
    [
        orjson.dumps(START).replace(b'"usage"', b'"usage":{},"usage"'),
        orjson.dumps(START).replace(b'"content"', b'"c\\u006fntent"'),
        orjson.dumps(START).replace(b'"content"', b'"\xff"'),
        orjson.dumps(START | {"usage": {OUT: 3}}),
        orjson.dumps(START | {"type": "message_stop"}),
        orjson.dumps(START)[:-1],
    ],
)
def test_what_says_more_or_is_spelled_otherwise_is_not_plain(data):
    assert plain_event("message_start", data) is None


def test_plain_events_say_the_same_as_field_by_field(monkeypatch):
    chance = random.Random(5)
    streams = [stream(chance) for _ in range(1500)]
    plain, whole = [said(events) for events in streams], [said(events[:1], whole_of(events)) for events in streams]
    monkeypatch.setattr(answer, "plain_event", lambda event, data: None)
    monkeypatch.setattr(answer, "plain_usage", lambda usage: None)
    for events, found, found_whole in zip(streams, plain, whole, strict=True):
        assert said(events) == found, events
        assert said(events[:1], whole_of(events)) == found_whole, events
    assert sum(usage is not None for usage, *_ in plain) > 500
    assert sum(usage is not None for usage, *_ in whole) > 500


HALF = "\ud83d"
"""Half a character, which no parser but Python's own takes."""


@pytest.mark.parametrize("usage", [{HALF: 1}, {"iterations": HALF}, {"cache_creation": {HALF: HALF}}, {IN: HALF}, {IN: 1 << 70}])
def test_a_usage_that_no_type_can_hold_is_read_field_by_field(usage):
    body = json.dumps({"type": "message", "model": "m", "stop_reason": "end_turn", "usage": {IN: 25, OUT: 12} | usage}).encode()
    found, *_, tools, _ = said([], body)
    assert tools == (0, 0, 0)
    assert (found is None) == (IN in usage)


def whole_of(events: list[tuple[str, bytes]]) -> bytes:
    """Return the answer that is not streamed with the usage of a stream's end."""
    end = orjson.loads(events[-2][1])
    return orjson.dumps(
        {"type": "message", "model": "m", "content": [{"type": "text", "text": "Hello"}], **end["delta"], "usage": end["usage"]}
    )


def said(events: list[tuple[str, bytes]], body: bytes = b"") -> list[Any]:
    """Return all that a reader says of events or of a whole answer, the first usage it was asked for included."""
    reader = BedrockUsage() if len(events) % 3 == 0 else answer.MessagesUsage()
    first: Usage | None = None
    if body:
        reader.read_json(body)
    for event, data in () if body else events:
        reader.feed_event(event, data)
        first = first or reader.usage
    names = ("usage", "is_final", "output_tokens", "is_invalid", "finished", "is_truncated", "is_unbilled", "finish_reasons")
    return [*(getattr(reader, name) for name in names), first, reader.tool_requests(), reader.delivered.characters]


def stream(chance: random.Random) -> list[tuple[str, bytes]]:
    """Return events of an answer, of which most are in their usual form."""

    def usage() -> dict[str, Any]:
        counts = COUNTS + (ODD if chance.random() < 0.1 else [])
        found: dict[str, Any] = {name: chance.choice(counts) for name in (IN, READ, WRITE, OUT) if chance.random() < 0.8}
        if chance.random() < 0.4:
            found["cache_creation"] = chance.choice([None, {}, {name: chance.choice(counts) for name in SPLIT}])
        if chance.random() < 0.2:
            found["server_tool_use"] = chance.choice([None, {}, {"web_search_requests": chance.choice(counts)}])
        if chance.random() < 0.2:
            found["iterations"] = chance.choice([None, [], [{IN: 5, OUT: 2, "type": "message"}]])
        return found | {name: chance.choice(["fast", "", None]) for name in ("speed", "service_tier") if chance.random() < 0.2}

    def start() -> dict[str, Any]:
        return {"type": "message_start", "message": {"model": chance.choice(["m", None, 5]), "usage": usage()}}

    def delta() -> dict[str, Any]:
        reason = chance.choice(["end_turn", "max_tokens", "refusal", None, 3])
        more = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 7, "outputTokenCount": 70}} if chance.random() < 0.2 else {}
        return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage()} | more

    def text() -> dict[str, Any]:
        return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}

    events = [start(), *chance.choices([BLOCK, text(), delta()], k=chance.randint(0, 4)), delta()]
    stop = {"type": "message_stop"}
    return [(event["type"], orjson.dumps(event)) for event in (*events, stop)]
