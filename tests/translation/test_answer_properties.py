"""What holds of every translated answer, however its bytes were cut, wherever it stops, and whatever it says."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.translation.answers.arguments import ArgumentsText, CustomInput, custom_input, parse_arguments
from sluicegate.translation.answers.grammar import Grammar
from sluicegate.translation.answers.translator import WRITERS, AnswerReading
from sluicegate.translation.answers.writer import CallPart, Setting, TextPart, ThinkingPart, gather
from sluicegate.translation.context import AnswerContext
from sluicegate.translation.conversation import DIALECTS, Dialect, Opaque, Request
from sluicegate.translation.events import (
    Event,
    Finished,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingOpaque,
    TokenUsage,
    ToolArgumentsDelta,
    ToolCallEnded,
    ToolCallStarted,
)
from sluicegate.translation.names import ToolNames
from support.answer_cases import cases, translate, translator
from support.streams import recorded_answers
from support.wire_forms import check_stream, frames

CASES = st.sampled_from(cases())
CLIENTS = st.sampled_from(DIALECTS)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(CASES, CLIENTS, st.lists(st.integers(0, 4_000), max_size=40))
def test_the_same_bytes_come_out_however_they_were_cut(case, client, cuts):
    whole = translate(client, case.target, case.stream())
    translating = translator(client, case.target)
    cut = b"".join(translating.feed(piece) for piece in pieces(case.stream(), cuts)) + translating.end()
    assert cut == whole


@pytest.mark.parametrize("case", cases(), ids=lambda c: c.name)
def test_the_same_bytes_come_out_one_by_one_and_nothing_after_the_end(case):
    stream = case.stream()
    for client in DIALECTS:
        translating = translator(client, case.target)
        single = b"".join(translating.feed(stream[i : i + 1]) for i in range(len(stream))) + translating.end()
        assert single == translate(client, case.target, stream)
        assert translating.feed(stream) + translating.end() == b""


@given(CASES, CLIENTS, st.integers(0, 5_000), st.booleans())
def test_an_answer_cut_anywhere_ends_as_its_provider_would_end_it(case, client, cut, as_list):
    stream = case.stream()[:cut]
    translating = translator(client, case.target, "json" if as_list else "sse")
    written = translating.feed(stream) + translating.end()
    is_list = as_list and client == "generate_content"
    ending = check_stream(client, written, is_list=is_list)
    assert (ending == "failed") == (not isinstance(translating.ending, Finished))


@given(CASES, CLIENTS, st.integers(0, 5_000), st.binary(max_size=12), st.booleans())
def test_broken_bytes_never_raise(case, client, at, junk, is_streamed):
    stream = case.stream()[:at] + junk + case.stream()[at:]
    translating = translator(client, case.target, "sse" if is_streamed else "")
    if is_streamed:
        check_stream(client, translating.feed(stream) + translating.end())
    else:
        json.loads(translating.whole(stream))


@given(st.sampled_from(DIALECTS), CLIENTS, st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=9), lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from(("type", "choices", "delta", "message", "content", "index", "usage", "item", "output", "candidates", "parts", "text", "functionCall", "tool_calls", "function", "name", "arguments", "id", "response", "error", "finish_reason", "content_block", "input", "stop_reason")), v, max_size=5), max_leaves=25), st.sampled_from(("", "message_start", "content_block_start", "content_block_delta", "message_delta", "response.completed", "response.output_item.added", "response.output_item.done", "response.function_call_arguments.done")))  # fmt: skip
def test_values_of_any_type_never_raise(target, client, value, kind):
    body = json.dumps({"type": kind} | value if isinstance(value, dict) and kind else value)
    translating = translator(client, target)
    check_stream(client, translating.feed(f"event: {kind}\ndata: {body}\n\n".encode()) + translating.end())
    json.loads(translator(client, target, "").whole(body.encode()))


PROVIDER_DIALECTS: dict[str, tuple[Dialect, ...]] = {"anthropic": ("messages",), "gemini": ("generate_content",)}


@pytest.mark.parametrize("client", DIALECTS)
def test_every_recorded_answer_keeps_its_form_for_every_client(client):
    for answer in recorded_answers():
        for target in PROVIDER_DIALECTS.get(answer.provider, ("chat", "responses")):
            if answer.is_stream:
                assert check_stream(client, translate(client, target, answer.body)), answer.id
            assert json.loads(translator(client, target, "").whole(answer.body)), answer.id


# -- there and back ----------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
WORDS = TEXTS.filter(lambda t: bool(t.strip()))
JSON = st.dictionaries(TEXTS, st.integers() | TEXTS | st.none() | st.lists(st.booleans(), max_size=2), max_size=3)


@st.composite
def answers(draw: st.DrawFn, dialect: Dialect) -> list[Event]:
    """An answer that this dialect can say, in events that are in order."""
    usage = TokenUsage(*sorted(draw(st.tuples(*[st.integers(0, 9_999)] * 2)), reverse=True))
    output = draw(st.integers(1, 9_999))
    usage = replace(usage, input=usage.input + 1, output=output, reasoning=draw(st.integers(0, output)))
    events: list[Event] = [Started("", "a-model", TokenUsage(input=usage.input, cache_read=usage.cache_read))]
    thinks = draw(st.booleans())
    if thinks:
        events += [ThinkingDelta(t) for t in draw(st.lists(TEXTS, min_size=1, max_size=3))]
        signature = draw(st.text("ABCDEFab01-_", min_size=4, max_size=12))
        if dialect != "chat":
            events.append(ThinkingOpaque(Opaque(dialect, signature)))
    events += [TextDelta(t) for t in draw(st.lists(TEXTS, max_size=4))]
    if not any(isinstance(e, TextDelta) and e.text.strip() for e in events):
        events = [e for e in events if not isinstance(e, TextDelta)]
    calls = draw(st.lists(st.tuples(st.text("abcXYZ_", min_size=1, max_size=9), JSON), max_size=3))
    for index, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments, ensure_ascii=draw(st.booleans()))
        at = draw(st.integers(0, len(text)))
        events.append(ToolCallStarted(index, f"call_{index}_of_answer", name))
        events += [ToolArgumentsDelta(index, piece) for piece in (text[:at], text[at:]) if piece]
        events.append(ToolCallEnded(index))
    reason = "tool_calls" if calls else draw(st.sampled_from(["stop", "length", "content_filter"]))
    return [*events, Finished(reason, None, usage)]


def meaning(events: list[Event]) -> tuple[object, ...]:
    """What an answer says, without where its texts were cut. Anthropic's writer leaves out texts of white space alone."""
    answer = gather(events)
    text = "".join(p.text for p in answer.parts if isinstance(p, TextPart))
    thinking = [
        (p.text, p.opaque.data if p.opaque and p.opaque.origin != "chat" else None)
        for p in answer.parts
        if isinstance(p, ThinkingPart)
    ]
    calls = [(p.call.id, p.call.name, parse_arguments(p.arguments)) for p in answer.parts if isinstance(p, CallPart)]
    ending = answer.ending
    assert isinstance(ending, Finished)
    reason = {"refusal": "content_filter"}.get(ending.reason, ending.reason)
    return answer.started.model, text, thinking, calls, reason, ending.usage


