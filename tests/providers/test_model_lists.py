"""Lists of models, filtered."""

from __future__ import annotations

import json

import pytest

from sluicegate.providers.model_lists import is_model_list, without_refused

OPENAI = {"object": "list", "data": [{"id": "gpt-4.1", "owned_by": "openai"}, {"id": "o3"}]}
ANTHROPIC = {
    "data": [{"type": "model", "id": "claude-a"}, {"type": "model", "id": "claude-b"}],
    "has_more": True,
    "last_id": "claude-b",
}
GEMINI = {"models": [{"name": "models/gemini-a"}, {"name": "models/gemini-b"}], "nextPageToken": "t"}


@pytest.mark.parametrize(
    ("listed", "allowed", "wanted"),
    [
        (OPENAI, {"gpt-4.1"}, OPENAI | {"data": OPENAI["data"][:1]}),
        (OPENAI, set(), OPENAI | {"data": []}),
        (ANTHROPIC, {"claude-a"}, ANTHROPIC | {"data": ANTHROPIC["data"][:1]}),
        (GEMINI, {"gemini-b"}, GEMINI | {"models": GEMINI["models"][1:]}),
        ({"data": [{"id": "a"}, {"id": 3}, "a", {}]}, {"a"}, {"data": [{"id": "a"}]}),
    ],
)
def test_what_is_not_allowed_is_left_out_and_all_else_stays(listed, allowed, wanted):
    filtered = without_refused(json.dumps(listed).encode(), allowed.__contains__)
    assert filtered is not None
    assert json.loads(filtered) == wanted


@pytest.mark.parametrize(
    "body", [json.dumps(OPENAI).encode(), b"", b"no json", b"[]", b'{"data": {}}', b'"data"', b'{"error": {}}']
)
def test_what_may_stay_stays_byte_by_byte(body):
    assert without_refused(body, lambda _: True) is None


@pytest.mark.parametrize(
    ("method", "path", "is_list"),
    [
        ("GET", "/v1/models", True),
        ("GET", "/v1beta/models", True),
        ("POST", "/v1/models", False),
        ("GET", "/v1/models/gpt-4.1", False),
        ("GET", "/v1/messages", False),
    ],
)
def test_what_asks_for_a_list(method, path, is_list):
    assert is_model_list(method, path) == is_list
