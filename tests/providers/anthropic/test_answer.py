"""Reading Messages answers: usage judged on all that was seen, and output measured on decoded text."""

from __future__ import annotations

import itertools
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.calls.answer import AnswerReader, begins_stream
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.answers.usage_reader import MAX_PENDING_BYTES, parse_count, parse_partial_json
from sluicegate.providers.anthropic.answer import MessagesUsage
from sluicegate.providers.anthropic.usage import Ending, merge, read_usage
from support.fake_provider import event, sse, usage
from support.respelling import Spelling, respell, spellings

IN, READ, WRITE, OUT = "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"


def read(stream, kind="text/event-stream"):
    reader = AnswerReader(MessagesUsage(), "", kind)
    reader.feed(stream)
    return reader.finish()


@pytest.mark.parametrize(
    ("reports", "input_tokens", "cached", "written"),
    [
        ([{IN: 8834, READ: 5000}, {IN: 0, READ: 0, WRITE: 0}], 8834, 5000, 0),
        ([{IN: 8834, READ: 5000}, {IN: None, READ: None}], 8834, 5000, 0),
        ([{IN: 8834}, {IN: 18, READ: 8831}], 18, 8831, 0),
        ([{IN: 8834}, {IN: 0, READ: 8834}], 0, 8834, 0),
        ([{IN: 8834}, {IN: 0, READ: 8000}], 0, 8000, 0),  # the first figure was the upstream's own estimate
        ([{IN: 8834, READ: 5000}, {IN: 0, READ: 5001}], 8834, 5001, 0),
        ([{IN: 10, WRITE: 90_000}, {IN: 10, WRITE: 0, READ: 90_000}], 10, 90_000, 0),
        ([{IN: 10, READ: 7}, {IN: 10, READ: 0, WRITE: 0}, {IN: 12, READ: 0}], 12, 7, 0),
        ([{IN: 0}, {IN: 14_000}], 14_000, 0, 0),
        ([{IN: 100}, {IN: 80}], 80, 0, 0),  # a later count that is not a zero is believed
        ([{}, {IN: 5.0, WRITE: 3}], 5, 0, 3),
    ],
)
def test_a_zero_replaces_no_count_unless_another_rises_to_explain_it(reports, input_tokens, cached, written):
    found = read_usage(merge(reports), "m")
    assert (found.input_tokens, found.cache_read_tokens, found.cache_write_5m_tokens) == (input_tokens, cached, written)


@given(st.lists(st.dictionaries(st.sampled_from([IN, READ, WRITE, OUT]), st.sampled_from([None, 0, 5, 5000, 0.0])), max_size=6))
def test_reports_merged_in_steps_say_the_same(reports):
    assert merge(reports) == merge([merge(reports[:2]), *reports[2:]])
    merged = merge(reports)
    # What was counted once does not vanish from the prompt.
    if any(r.get(n) for r in reports for n in (IN, READ, WRITE)):
        assert sum(merged.get(n) or 0 for n in (IN, READ, WRITE)) > 0


@pytest.mark.parametrize(("value", "count"), [(12, 12), (12.0, 12), (1e3, 1000), (0, 0), (-0.0, 0)])
def test_a_count_may_be_written_with_a_decimal_point(value, count):
    assert parse_count(value) == count


@pytest.mark.parametrize("value", ["12", -1, 1.5, float("nan"), float("inf"), 1 << 40, 1e30, True, False, None, [], {}])
def test_what_is_no_count_is_none(value):
    assert parse_count(value) is None


def steps(*pairs):
    return [{"type": kind, "model": model, IN: i, OUT: o} for kind, model, i, o in pairs]


