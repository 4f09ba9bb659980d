"""Stop sequences at a target that has none: the text ends before the first, wherever the stream was cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.translation.answers.stop_sequences import StopSequences
from sluicegate.translation.answers.translator import AnswerTranslator
from sluicegate.translation.events import (
    Failed,
    Finished,
    Started,
    TextDelta,
    ThinkingDelta,
    TokenUsage,
    ToolCallEnded,
    ToolCallStarted,
)
from sluicegate.translation.requests.translate import translate
from support.model_apis import ANSWER, responses

LETTERS = st.text("ab<", max_size=12)
SEQUENCES = st.lists(st.text("ab<", min_size=1, max_size=3), min_size=1, max_size=3, unique=True)
END = Finished("stop", None, TokenUsage(output=9))


@given(st.lists(LETTERS, max_size=6), SEQUENCES)
def test_the_text_ends_before_the_first_sequence_however_it_is_cut(pieces, sequences):
    stops = StopSequences(tuple(sequences))
    events = [ready for piece in pieces for ready in stops.take([TextDelta(piece)])]
    *texts, end = [*events, *stops.take([END])]
    whole = "".join(pieces)
    places = [(whole.find(sequence), sequence) for sequence in sequences if sequence in whole]
    assert "".join(text.text for text in texts) == (whole[: min(places)[0]] if places else whole)
    assert end == (Finished("stop_sequence", min(places)[1], END.usage) if places else END)


def test_text_is_held_only_while_it_may_begin_a_sequence():
    stops = StopSequences(("</block>",))
    assert stops.take([Started(), TextDelta("<block>no</blo")]) == [Started(), TextDelta("<block>no")]
    assert stops.take([TextDelta("om>")]) == [TextDelta("</bloom>")]
    assert stops.take([TextDelta("</"), ThinkingDelta("hm")]) == [TextDelta("</"), ThinkingDelta("hm")]
    assert stops.take([None, TextDelta("a</block> b"), TextDelta("c")]) == [None, TextDelta("a")]
    assert stops.take([ToolCallStarted(0, "c", "read"), ToolCallEnded(0), ThinkingDelta("x")]) == []
    assert stops.take([Failed(500, "server", "broken")]) == [Failed(500, "server", "broken")]


def test_without_sequences_nothing_is_touched():
    events = [Started(), TextDelta("a"), None, END]
    assert StopSequences(()).take(events) == events


BODY = {"model": "claude-opus-5-5", "max_tokens": 99, "messages": [{"role": "user", "content": "hi"}], "stop_sequences": [" fake"]}


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_of_responses_ends_at_the_clients_sequence(stream):
    sent = translate(json.dumps(BODY | {"stream": stream}).encode(), "/v1/messages", "messages", "responses", "gpt-6.2")
    assert sent.context.stop == (" fake",)
    assert b"fake" not in sent.body
    answer = AnswerTranslator("messages", "responses", sent.context, answer_id="a", created_s=1)
    data = b"".join(responses("gpt-6.2"))
    if not stream:
        whole = json.loads(answer.whole(data))
        assert whole["content"] == [{"type": "text", "text": ANSWER.partition(" fake")[0]}]
        assert (whole["stop_reason"], whole["stop_sequence"], whole["usage"]["output_tokens"]) == ("stop_sequence", " fake", 8)
        return
    text = b"".join(answer.feed(data[i : i + 7]) for i in range(0, len(data), 7)) + answer.end()
    deltas = [json.loads(line[6:]) for line in text.decode().splitlines() if line.startswith("data: ")]
    said = "".join(event["delta"]["text"] for event in deltas if event.get("delta", {}).get("type") == "text_delta")
    assert said == ANSWER.partition(" fake")[0]
    (end,) = [event["delta"] for event in deltas if event["type"] == "message_delta"]
    assert (end["stop_reason"], end["stop_sequence"]) == ("stop_sequence", " fake")
