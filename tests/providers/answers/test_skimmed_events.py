"""Events that are kept undecoded, several at once, say the same as when each is read by itself."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.calls.answer import AnswerReader
from sluicegate.providers.answers.sse import is_run, runs_of
from sluicegate.providers.answers.usage_reader import UsageReader
from sluicegate.providers.anthropic.answer import MessagesUsage
from sluicegate.providers.openai.answer import OpenAIUsage
from support.hypothesis_profiles import examples


def named(name: bytes, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, data)


DELTA, BLOCK = b"content_block_delta", b"content_block_start"
TEXT = named(DELTA, b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}')

MESSAGES = [
    TEXT,
    TEXT,
    TEXT.replace(b"Hello", b"caf\xc3\xa9 \\ud83d\\ude00"),
    TEXT.replace(b"Hello", b"not UTF-8: \xff"),
    TEXT.replace(b'"}}', b'"}  }   '),
    TEXT.replace(b"\n\n", b"\n\n\n"),
    TEXT.replace(b"\n", b"\r\n"),
    TEXT.replace(b"\n\n", b"\r\r"),
    TEXT.replace(b"data: ", b"data:"),
    TEXT.replace(b"data: {", b"data: {\ndata: "),
    TEXT.replace(b"event", b"id: 7\nevent"),
    TEXT.replace(b"\n\n", b"\nevent: message_stop\n\n"),
    TEXT.replace(b"}}\n", b'},"usage":{"output_tokens":70}}\n'),
    TEXT.replace(b"}}\n", b'},"\\u0075sage":{"output_tokens":71}}\n'),
    b"data: {}\n" + TEXT,
    b": " + TEXT,
    TEXT.replace(b"event: content_block_delta\n", b""),
    named(
        DELTA, b'{"type":"content_block_delta","index":1,"delta":{"type":"thinking_delta","thinking":"hm","estimated_tokens":9}}'
    ),
    named(DELTA, b'{"type":"content_block_delta","index":1,"delta":{"type":"signature_delta","signature":"EqoBCkgIARABGAI"}}'),
    named(DELTA, b'{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\\"a\\""}}'),
    named(DELTA, b'{"type":"error","error":{"type":"overloaded_error"}}'),
    named(DELTA, b'{"type":"message_delta","delta":{},"usage":{"output_tokens":72}}'),
    named(DELTA, b"{},{}"),
    named(DELTA, b""),
    named(BLOCK, b'{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","name":"ls","input":{}}}'),
    named(BLOCK, b'{"type":"content_block_start","index":1,"content_block":{"type":"fallback","to":{"model":"other"}}}'),
    named(b"content_block_stop", b'{"type":"content_block_stop","index":0}'),
    named(b"ping", b'{"type":"ping"}'),
    b": keep-alive\n\n",
    named(b"error", b'{"type":"error","error":{"type":"overloaded_error"}}'),
    named(b"message_start", b'{"type":"message_start","message":{"model":"m","usage":{"input_tokens":5,"output_tokens":1}}}'),
    named(b"message_delta", b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":40}}'),
    named(b"message_delta", b'{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":0}}'),
    named(b"message_stop", b'{"type":"message_stop"}'),
]

WORD = named(b"response.output_text.delta", b'{"type":"response.output_text.delta","item_id":"i","output_index":0,"delta":"Hello"}')
CHUNK = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}\n\n'

OPENAI = [
    WORD,
    WORD,
    WORD.replace(b"Hello", b"\\u0048i"),
    WORD.replace(b"Hello", b"\xff"),
    WORD.replace(b"\n", b"\r\n"),
    WORD.replace(b"}\n", b',"usage":{"input_tokens":6,"output_tokens":60}}\n'),
    WORD.replace(b"}\n", b',"error":{"code":"x"}}\n'),
    WORD.replace(b"data: {", b"data: {\ndata: "),
    WORD.replace(b"output_text", b"function_call_arguments"),
    named(b"response.output_text.delta", b'{"type":"x","choices":[],"usage":{"prompt_tokens":6,"completion_tokens":62}}'),
    named(b"response.output_text.delta", b'{"type":"x","choices":[],"\\u0075sage":{"prompt_tokens":6,"completion_tokens":63}}'),
    named(b"response.output_text.delta", b'{"type":"x","error":{"code":"z"}}'),
    named(b"response.output_text.delta", b'{"type":"x","\\u0065rror":{"code":"y"}}'),
    CHUNK,
    CHUNK.replace(b"Hello", b"\xc3\xa9"),
    CHUNK.replace(b"}\n", b',"usage":{"prompt_tokens":6,"completion_tokens":61}}\n'),
    CHUNK.replace(b"null", b'"length"'),
    CHUNK.replace(b'"index":0', b'"index":1'),
    CHUNK.replace(b'"model":"m"', b'"model":"n"'),
    CHUNK.replace(b'"model"', b'"service_tier":"flex","model"'),
    b"data: [DONE]\n\n",
    b": keep-alive\n\n",
    b'data: {"error":{"code":"server_error"}}\n\n',
    b'data: {"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":40}}\n\n',
    named(b"response.created", b'{"type":"response.created","response":{"model":"m"}}'),
    named(
        b"response.completed",
        b'{"type":"response.completed","response":{"model":"m","usage":{"input_tokens":5,"output_tokens":40},"output":[]}}',
    ),
]


def one_by_one(reader: UsageReader, stream: bytes) -> None:
    """Read a stream as the specification of server-sent events says, each event by itself."""
    name, data = "", list[bytes]()
    for line in [*re.split(rb"\r\n|\r|\n", stream), b""]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.strip().decode("utf-8", "replace")
        elif not line:
            if data:
                reader.feed_event(name, b"\n".join(data))
            name, data = "", []


def said(reader: UsageReader) -> dict[str, Any]:
    """Return all that a reader says of what it has read."""
    reader.catch_up()
    names = ("usage", "is_final", "output_tokens", "is_invalid", "finished", "is_truncated", "is_unbilled", "error")
    found = {name: getattr(reader, name) for name in (*names, "finish_reasons", "has_content", "message_started")}
    delivered = reader.delivered
    return found | {
        "characters": delivered.characters,
        "has_hidden": delivered.has_hidden,
        "hidden_tokens": delivered.hidden_tokens,
        "text": delivered.text,
        "tools": reader.tool_requests(),
    }


START, STOP = named(b"message_start", b"{}"), named(b"message_stop", b"{}")
TWO_LINES = TEXT.replace(b"data: {", b"data: {\ndata: ")


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        (TEXT * 3, [TEXT * 3]),
        (START + TEXT * 3 + STOP + TEXT + STOP, [TEXT * 3, TEXT]),
        (TEXT + TWO_LINES + TEXT, [TEXT, TEXT]),
        (b"data: x" + TEXT * 2, [TEXT]),
        (b"id: 7\n" + TEXT * 2, [TEXT]),
        (START + TEXT.replace(b"data: ", b"data:"), []),
        (named(b"x", TEXT.replace(b"\n", b" ")), []),
        (TEXT.removesuffix(b"\n\n"), []),
    ],
)
def test_events_in_a_row_are_found_among_others(text, runs):
    assert [text[begin:end] for begin, end in runs_of(text, MessagesUsage.run_mark)] == runs
    assert is_run(text, MessagesUsage.run_mark) == (runs == [text])


@pytest.mark.parametrize(("kind", "pool"), [(MessagesUsage, MESSAGES), (OpenAIUsage, OPENAI)], ids=["messages", "openai"])
def test_what_is_skimmed_says_the_same_as_one_by_one(kind, pool):
    events = st.lists(st.tuples(st.sampled_from(pool), st.integers(1, 4), st.booleans()), min_size=1, max_size=8)

    @settings(max_examples=examples(1500, ci=500))
    @given(events=events, cuts=st.lists(st.integers(0, 2000), max_size=2))
    def check(events: list[tuple[bytes, int, bool]], cuts: list[int]) -> None:
        stream, edges = pool[0], {len(pool[0])}
        for text, times, ends_a_read in events:
            stream += text * times
            edges |= {len(stream)} if ends_a_read else set()
        at = sorted({0, len(stream), *edges, *(c % len(stream) for c in cuts)})
        plain, answer = kind(), AnswerReader(kind(), "", "text/event-stream")
        one_by_one(plain, stream)
        for a, b in itertools.pairwise(at):
            answer.feed(stream[a:b])
        answer.finish()
        assert said(answer.reader) == said(plain)

    check()