@pytest.mark.parametrize(
    ("iterations", "ending", "billed"),
    [
        (steps(("message", "a", 100, 0), ("fallback_message", "b", 90, 9)), Ending(), [("b", 90, 9)]),
        (steps(("message", "a", 100, 2), ("fallback_message", "b", 90, 9)), Ending(), [("a", 100, 2), ("b", 90, 9)]),
        (steps(("message", "a", 100, 2), ("fallback_message", "b", 90, 9)), Ending(False, (False, True)), [("b", 90, 9)]),
        (
            steps(("message", "a", 100, 2), ("fallback_message", "b", 90, 9)),
            Ending(False, (True, True)),
            [("a", 100, 2), ("b", 90, 9)],
        ),
        # A content that shows another number of attempts says nothing about which.
        (steps(("message", "a", 1, 2), ("fallback_message", "b", 90, 9)), Ending(False, (False,) * 3), [("a", 1, 2), ("b", 90, 9)]),
        (steps(("message", "a", 5, 7), ("fallback_message", "b", 90, 9)), Ending(True, (True, True)), [("a", 5, 7), ("b", 90, 9)]),
        (steps(("message", "a", 90, 9), ("message", "a", 50, 0)), Ending(), [("a", 90, 9), ("a", 50, 0)]),
        (steps(("advisor_message", "x", 70, 0), ("message", "a", 90, 9)), Ending(), [("x", 70, 0), ("a", 90, 9)]),
    ],
)
def test_attempts_without_output_are_not_billed(iterations, ending, billed):
    found = read_usage({IN: 90, OUT: 9, "iterations": iterations}, "a", ending)
    assert [(p.model, p.input_tokens, p.output_tokens) for p in found.iterations] == billed
    assert found.input_tokens == sum(i for _, i, _ in billed)
    assert found.output_tokens == sum(o for _, _, o in billed)


def refused(*blocks, **reported):
    """Return the usage of an answer that ends in a refusal after these blocks, streamed and in one piece."""
    whole = {"model": "a", "content": list(blocks), "stop_reason": "refusal", "usage": {IN: 5_000, OUT: 1} | reported}
    pieces = [event("message_start", message={"model": "a", "usage": {IN: 5_000, OUT: 1}})]
    pieces += [event("content_block_start", index=i, content_block=block) for i, block in enumerate(blocks)]
    pieces += [event("message_delta", delta={"stop_reason": "refusal"}, usage={OUT: 1} | reported), event("message_stop")]
    found = []
    for body in (b"".join(pieces), orjson.dumps(whole)):
        reader = AnswerReader(MessagesUsage(), "", "")
        reader.feed(body)
        found.append(reader.finish())
    assert all(answer.is_final for answer in found)
    return [(a.is_unbilled, a.usage.input_tokens, a.usage.output_tokens) for a in found]


def test_a_refusal_after_unseen_thinking_is_billed():
    assert refused() == [(True, 0, 0)] * 2
    assert refused({"type": "text", "text": ""}) == [(True, 0, 0)] * 2
    assert refused({"type": "thinking", "thinking": ""}, **{OUT: 300}) == [(False, 5_000, 300)] * 2


def test_a_refusal_does_not_take_back_what_an_attempt_before_it_wrote():
    """In one piece such an answer shows nothing of it: only the iterations do."""
    tried = steps(("message", "a", 5_000, 400), ("fallback_message", "b", 5_000, 0))
    assert refused(**{OUT: 0, "iterations": tried})[1] == (False, 5_000, 400)
    silent = steps(("message", "a", 5_000, 0), ("fallback_message", "b", 5_000, 0))
    assert refused(**{OUT: 0, "iterations": silent}) == [(True, 0, 0)] * 2


counts = st.integers(0, 10_000)
one_step = st.one_of(
    st.just({}),
    st.none(),
    st.fixed_dictionaries(
        {IN: st.one_of(counts, st.just("12"), st.just(-1)), OUT: counts},
        optional={"type": st.sampled_from(["message", "compaction", "advisor_message", "x"]), READ: counts, "model": st.just("b")},
    ),
)


@given(counts, counts, counts, st.lists(one_step, max_size=4))
def test_iterations_never_bill_less_than_the_totals(tokens, cached, output, iterations):
    found = read_usage({IN: tokens, READ: cached, OUT: output, "iterations": iterations}, "a")
    assert found.input_tokens >= tokens
    assert found.cache_read_tokens >= cached
    assert found.output_tokens >= output
    for name in ("input_tokens", "cache_read_tokens", "output_tokens"):
        assert not found.iterations or getattr(found, name) == sum(getattr(p, name) for p in found.iterations)


