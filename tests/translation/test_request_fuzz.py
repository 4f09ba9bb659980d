"""Whatever JSON a client sends, translating it gives a body or words, and never raises anything else."""

from __future__ import annotations

import copy
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.translation.conversation import DIALECTS, MAX_MESSAGE_CHARS, Untranslatable
from sluicegate.translation.requests.translate import translate
from support.body_shapes import SHAPES
from support.documented_fields import CHAT, GEMINI, MESSAGES, RESPONSES
from support.hypothesis_profiles import examples
from support.translations import MODELS, PATHS, cases

CASES = list(cases())
KEYS = sorted(
    {
        "type",
        "text",
        "role",
        "content",
        "name",
        "id",
        "input",
        "function",
        "arguments",
        "source",
        "url",
        "data",
        "parts",
        "$ref",
        "anyOf",
    }
    | {"properties", "items", "enum", "required", "allOf", "functionCall", "functionResponse", "summary", "output", "call_id"}
)
WORDS = sorted(
    {"text", "image", "tool_use", "tool_result", "function", "user", "assistant", "object", "string", "", "\ud800", "#/", "auto"}
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=5)
    | st.integers(2**60, 2**70)
    | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)
FIELDS = {"messages": MESSAGES, "chat": CHAT, "responses": RESPONSES, "generate_content": GEMINI}


def refusal(sent, path, source, target):
    """Translate a body and return the words of the refusal, if it is refused; else it is JSON, and the same bytes each time."""
    try:
        translated = translate(sent, path, source, target, MODELS[target])
    except Untranslatable as refused:
        return refused.message
    assert isinstance(json.loads(translated.body), dict)
    assert translated.body == translate(sent, path, source, target, MODELS[target]).body
    return None


def tried(body, path, source, target):
    words = refusal(json.dumps(body).encode(), path, source, target)
    assert words is None or 10 < len(words) <= MAX_MESSAGE_CHARS


@settings(max_examples=examples(60))
@given(source=st.sampled_from(DIALECTS), target=st.sampled_from(DIALECTS), data=st.data())
def test_any_value_of_any_field(source, target, data):
    fields = sorted(
        {name for field in FIELDS[source] for name in field.body} | {"tools", "messages", "system", "input", "contents"}
    )
    tried(data.draw(st.dictionaries(st.sampled_from(fields), VALUES, max_size=5)), PATHS[source], source, target)


def places(value, path=()):
    """Yield the path of every value inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


@settings(max_examples=examples(120))
@given(case=st.sampled_from(CASES), value=VALUES, delete=st.booleans(), data=st.data())
def test_one_other_value_anywhere_in_a_body_that_is_known(case, value, delete, data):
    body = copy.deepcopy(case.body)
    *above, last = data.draw(st.sampled_from(list(places(body))))
    inside = body
    for key in above:
        inside = inside[key]
    if delete:
        del inside[last]
    else:
        inside[last] = value
    tried(body, case.path, case.source, case.target)


@pytest.mark.parametrize("target", ["chat", "responses", "generate_content"])
def test_bodies_that_are_made_to_be_expensive_are_translated_or_refused(target):
    for name, shape in SHAPES.items():
        words = refusal(shape(50_000), "/v1/messages", "messages", target)
        assert words is None or len(words) <= MAX_MESSAGE_CHARS, name


def test_a_schema_whose_references_multiply_is_refused():
    definitions = {f"d{i}": {"type": "object", "properties": {n: {"$ref": f"#/$defs/d{i + 1}"} for n in "abcd"}} for i in range(20)}
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions}
    body = {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"name": "t", "input_schema": schema}],
    }
    assert "too large" in refusal(json.dumps(body).encode(), "/v1/messages", "messages", "generate_content")


def many(count):
    """Bodies in which something stands many times, each for the dialect that it could be slow in."""
    numbers = range(count)
    call = {"type": "function", "id": "same", "function": {"name": "f", "arguments": "{}"}}
    called = [
        {"role": "assistant", "tool_calls": [call] * count},
        *({"role": "tool", "tool_call_id": "same", "content": "a"} for _ in numbers),
    ]
    yield "chat", "messages", {"messages": [{"role": "user", "content": "hi"}, *called]}
    yield "chat", "messages", {"messages": [{"role": "user", "content": "hi"}, called[0] | {"tool_calls": [call]}, *called[1:]]}
    yield "chat", "messages", {"messages": [{"role": "user", "content": "hi"}] * count}
    parts = (
        [{"functionCall": {"name": "f"}} for _ in numbers],
        [{"functionResponse": {"name": "f", "response": {}}} for _ in numbers],
    )
    contents = [
        {"role": "user", "parts": [{"text": "hi"}]},
        {"role": "model", "parts": parts[0]},
        {"role": "user", "parts": parts[1]},
    ]
    yield "generate_content", "chat", {"contents": contents}
    names = [f"n{i}" for i in numbers]
    schema = {
        "type": "object",
        "properties": {key: {"type": "string"} for key in names},
        "required": names,
        "additionalProperties": False,
    }
    yield (
        "chat",
        "responses",
        SMALL | {"response_format": {"type": "json_schema", "json_schema": {"schema": schema, "strict": True}}},
    )
    yield (
        "chat",
        "generate_content",
        SMALL | {"response_format": {"type": "json_schema", "json_schema": {"schema": {"allOf": [schema] * 3}}}},
    )
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": tools}}
    yield "chat", "responses", SMALL | {"tools": tools, "tool_choice": allowed}


SMALL = {"messages": [{"role": "user", "content": "hi"}]}
COUNT = 5000
MOST_S = 2.0
"""Processor seconds for ``COUNT`` of anything; what goes through all of them for each takes several times as long."""


@pytest.mark.parametrize("number", range(7))
def test_the_time_a_body_takes_grows_with_its_size_alone(number):
    source, target, body = list(many(COUNT))[number]
    sent = json.dumps(body).encode()

    def taken_s():
        begun = time.process_time()
        assert translate(sent, PATHS[source], source, target, MODELS[target]).body
        return time.process_time() - begun

    # On a busy machine the same work may once take four times as long.
    assert any(taken_s() < MOST_S for _ in range(3))
