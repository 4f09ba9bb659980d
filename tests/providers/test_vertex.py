"""Vertex AI's paths and bodies, as its clients write them and as the publishers' own APIs have them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.providers import PROTOCOLS
from sluicegate.providers.vertex.paths import Place, inner, named_in, publisher_of
from sluicegate.providers.vertex.request_body import LEFT_OUT, as_messages, as_raw_predict, dashed, dated, known_betas, with_model

PLACE = Place("my-project", "us-east5")
REST = "/publishers/anthropic/models/claude-opus-5-5:rawPredict"


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("europe-west1", "europe-west1-aiplatform.googleapis.com"),
    ],
)
def test_the_host_of_a_location(location, host):
    assert Place("p", location).host == host


@pytest.mark.parametrize(
    ("written", "tabled", "sent"),
    [
        (f"/projects/a/locations/b{REST}", f"/v1{REST}", f"/v1/projects/my-project/locations/us-east5{REST}"),
        (f"/v1/projects/a/locations/b{REST}?x=1", f"/v1{REST}?x=1", f"/v1/projects/my-project/locations/us-east5{REST}?x=1"),
        (f"/v1beta1/projects/a/locations/b{REST}", f"/v1beta1{REST}", f"/v1beta1/projects/my-project/locations/us-east5{REST}"),
        (f"/v1beta1{REST}", f"/v1beta1{REST}", f"/v1beta1/projects/my-project/locations/us-east5{REST}"),
        *(
            (path, path, path)
            for path in ("/v1/projects/a/locations/b/endpoints/1:predict", f"/v2/projects/a/locations/b{REST}", "/v1/projects", "/")
        ),
    ],
)
def test_a_path_loses_the_client_s_place_and_gets_the_policy_s(written, tabled, sent):
    assert inner(written) == tabled
    assert inner(tabled) == tabled
    assert PLACE.outer(tabled) == sent
    assert inner(sent) == tabled


def test_what_a_path_names():
    assert named_in(f"/v1{REST}?a=b") == ("anthropic", "claude-opus-5-5", "rawPredict")
    assert named_in("/v1/messages") is None
    assert [publisher_of(m) for m in ("claude-opus-4-5@20251101", "Claude-x", "gemini-2.5-pro", "")] == ["anthropic"] * 2 + [
        "google"
    ] * 2


VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8) | st.lists(st.integers(), max_size=2)
NAMES = st.text("abcxyz_", min_size=1, max_size=6) | st.sampled_from(["messages", "max_tokens", "system", *sorted(LEFT_OUT)])


@given(st.dictionaries(NAMES, VALUES, max_size=6), st.booleans(), st.sampled_from([None, 1]))
def test_a_body_there_and_back_loses_only_what_vertex_does_not_take(fields, is_stream, indent):
    body = json.dumps({"model": "claude-opus-4-5-20251101", **fields, "stream": is_stream}, indent=indent).encode()
    sent, is_streamed = as_raw_predict(body)
    kept = {name: value for name, value in fields.items() if name not in LEFT_OUT} | {"stream": is_stream}
    assert json.loads(sent) == {"anthropic_version": "vertex-2023-10-16"} | kept
    assert is_streamed == is_stream
    assert json.loads(as_messages("claude-opus-4-5@20251101", sent)) == {"model": "claude-opus-4-5-20251101"} | kept
    assert json.loads(with_model("m", sent)) == {"model": "m"} | json.loads(sent)


def test_the_spellings_of_dated_models():
    assert dated("claude-opus-4-5-20251101") == dated("claude-opus-4-5@20251101") == "claude-opus-4-5@20251101"
    assert dashed("claude-opus-4-5@20251101") == "claude-opus-4-5-20251101"
    assert dated("claude-opus-5-5") == dashed("claude-opus-5-5") == "claude-opus-5-5"


def test_only_betas_that_vertex_takes_are_sent():
    assert (
        known_betas(b"claude-code-20250219, context-management-2025-06-27,effort-2025-11-24")
        == b"claude-code-20250219,effort-2025-11-24"
    )
    assert known_betas(b"unknown\xff") == b""


def facts(path, body):
    return PROTOCOLS["vertex"].read_request(json.dumps(body).encode(), f"/v1/projects/p/locations/l/publishers/{path}")


def test_the_facts_of_a_call_are_those_of_the_publisher_s_own_api():
    body = {"max_tokens": 7, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    found = facts("anthropic/models/claude-opus-4-5@20251101:streamRawPredict", {"anthropic_version": "vertex-2023-10-16", **body})
    own = PROTOCOLS["anthropic"].read_request(json.dumps({"model": "claude-opus-4-5@20251101", **body}).encode(), "/v1/messages")
    sizes = {"body_bytes": 0, "text_bytes": 0, "members": None}
    assert found._replace(**sizes) == own._replace(**sizes)
    assert (found.stream, found.max_tokens, found.is_text_only) == (True, 7, True)
    gemini = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    path = "google/models/gemini-2.5-pro:streamGenerateContent"
    assert facts(path, gemini) == PROTOCOLS["gemini"].read_request(
        json.dumps(gemini).encode(), "/v1beta/models/gemini-2.5-pro:streamGenerateContent"
    )
    counted = facts("anthropic/models/count-tokens:rawPredict", {"model": "claude-opus-5-5", "messages": []})
    assert counted.model == "claude-opus-5-5"


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("anthropic/models/claude-opus-5-5", {}, "the path of a model call ends in"),
        ("anthropic/models/count-tokens:rawPredict", {}, "string 'model'"),
        ("anthropic/models/claude-x:rawPredict", {"model": "claude-y"}, "model"),
        ("anthropic/models/claude-x:rawPredict", {"Model": "claude-y"}, "Model"),
        ("anthropic/models/claude-..:rawPredict", {"max_tokens": 1}, "model"),
        ("anthropic/models/claude-x:rawPredict", "text", "is a JSON object"),
    ],
)
def test_a_call_that_cannot_be_judged_is_none(path, body, says):
    found = facts(path, body)
    assert isinstance(found, str)
    assert says in found
