"""Usage of an answer at Bedrock, where the service's own count stands in for one of the model that never came."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sluicegate.calls.answer import AnswerReader
from sluicegate.providers.answers.event_stream import CONTENT_TYPE
from sluicegate.providers.bedrock.answer import BedrockUsage
from support.fake_bedrock import chunk, frames
from support.fake_provider import sse

METRICS = {"inputTokenCount": 900, "outputTokenCount": 700, "cacheReadInputTokenCount": 30, "cacheWriteInputTokenCount": 40}


def stop(metrics: Any) -> bytes:
    return chunk(json.dumps({"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics}).encode())


@pytest.mark.parametrize(
    ("events", "metrics", "counts"),
    [
        (5, METRICS, (100, 50, 0, 0, True)),  # the model's own, cache and all
        (4, METRICS, (900, 700, 30, 40, True)),
        (1, METRICS, (900, 700, 30, 40, True)),
        (4, {"inputTokenCount": 900, "outputTokenCount": 700}, (900, 700, 0, 0, True)),
        (4, {"inputTokenCount": 900}, (900, 1, 0, 0, False)),
        (4, {"outputTokenCount": "many"}, None),
        (4, [], (100, 1, 0, 0, False)),
    ],
)
def test_the_services_own_count_stands_in_for_the_models(events, metrics, counts):
    reader = AnswerReader(BedrockUsage(), "", CONTENT_TYPE)
    for frame in (*frames(sse())[:events], stop(metrics)):
        reader.feed(frame)
    answer = reader.finish()
    if counts is None:
        assert not answer.is_final
        return
    usage = answer.usage
    assert usage is not None
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, written, answer.is_final) == counts
