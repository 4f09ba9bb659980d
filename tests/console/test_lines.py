"""Lines of the log: each call one line that a program can read, whatever clients have named."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.console.lines import (
    MAX_NAME_CHARACTERS,
    FormatError,
    call_as_json,
    call_as_text,
    chosen_format,
    message_as_json,
    message_as_text,
)
from support.ended_calls import CALL

ENDED_MS = 1_795_773_602_012
REFUSED = CALL | {"model_served": None, "outcome": "denied", "reason": "budget_exceeded", "status": 402, "cost_usd": "0"}


def test_a_call_as_json():
    assert json.loads(call_as_json(ENDED_MS, CALL)) == {
        "time": "2026-11-27T10:00:02.012Z",
        "level": "info",
        "event": "call",
        "id": "call_1",
        "key": "vk-alice",
        "user": "alice",
        "team": "team-a",
        "provider": "anthropic",
        "model": "claude-opus-5-5-20260922",
        "decision": "completed",
        "reason": None,
        "status": 200,
        "tokens": 54_330,
        "input_tokens": 10,
        "output_tokens": 20,
        "cost_usd": "0.0123",
        "estimated": False,
        "ms": 1_512,
    }


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (
            CALL,
            "2026-11-27T10:00:02.012Z call completed status=200 key=vk-alice user=alice model=claude-opus-5-5-20260922 "
            "provider=anthropic tokens=54330 cost=$0.0123 ms=1512 id=call_1",
        ),
        (
            REFUSED | {"user_id": None, "estimated": 1},
            "2026-11-27T10:00:02.012Z call denied reason=budget_exceeded status=402 key=vk-alice model=claude-opus-5-5 "
            "provider=anthropic tokens=~54330 cost=~$0 ms=1512 id=call_1",
        ),
        (
            CALL | {"status": None, "outcome": "cancelled", "virtual_key_id": None},
            "2026-11-27T10:00:02.012Z call cancelled user=alice model=claude-opus-5-5-20260922 provider=anthropic tokens=54330 "
            "cost=$0.0123 ms=1512 id=call_1",
        ),
    ],
)
def test_a_call_as_text(record, line):
    assert call_as_text(ENDED_MS, record) == line


@given(st.text(), st.text())
def test_what_clients_name_stays_one_field_of_one_line(model, user):
    record = CALL | {"model_served": None, "model_requested": model or "m", "user_id": user}
    line = call_as_text(ENDED_MS, record)
    assert line.isascii()
    assert line.isprintable()
    # Split as a shell would: quotes hold together what has spaces.
    names = [word.partition("=")[0] for word in shlex.split(line)]
    assert names[3:] == ["status", "key", "user", "model", "provider", "tokens", "cost", "ms", "id"]
    as_json = call_as_json(ENDED_MS, record)
    assert "\n" not in as_json
    assert json.loads(as_json)["model"] == (
        (model or "m") if len(model) <= MAX_NAME_CHARACTERS else model[:MAX_NAME_CHARACTERS] + "..."
    )


def test_a_name_of_any_length_does_not_fill_the_disk():
    record = CALL | {"model_served": None, "model_requested": "m" * 1_000_000}
    assert len(call_as_text(ENDED_MS, record)) < 500
    assert len(call_as_json(ENDED_MS, record)) < 800


@given(st.text(st.characters(exclude_categories=())), st.sampled_from([10, 20, 21, 30, 40, 50]))
def test_a_message_as_json_is_one_line_whatever_it_says(message, level):
    line = message_as_json(0, level, message, client=None)
    assert "\n" not in line
    assert json.loads(line) | {"message": "", "level": ""} == {
        "time": "1970-01-01T00:00:00.000Z",
        "level": "",
        "event": "log",
        "message": "",
    }


def test_a_message_as_text():
    assert message_as_text(1, 30, "low", "10.0.0.1:99") == "1970-01-01T00:00:00.001Z warning [10.0.0.1:99] low"
    assert message_as_text(1, 40, "broke") == "1970-01-01T00:00:00.001Z error broke"


@pytest.mark.parametrize(
    ("option", "variable", "chosen"),
    [("", None, "text"), ("", "", "text"), ("json", None, "json"), ("", "json", "json"), ("text", "json", "text")],
)
def test_the_option_comes_before_the_environment(option, variable, chosen):
    assert chosen_format(option, {} if variable is None else {"SLUICEGATE_LOG_FORMAT": variable}) == chosen


@pytest.mark.parametrize(
    ("option", "variable", "said"),
    [("xml", "json", "--log-format xml: "), ("", "JSON", "SLUICEGATE_LOG_FORMAT JSON: ")],
)
def test_an_unknown_format_is_refused_where_it_was_given(option, variable, said):
    with pytest.raises(FormatError, match=said):
        chosen_format(option, {"SLUICEGATE_LOG_FORMAT": variable})