def read(dialect: Dialect, stream: bytes) -> list[Event]:
    reading = AnswerReading(dialect, Grammar(ToolNames(dialect), "x", lambda: 1))
    return [event for event in [*reading.feed(stream), *reading.end()] if event is not None]


def setting(dialect: Dialect, form: str = "sse") -> Setting:
    names = ToolNames(dialect)
    stream = "sse" if form == "sse" else "json" if form == "json" else ""
    return Setting(AnswerContext(Request("m", (), include_usage=True), "a-model", names, stream), "answer-2", 1)


@pytest.mark.parametrize("dialect", ["messages", "chat", "generate_content"])
@pytest.mark.parametrize("number", [1 << 53, -(1 << 63) - 1, 1 << 64, 10**40])
def test_a_long_number_in_a_tools_arguments_stays_as_it_was_written(dialect, number):
    call = [ToolCallStarted(0, "call_0", "X"), ToolArgumentsDelta(0, f'{{"at": {number}}}'), ToolCallEnded(0)]
    events = [Started("", "a-model", TokenUsage(input=1)), *call, Finished("tool_calls", None, TokenUsage(input=1, output=1))]
    stream = b"".join(map(WRITERS[dialect](setting(dialect)).write, events))
    body = json.dumps(WRITERS[dialect](setting(dialect, "")).whole(gather(events))).encode()
    reading = AnswerReading(dialect, Grammar(ToolNames(dialect), "x", lambda: 1))
    for found in (meaning(read(dialect, stream)), meaning(reading.whole(body))):
        assert repr(found[3][0][2]) == repr({"at": number})


