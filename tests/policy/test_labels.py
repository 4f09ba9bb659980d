"""Labels: what they may be, whose counts, and how records are found by them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.policy.labels import check_labels, label_fragment, labels_text
from sluicegate.policy.loader import load
from sluicegate.values import Principal

NOW = 1_790_000_000_000
TEXT = """\
version: 1
customers: [{id: acme, labels: {level: customer, of_customer: "1"}}]
teams: [{id: core, customer_id: acme, labels: {level: team, of_team: "1"}}]
projects: [{id: apollo, labels: {level: project}}]
users: [{id: ann, team_id: core, labels: {level: user, cost_center: "4711"}}, {id: bob}]
virtual_keys:
  - {id: plain, user_id: ann}
  - {id: own, user_id: ann, project_id: apollo, labels: {level: key}}
  - {id: none, user_id: bob}
"""


def test_the_narrowest_level_says_what_a_label_is(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(TEXT)
    policy = load(file, env={}, now=NOW)
    found = {k.id: policy.labels_text(policy.principal_of(k)) for k in policy.virtual_keys.values()}
    common = {"of_customer": "1", "of_team": "1", "cost_center": "4711"}
    assert json.loads(found["plain"]) == common | {"level": "user"}
    assert json.loads(found["own"]) == common | {"level": "key"}
    assert found["none"] is None
    assert policy.labels_text(Principal("none", project_id="apollo")) == '{"level":"project"}'


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"cost_center": 4711}, "in quotes"),
        ({"9": "x"}, "not a label's name"),
        ({"a b": "x"}, "not a label's name"),
        ({"a": ""}, "1 to 200 printable"),
        ({"a": "x" * 201}, "1 to 200 printable"),
        ({"a": "x\ny"}, "1 to 200 printable"),
        ({"a": " x"}, "1 to 200 printable"),
        ({f"a{n}": "x" for n in range(17)}, "at most 16"),
        (["a"], "write names and values"),
    ],
)
def test_what_is_no_label_is_refused_with_the_mend(value, says):
    with pytest.raises(ValueError, match=says):
        check_labels(value)


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,5}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12) | st.sampled_from(
    ['","a":"b', 'a":"b', "b"]
)


@given(st.dictionaries(NAMES | st.sampled_from(["a", "b"]), VALUES, max_size=4), NAMES | st.sampled_from(["a", "b"]), VALUES)
def test_a_record_holds_a_label_s_part_exactly_where_it_has_the_label(labels, name, value):
    text = labels_text(labels) or ""
    assert (label_fragment(f"{name}:{value}") in text) == (labels.get(name) == value)
