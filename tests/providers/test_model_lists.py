"""Lists of models, filtered."""

from __future__ import annotations

import json

import pytest

from sluicegate.providers import PROTOCOLS
from sluicegate.providers.model_lists import (
    MAX_ENTRIES,
    MAX_LIST_BYTES,
    MAX_NAME_CHARS,
    UnreadableListError,
    is_model_list,
    model_asked_about,
    unknown_model_body,
    without_refused,
)

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
        ([{"id": "a"}, {"id": "b"}], {"b"}, [{"id": "b"}]),
        (OPENAI | GEMINI, {"o3", "gemini-a"}, OPENAI | GEMINI | {"data": [{"id": "o3"}], "models": [{"name": "models/gemini-a"}]}),
    ],
)
def test_what_is_not_allowed_is_left_out_and_all_else_stays(listed, allowed, wanted):
    filtered = without_refused(json.dumps(listed).encode(), allowed.__contains__)
    assert filtered is not None
    assert json.loads(filtered) == wanted


@pytest.mark.parametrize("body", [json.dumps(OPENAI).encode(), b'[{"id" : "a"}]', b'{"data": []}', b"[]"])
def test_what_may_stay_stays_byte_by_byte(body):
    assert without_refused(body, lambda _: True) is None


@pytest.mark.parametrize("depth", [250, 300, 1_000, 2_000, 100_000])
def test_a_list_of_any_depth_is_filtered_or_unreadable(depth):
    body = b'{"data": [{"id": "not-allowed"}, {"id": "a", "more": ' + b"[" * depth + b"]" * depth + b"}]}"
    try:
        found = without_refused(body, "a".__eq__)
    except UnreadableListError:
        return
    assert found is not None
    assert b"not-allowed" not in found


def test_a_list_is_read_up_to_a_length():
    body = b'{"data": [{"id": "no"}, {"id": "a"}]}'
    assert without_refused(body.ljust(MAX_LIST_BYTES), "a".__eq__) == b'{"data":[{"id":"a"}]}'
    with pytest.raises(UnreadableListError, match="longer than 4 MiB"):
        without_refused(body.ljust(MAX_LIST_BYTES + 1), "a".__eq__)


@pytest.mark.parametrize("member", ["data", "models"])
def test_so_many_models_are_judged_and_no_long_names(member):
    judged = []
    entries = [{"id": "m", "name": "m"}] * MAX_ENTRIES
    assert without_refused(json.dumps({member: entries}).encode(), lambda m: judged.append(m) or True) is None
    assert len(judged) == MAX_ENTRIES
    with pytest.raises(UnreadableListError, match="more than 4000 models"):
        without_refused(json.dumps({member: entries + entries[:1]}).encode(), judged.append)
    names = ["m" * MAX_NAME_CHARS, "m" * (MAX_NAME_CHARS + 1)]
    kept = without_refused(json.dumps({member: [{"id": n, "name": n} for n in names]}).encode(), lambda _: True)
    assert [e["name"] for e in json.loads(kept)[member]] == names[:1]
    assert len(judged) == MAX_ENTRIES


@pytest.mark.parametrize(
    "body", [b"", b"no json", b'{"data": {}}', b'"data"', b'{"error": {}}', b"3", b"{}", b'{"models": null}', b"\xff"]
)
def test_what_cannot_be_read_as_a_list_is_none(body):
    with pytest.raises(UnreadableListError):
        without_refused(body, lambda _: True)


@pytest.mark.parametrize(
    ("method", "path", "model"),
    [
        ("GET", "/v1/models/gpt-4.1", "gpt-4.1"),
        ("GET", "/v1beta/models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("GET", "/v1/models/ft:gpt-4o:acme::1", "ft:gpt-4o:acme::1"),
        ("GET", "/v1/models/gpt-4.1/", "gpt-4.1"),
        ("GET", "/v1/models", None),
        ("GET", "/v1/models/", None),
        ("DELETE", "/v1/models/gpt-4.1", None),
        ("GET", "/v1/files/gpt-4.1", None),
    ],
)
def test_what_asks_about_one_model(method, path, model):
    assert model_asked_about(method, path) == model
    assert not (is_model_list(method, path) and model)


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_an_unknown_model_is_told_in_each_protocol_s_words(protocol):
    body = json.loads(unknown_model_body(protocol, "No such model"))
    words = {body["error"].get(member) for member in ("type", "code", "status")}
    assert body["error"]["message"] == "No such model"
    assert words & {"not_found_error", "model_not_found", "NOT_FOUND"}


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