TEXT = "Hello" * 160
KINDS = [
    lambda piece: {"type": "text_delta", "text": piece},
    lambda piece: {"type": "thinking_delta", "thinking": piece},
    lambda piece: {"type": "input_json_delta", "partial_json": piece},
    lambda piece: {"type": "signature_delta", "signature": piece},
    lambda piece: {"type": "compaction_delta", "content": piece},
    lambda piece: {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": piece, "document_index": 0}},
    lambda piece: {"type": "hologram_delta", "voxels": piece},
    lambda piece: {"text": piece},
]


@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize(
    "spelling",
    [
        Spelling(),
        Spelling(padding=11),
        Spelling(spaced=True),
        Spelling(reordered=True),
        Spelling(escaped=True),
        Spelling(indented=True, newline=b"\r\n"),
        Spelling(named=False),
    ],
    ids=["compact", "padded", "spaced", "reordered", "escaped", "over lines", "unnamed"],
)
def test_the_same_text_is_as_long_in_every_spelling_and_kind_of_delta(kind, spelling):
    """800 characters used to count as 2 to 4848 tokens."""
    deltas = b"".join(event("content_block_delta", index=0, delta=KINDS[kind](TEXT[i : i + 5])) for i in range(0, 800, 5))
    stream = sse()[0] + event("content_block_start", index=0, content_block={"type": "text", "text": ""}) + deltas
    answer = read(respell(stream, spelling, is_stream=True))
    assert (answer.delivered.characters, answer.is_final, answer.usage.output_tokens) == (800, False, 1)


def test_a_signature_counts_only_beyond_the_thinking_that_it_encrypts():
    def delivered(*deltas):
        return read(b"".join(event("content_block_delta", index=0, delta=d) for d in deltas)).delivered

    thinking, signature = {"type": "thinking_delta", "thinking": "x" * 30}, {"type": "signature_delta", "signature": "y" * 50}
    assert delivered(thinking, signature).characters == 50
    assert delivered(thinking, thinking, signature).characters == 60
    assert delivered(signature).characters == 50
    counted = {"type": "thinking_delta", "thinking": "", "estimated_tokens": 50}
    found = delivered(counted, counted, signature)
    assert (found.characters, found.hidden_tokens, found.has_hidden) == (0, 100, True)


def test_a_complete_stream_is_not_decoded_and_a_cut_one_is(monkeypatch):
    measured = []
    monkeypatch.setattr(MessagesUsage, "measure", lambda self, e: measured.append(e))
    pieces = sse(last={"output_tokens": 7})
    assert read(b"".join(pieces)).is_final
    assert measured == []
    assert read(b"".join(pieces[:3])).delivered.characters == 0
    assert [e["type"] for e in measured] == ["content_block_start", "content_block_delta"]


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_a_long_stream_is_decoded_on_the_way_and_keeps_a_bounded_rest(size):
    delta = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "ä\n" * 50})
    reader = AnswerReader(MessagesUsage(), "", "")
    reader.feed(sse()[0])
    for _ in range(0, 3000, size):
        reader.feed(delta * size)
        assert sum(map(len, reader.reader._pending)) <= MAX_PENDING_BYTES
    assert reader.finish().delivered.characters == -(-3000 // size) * size * 100


def test_tool_input_that_strict_parsers_refuse_is_measured_all_the_same():
    block = b'{"type":"tool_use","id":"t","name":"f","input":{"big":12345678901234567890123,"s":"\\ud83d"}}'
    start = b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":%s}\n\n' % block
    assert read(sse()[0] + start).delivered.characters == 1 + len('{"big":12345678901234567890123,"s":"?"}')


def test_a_usage_that_stands_twice_is_read_as_two_and_a_count_that_does_as_the_last():
    """JavaScript and Python take the last of two equal keys. But a zero that follows takes nothing back."""
    body = b'{"model":"m","usage":{"input_tokens":14000,"output_tokens":9},"usage":{"input_tokens":0,"output_tokens":0}}'
    reader = PROTOCOLS["anthropic"].usage_reader()
    reader.read_json(body)
    assert (reader.usage.input_tokens, reader.usage.output_tokens) == (14000, 9)
    start = b'event: message_start\ndata: {"type":"message_start","message":{"model":"m","usage":{"input_tokens":5,"input_tokens":7}}}\n\n'
    assert read(start).usage.input_tokens == 7
    closing = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9}).replace(
        b'"usage":', b'"usage":{"output_tokens":3},"usage":'
    )
    assert read(start + closing).usage.output_tokens == 9