@given(CLIENTS.flatmap(lambda d: st.tuples(st.just(d), answers(d), st.sampled_from(("sse", "json")))))
def test_what_is_written_is_read_with_the_same_meaning(drawn):
    dialect, events, form = drawn
    writer = WRITERS[dialect](setting(dialect, form))
    stream = b"".join(writer.write(event) for event in events)
    assert check_stream(dialect, stream, is_list=form == "json" and dialect == "generate_content") != "failed"
    assert meaning(read(dialect, stream)) == meaning(events)
    body = json.dumps(WRITERS[dialect](setting(dialect, "")).whole(gather(events))).encode()
    reading = AnswerReading(dialect, Grammar(ToolNames(dialect), "x", lambda: 1))
    assert meaning(reading.whole(body)) == meaning(events)


@given(st.data())
def test_an_answer_survives_the_way_through_any_other_dialect(data):
    first, second = data.draw(CLIENTS), data.draw(CLIENTS)
    events = data.draw(answers(first))
    there = b"".join(map(WRITERS[first](setting(first)).write, events))
    back = read(second, translate(second, first, there))
    said, again = meaning(events), meaning(back)
    # Signatures are packed on the way, and Chat's reasoning gets a mark of its own.
    assert again[1] == said[1]
    assert [t for t, _ in again[2] if t] == [t for t, _ in said[2] if t]  # type: ignore[attr-defined]
    assert again[3:] == said[3:]


# -- arguments ---------------------------------------------------------------------------------------------------------


@given(
    JSON,
    st.booleans(),
    st.lists(st.integers(0, 200), max_size=9),
    st.sampled_from(("", " ", "{}", "\n")),
    st.sampled_from(("", "}", " \n", "{}")),
)
def test_arguments_come_whole_in_any_pieces(value, as_ascii, cuts, before, after):
    text = json.dumps(value, ensure_ascii=as_ascii)
    if before == "{}" and not value:
        return
    arguments, given_on = ArgumentsText(), ""
    for piece in pieces((before + text + after).encode("utf-32-le"), [4 * cut for cut in cuts]):
        given_on += arguments.feed(piece.decode("utf-32-le"))
    given_on += arguments.end()
    assert json.loads(given_on) == value


@pytest.mark.parametrize(
    ("pieces_sent", "wanted"),
    [
        ([], {}),
        ([""], {}),
        (["null"], {}),
        (["nu", "ll"], {}),
        (["{}"], {}),
        (["{", "}"], {}),
        (['"{\\"a\\": 1}"'], {"a": 1}),
        (["[1]"], {"arguments": "[1]"}),
        (["ls -l"], {"arguments": "ls -l"}),
        (['{"a": "}{"}', '{"a": 2}'], {"a": "}{"}),
        (['{"a": "\\', '\\"}'], {"a": "\\"}),
    ],
)
def test_odd_arguments_become_an_object(pieces_sent, wanted):
    arguments = ArgumentsText()
    text = "".join(arguments.feed(piece) for piece in pieces_sent) + arguments.end()
    assert json.loads(text) == wanted


def test_arguments_that_were_cut_off_are_not_completed():
    arguments = ArgumentsText()
    assert arguments.feed('{"command": "rm -rf /tmp') + arguments.end() == '{"command": "rm -rf /tmp'
    assert parse_arguments('{"command": "rm -rf /tmp') == {"arguments": '{"command": "rm -rf /tmp'}


@given(st.lists(st.text(max_size=9)))
def test_a_custom_tools_text_survives_being_arguments(texts):
    writing = CustomInput()
    assert custom_input("".join(map(writing.feed, texts)) + writing.end()) == "".join(texts)


