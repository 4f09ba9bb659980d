"""A JSON list is read element by element, wherever its bytes were split."""

from __future__ import annotations

import json
import time

from hypothesis import given
from hypothesis import strategies as st

from sluicegate.calls.answer import AnswerReader
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.answers import json_list
from sluicegate.providers.answers.json_list import JsonListParser
from sluicegate.providers.answers.sse import events_of
from support.respelling import cut, cuts
from support.streams import recorded_answers

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('a"\\{}[]\n\r,é漢')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('k"\\{['), max_size=3), inner, max_size=3),
    max_leaves=8,
)
elements = st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), max_size=4)


def parse(chunks):
    parser = JsonListParser()
    found = [data for chunk in chunks for _, data in events_of(parser.complete(chunk))]
    return [json.loads(data) for data in found], parser


@given(elements, cuts, st.sampled_from([None, 1]), st.booleans())
def test_each_element_is_an_event_wherever_the_list_was_split(wanted, at, indent, is_ascii):
    body = json.dumps(wanted, indent=indent, ensure_ascii=is_ascii).encode()
    found, parser = parse(cut(body, at))
    assert found == wanted
    assert parser.flush() == []


@given(elements.filter(bool), st.integers(0, 1 << 16))
def test_what_has_come_of_the_last_element_is_left(wanted, at):
    body = json.dumps(wanted).encode()
    end = at % len(body)
    found, parser = parse([body[:end]])
    assert found == wanted[: len(found)]
    rest = parser.flush()
    assert all(data.startswith(b"{") and body[:end].endswith(data) for _, data in rest)


def test_a_long_string_in_many_chunks_is_searched_once():
    body = json.dumps([{"data": "A" * 3_000_000}]).encode()
    began = time.process_time()
    found, _ = parse(body[i : i + 1000] for i in range(0, len(body), 1000))
    assert len(found[0]["data"]) == 3_000_000
    assert time.process_time() - began < 2


def test_an_element_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(json_list, "MAX_EVENT_BYTES", 1000)
    found, parser = parse([b'[{"a":1},', b'{"b":"' + b"x" * 2000, b'"}]'])
    assert (found, parser.flush()) == ([{"a": 1}], [])


def test_a_list_says_what_it_costs_before_its_end():
    body = next(r for r in recorded_answers("gemini") if r.name == "list").body
    reader = AnswerReader(PROTOCOLS["gemini"].usage_reader(), "", "application/json")
    started = []
    reader.on_start = started.append
    for i in range(0, len(body) // 2, 50):
        reader.feed(body[i : i + 50])
    assert [(u.input_tokens, u.output_tokens) for u in started] == [(8, 2)]


def test_an_empty_list_is_no_answer():
    reader = AnswerReader(PROTOCOLS["gemini"].usage_reader(), "", "application/json")
    reader.feed(b"[]")
    assert not reader.finish().is_readable