@given(spellings)
def test_the_reservation_is_raised_by_the_first_usage_in_any_spelling(spelling):
    seen = []
    reader = AnswerReader(MessagesUsage(), "", "text/plain")
    reader.on_start = seen.append
    first, *others = sse(first=usage(input_tokens=1_000_000, output_tokens=1), last={"output_tokens": 5})
    reader.feed(respell(first, Spelling(**{**vars(spelling), "closed": True}), is_stream=True))
    assert [u.input_tokens for u in seen] == [1_000_000]
    reader.feed(b"".join(others))
    assert len(seen) == 1


def test_a_start_without_usage_raises_by_the_first_that_comes():
    seen = []
    reader = AnswerReader(MessagesUsage(), "", "")
    reader.on_start = seen.append
    reader.feed(event("message_start", message={"model": "m"}))
    assert seen == []
    reader.feed(event("message_delta", delta={"stop_reason": "end_turn"}, usage={"input_tokens": 9, "output_tokens": 5}))
    assert [u.input_tokens for u in seen] == [9]


@pytest.mark.parametrize(
    ("head", "is_stream"),
    [
        (b"event: x", True),
        (b"data:", True),
        (b": ping", True),
        (b"id: 1", True),
        (b"retry: 5", True),
        (b"\xef\xbb\xbf\r\n\ndata:", True),
        (b"\xef\xbb\xbf {", False),
        (b"\n[", False),
        (b"\xef\xbb", None),
        (b"", None),
        (b" \r\n", None),
        (b"even", None),
        (b"<html>", None),
    ],
)
def test_an_event_stream_is_told_by_its_bytes(head, is_stream):
    assert begins_stream(head) is is_stream


@pytest.mark.parametrize(
    ("cut", "value"),
    [
        (b'{"a":12,"b":34', {"a": 12}),
        (b'{"a":"x\\u00', {}),
        (b'{"a":{"b":"xy', {"a": {"b": "xy"}}),
        ('{"a":"xä'.encode()[:-1], {"a": "x"}),
        (b"\xef\xbb\xbf[1,", [1]),
        (b"", None),
        (b"no", None),
        (b"[" * 100_000, None),
    ],
)
def test_a_cut_value_is_read_as_far_as_it_is_complete(cut, value):
    assert parse_partial_json(cut) == value


@given(st.integers(0, 400))
def test_a_cut_answer_in_one_piece_is_never_final_and_never_says_half_a_count(end):
    whole = json.dumps(
        {"usage": usage(input_tokens=4630, output_tokens=170), "content": [{"type": "text", "text": "Hello you"}], "model": "m"}
    ).encode()
    answer = read(whole[: min(end, len(whole) - 1)], "application/json")
    assert not answer.is_final
    assert answer.usage is None or (answer.usage.input_tokens, answer.usage.output_tokens) == (4630, 170)
    assert answer.delivered.characters <= 9


def test_a_block_whose_index_is_written_as_a_float_is_the_same_block():
    def delivered(index):
        reader = PROTOCOLS["anthropic"].usage_reader()
        thinking, signature = {"type": "thinking_delta", "thinking": "x" * 40}, {"type": "signature_delta", "signature": "s" * 50}
        for delta in (thinking, signature):
            event = {"type": "content_block_delta", "index": index, "delta": delta}
            reader.feed_event("content_block_delta", orjson.dumps(event))
        return reader.delivered.characters

    assert delivered(1) == delivered(1.0) == 50


DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"abc"}}\n\n'
TEXTS = [
    DELTA,
    DELTA * 3,
    # Lines that begin like a delta's within another event.
    b"data: x" + DELTA * 4,
    b"id: 1\n" + DELTA * 3,
    DELTA.replace(b'"abc"', b'"abc","usage":1'),
    b"event: ping\ndata: {}\n\n",
]


@pytest.mark.parametrize("first", range(len(TEXTS)))
def test_deltas_that_stand_in_a_row_among_others_say_the_same_as_one_by_one(first):
    for second, third in itertools.product(TEXTS, TEXTS):
        text = TEXTS[first] + second + third + DELTA * 3
        together, by_event = (AnswerReader(MessagesUsage(), "", "text/event-stream") for _ in range(2))
        together.feed(text)
        for one in text.split(b"\n\n")[:-1]:
            by_event.feed(one + b"\n\n")
        first_read, other = together.finish(), by_event.finish()
        assert first_read.delivered == other.delivered
        assert (first_read.usage, first_read.is_final, first_read.error) == (other.usage, other.is_final, other.error)
