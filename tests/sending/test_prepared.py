"""A request prepared for a target: its bytes stay the client's but for what a rule changes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.sending.prepared import rewritten, with_model_in_path

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=6), VALUES, max_size=6), st.booleans())
def test_another_model_changes_that_value_alone(fields, is_ascii):
    body = fields | {"model": "a", "fallbacks": ["b/c"]}
    said = json.dumps(body, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    found = rewritten(said, "b", ("fallbacks",))
    assert json.loads(found) == {name: value for name, value in body.items() if name != "fallbacks"} | {"model": "b"}
    assert list(json.loads(found)) == [name for name in body if name != "fallbacks"]


@pytest.mark.parametrize("body", [b'{"model": "a",\n "n": 1.0}', b'{"model":"a","x":"fallbacks"}'])
def test_a_body_that_no_rule_changes_keeps_its_bytes(body):
    assert rewritten(body, None, ("fallbacks",)) is body or rewritten(body, None, ("fallbacks",)) == body


def test_values_keep_their_spelling():
    body = b'{"a": 1.50, "model": "x", "t": "\\u00e9", "e": [ 1,2 ]}'
    assert rewritten(body, "y") == b'{"a":1.50,"model":"y","t":"\\u00e9","e":[ 1,2 ]}'


@pytest.mark.parametrize(
    ("path", "other", "wanted"),
    [
        ("/v1beta/models/a:generateContent?alt=sse", "b", "/v1beta/models/b:generateContent?alt=sse"),
        ("/v1/models/a:countTokens", "b/../c", "/v1/models/b%2F..%2Fc:countTokens"),
        ("/v1/models/a:x", "a", "/v1/models/a:x"),
    ],
)
def test_another_model_in_a_path(path, other, wanted):
    assert with_model_in_path(path, "a", other) == wanted