def test_text_is_given_on_at_once():
    translating = translator("messages", "chat")
    assert b"message_start" in translating.feed(b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n')
    assert b'"lo"' in translating.feed(b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"lo"}}]}\n\n')
    assert translating.feed(b'data: {"id":"x","choices":[{"ind') == b""


def test_pings_keep_each_clients_connection_alive():
    wanted = {
        "messages": b"event: ping\n",
        "chat": b": keep-alive\n\n",
        "responses": b": keep-alive\n\n",
        "generate_content": b'{"text":""}',
    }
    for client, ping in wanted.items():
        for target, sent in (("messages", b'event: ping\ndata: {"type": "ping"}\n\n'), ("chat", b": PROCESSING\n\n")):
            assert ping in translator(client, target).feed(sent)


def test_a_long_call_is_no_silent_connection_for_gemini():
    translating = translator("generate_content", "chat")
    call = {"index": 0, "id": "call_0123456789", "function": {"name": "Write", "arguments": '{"text": "'}}
    translating.feed(f'data: {{"id":"x","choices":[{{"index":0,"delta":{{"tool_calls":[{json.dumps(call)}]}}}}]}}\n\n'.encode())
    piece = b'data: {"id":"x","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"x"}}]}}]}\n\n'
    assert sum(bool(translating.feed(piece)) for _ in range(200)) == 3


def test_ids_are_the_same_for_the_same_answer_and_differ_between_answers():
    case = next(c for c in cases() if c.name == "chat_ids_that_repeat")
    first, again = case.translator("messages"), case.translator("messages")
    assert first.feed(case.stream()) == again.feed(case.stream())
    ids = [
        data["content_block"]["id"]
        for name, data in frames(translate("messages", "chat", case.stream()))
        if name == "content_block_start"
    ]
    assert len(set(ids)) == 4
    assert ids[2] == "call_0123456789abcdef"


def chunk_of_calls(*entries):
    return f"data: {json.dumps({'id': 'x', 'choices': [{'index': 0, 'delta': {'tool_calls': list(entries)}}]})}\n\n".encode()


def test_many_calls_that_begin_before_their_arguments_come_in_order():
    count = 100
    begun = [{"index": i, "id": f"call_number_{i}", "function": {"name": "Bash", "arguments": ""}} for i in range(count)]
    rest = [{"index": i, "function": {"arguments": f'{{"n": {i}}}'}} for i in reversed(range(count))]
    finish = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n'
    written = translate("messages", "chat", chunk_of_calls(*begun) + chunk_of_calls(*rest) + finish)
    assert check_stream("messages", written) == "complete"
    inputs = [json.loads(d["delta"]["partial_json"])["n"] for n, d in frames(written) if n == "content_block_delta"]
    assert inputs == list(range(count))


def test_more_calls_at_once_than_any_model_makes_are_an_error():
    begun = [{"index": i, "id": f"call_number_{i}", "function": {"name": "Bash", "arguments": ""}} for i in range(2_000)]
    translating = translator("messages", "chat")
    written = translating.feed(chunk_of_calls(*begun)) + translating.end()
    assert check_stream("messages", written) == "failed"
    assert b"mixes too many calls" in written


def test_half_characters_of_two_calls_are_not_joined():
    halves = [r'{"index":0,"id":"call_0_of_two","function":{"name":"A","arguments":"{\"a\": \"\ud83d"}}', r'{"index":1,"id":"call_1_of_two","function":{"name":"B","arguments":"{\"b\": \"\ude00\"}"}}', r'{"index":0,"function":{"arguments":"\ude00\"}"}}']  # fmt: skip
    stream = "".join(f'data: {{"id":"x","choices":[{{"index":0,"delta":{{"tool_calls":[{half}]}}}}]}}\n\n' for half in halves)
    written = translate("responses", "chat", stream.encode() + b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n')
    done = [d["item"]["arguments"] for n, d in frames(written) if n == "response.output_item.done"]
    assert done == ['{"a": "\ufffd\ufffd"}', '{"b": "\ufffd"}']
