"""The corpus of translated requests: one or more cases for each known defect of other gateways that a request can have."""

from __future__ import annotations

import json

import pytest

from sluicegate.translation.conversation import Untranslatable
from support.translations import cases

CASES = list(cases())
DEFECTS = {5, 6, 8, 9, 11, 13, 15, 16, 18, 19, 20, 21, 26, 27, 28, 29, 30, 31, 32, 33, 34, 36, 37, 39, 40}
"""Numbers of the list of known defects; the others are of answers."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_request_is_translated_letter_by_letter_or_refused_with_words(case):
    """Texts are compared, not values: prompt caches hit only if the order of keys stays too."""
    if "refused" in case.expected:
        with pytest.raises(Untranslatable) as refused:
            case.translated()
        assert refused.value.message == case.expected["refused"]
        return
    translated = case.translated()
    assert translated.path == case.expected["path"]
    assert translated.body.decode() == json.dumps(case.expected["body"], ensure_ascii=False, separators=(",", ":"))
    assert translated.body == case.translated().body
    assert ("anthropic-version", "2023-06-01") in translated.headers or case.target != "messages"


def test_there_is_a_case_for_each_defect_that_a_request_can_have():
    assert {number for case in CASES for number in case.defects} >= DEFECTS
    assert len({case.name.split(" to ")[0] for case in CASES}) >= 40


@pytest.mark.parametrize("case", [case for case in CASES if "body" in case.expected], ids=lambda case: case.name)
def test_no_id_of_a_user_reaches_the_target(case):
    private = [case.body.get(name) for name in ("metadata", "user", "safety_identifier", "client_metadata")]
    sent = case.translated().body.decode()
    assert "metadata" not in json.loads(sent)
    assert not [value for value in private if isinstance(value, str) and f'"{value}"' in sent]


def test_the_answers_translation_learns_what_the_client_asked_for():
    by_name = {case.name: case for case in CASES}
    case = by_name["long-tool-names to gpt-4.1"]
    names = case.translated().context.names
    for tool in case.body["tools"]:
        assert names.original(names.sent(tool["name"])).name == tool["name"] != names.sent(tool["name"])
    context = by_name["custom-tools to claude-opus-5-5"].translated().context
    assert context.names.original("apply_patch").kind == "custom"
    assert context.names.original("other").kind == "function"
    context = by_name["namespaces to claude-opus-5-5"].translated().context
    assert (context.names.original("crm__read").name, context.names.original("crm__read").namespace) == ("read", "crm")
    assert by_name["streams to gpt-4.1"].translated().context.stream == "sse"
    assert by_name["streams-of-gemini to gpt-4.1"].translated().context.stream == "json"
    context = by_name["efforts to claude-opus-5-5"].translated().context
    assert (context.stream, context.request.model, context.target_model) == ("", "gpt-4.1", "claude-opus-5-5")
    assert context.body == by_name["efforts to claude-opus-5-5"].body
