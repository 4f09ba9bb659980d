"""What tools of the provider's own are billed for is known also of an answer that never got to its usage."""

from __future__ import annotations

import json

import pytest

from sluicegate.providers.answers.reported_counts import ReportedCounts
from support.respelling import Spelling, respell
from support.streams import read, recorded_answers

BY_NAME = {r.name: r for r in recorded_answers("openai")}


def cut_before(name: str, what: bytes):
    """Return an answer that was cut before an event."""
    recorded = BY_NAME[name]
    return read(recorded, [recorded.body[: recorded.body.index(what)]])


@pytest.mark.parametrize(
    ("name", "web", "files", "sessions"),
    [
        ("responses-web-search", 1, 0, 0),
        ("responses-file-search", 0, 2, 0),
        ("responses-code-interpreter", 0, 0, 2),
        ("responses-shell", 0, 0, 1),
        ("responses-text", 0, 0, 0),
    ],
)
def test_tools_of_a_cut_response_are_billed(name, web, files, sessions):
    answer = cut_before(name, b"event: response.completed")
    assert (answer.usage, answer.is_final) == (None, False)
    assert tuple(answer.tool_requests) == (web, files, sessions)


def test_a_search_counts_from_its_beginning():
    answer = cut_before("responses-web-search", b"event: response.web_search_call.in_progress")
    assert answer.tool_requests.web_search_requests == 1


@pytest.mark.parametrize("name", [n for n in BY_NAME if n.startswith(("chat-", "responses-")) and BY_NAME[n].is_stream])
def test_chunks_that_are_skimmed_say_the_same_as_chunks_that_are_parsed(name):
    recorded = BY_NAME[name]
    skimmed, parsed = (read(recorded, [respell(recorded.body, Spelling(spaced=s), is_stream=True)]) for s in (False, True))
    assert (skimmed.usage, skimmed.is_final, skimmed.error) == (parsed.usage, parsed.is_final, parsed.error)
    assert skimmed.delivered == parsed.delivered


@pytest.mark.parametrize(
    ("reports", "counts"),
    [
        ([{"a": 10, "b": 5}, {"a": 0, "b": 0, "out": 3}], {"a": 10, "b": 5, "out": 3}),
        ([{"a": 8834, "b": 0}, {"a": 0, "b": 8831}], {"a": 0, "b": 8831}),
        ([{"a": 10, "out": 3}, {"a": None, "out": 0}], {"a": 10, "out": 3}),
        ([{"a": 10}, {"a": 7}], {"a": 7}),
        ([{"a": 12.0}], {"a": 12}),
    ],
)
def test_a_zero_replaces_a_count_only_where_another_one_rises(reports, counts):
    found = ReportedCounts(("a", "b"))
    for report in reports:
        found.note(report.items())
    assert {name: found[name] for name in counts} == counts
    assert not found.is_invalid


@pytest.mark.parametrize("value", ["12", -1, 1.5, True, 1 << 40, json.loads("NaN"), [], {}])
def test_what_is_no_count_spoils_the_report(value):
    found = ReportedCounts(("a",))
    found.note([("a", 10)])
    found.note([("a", value)])
    assert (found.is_invalid, found["a"]) == (True, 10)
