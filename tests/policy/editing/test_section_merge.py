"""Single keys of a policy's sections: they change where the section stands, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.policy.editing.draft import ConflictError
from sluicegate.policy.editing.section_merge import merged, with_sections
from sluicegate.yaml_document import parse

FILE = Path("policy.yaml")
ON = {"semantic": {"enabled": True, "scope": "team"}}

CASES = {
    "a section that there is not": (
        "version: 1\n",
        {"cache": ON},
        "version: 1\n\ncache:\n  semantic: {enabled: true, scope: team}\n",
    ),
    "a section with nothing in it": (
        "version: 1\ncache:   # later\nteams: []\n",
        {"cache": ON},
        "version: 1\ncache: # later\n  semantic: {enabled: true, scope: team}\nteams: []\n",
    ),
    "keys beside others, with comments": (
        "version: 1\ncache:\n  # ours\n  exact: {enabled: false, ttl: 2h}   # two\n\n# people\nteams: []\n",
        {"cache": {"exact": {"enabled": True}, **ON}},
        "version: 1\ncache:\n  # ours\n  exact: {enabled: true, ttl: 2h}   # two\n  semantic: {enabled: true, scope: team}\n\n# people\nteams: []\n",
    ),
    "a key that goes": (
        "version: 1\ncache: {exact: {enabled: true, ttl: 2h}}\n",
        {"cache": {"exact": {"ttl": None}}},
        "version: 1\ncache: {exact: {enabled: true}}\n",
    ),
    "the last key that goes": ("alerts: {thresholds: [5]} # x\n", {"alerts": {"thresholds": None}}, "alerts: {} # x\n"),
    "a single value": (
        "version: 1\ncontent: off # no\nteams: []\n",
        {"content": "full"},
        "version: 1\ncontent: full # no\nteams: []\n",
    ),
    "a single value that there is not": ("version: 1\n", {"content": "full"}, "version: 1\n\ncontent: full\n"),
    "an entry of providers": (
        "version: 1\nproviders:\n  anthropic: {simulate: true}\n",
        {"providers": {"anthropic": {"subscriptions": "pass"}}},
        "version: 1\nproviders:\n  anthropic: {simulate: true, subscriptions: pass}\n",
    ),
    "an entry of providers that there is not": (
        "version: 1\n",
        {"providers": {"anthropic": {"subscriptions": "pass"}}},
        "version: 1\n\nproviders:\n  anthropic: {subscriptions: pass}\n",
    ),
    "JSON": ('{"version": 1, "content": "off"}\n', {"content": "full"}, '{"version": 1, "content": "full"}\n'),
    "line ends": ("version: 1\r\ncontent: off\r\n", {"content": "full"}, "version: 1\r\ncontent: full\r\n"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_only_what_changes_is_written(case):
    before, changes, after = case
    found = with_sections({FILE: before.encode()}, changes)[FILE].decode()
    assert found.replace("   #", " #").replace("  #", " #") == after.replace("   #", " #").replace("  #", " #")
    assert with_sections({FILE: found.encode()}, changes) == {}


@pytest.mark.parametrize("changes", [{"content": "off"}, {"alerts": {"thresholds": None}}, {"cache": {}}, {"providers": {}}])
def test_what_the_policy_says_already_changes_nothing(changes):
    assert with_sections({FILE: b"version: 1\ncontent: off\n"}, changes) == {}


def test_a_section_changes_in_the_file_where_it_stands_and_a_new_one_beside_the_version():
    first, second = Path("a.yaml"), Path("b.yaml")
    data = {first: b"providers: {openai: {}}\ncontent: off\n", second: b"version: 1\nproviders: {anthropic: {simulate: true}}\n"}
    changes = {"content": "full", "cache": ON, "providers": {"anthropic": {"subscriptions": "pass"}}}
    found = with_sections(data, changes)
    assert found[first] == b"providers: {openai: {}}\ncontent: full\n"
    assert yaml.safe_load(found[second]) == {
        "version": 1,
        "providers": {"anthropic": {"simulate": True, "subscriptions": "pass"}},
        "cache": ON,
    }


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({Path("a.yaml"): b"content: off\n", Path("b.yaml"): b"content: off\n"}, "stands in several files (a.yaml, b.yaml)"),
        ({FILE: b"version: 1\ncontent: [\n"}, "has a mistake; correct it first"),
        ({FILE: b"- version\n"}, "a policy must be a mapping"),
    ],
)
def test_what_cannot_be_changed_is_refused_with_words(data, words):
    with pytest.raises(ConflictError) as refused:
        with_sections(data, {"content": "full"})
    assert words in str(refused.value)


KEYS = st.sampled_from(["exact", "semantic", "ttl", "enabled"])
LEAVES = st.one_of(st.booleans(), st.integers(0, 99), st.sampled_from(["1h", "on", "yes: no", "# x", "null", "", "0x1", "é"]))
PRESENT = st.dictionaries(KEYS, st.one_of(LEAVES, st.dictionaries(KEYS, LEAVES, max_size=3)), max_size=3)
CHANGE = st.dictionaries(
    KEYS, st.one_of(st.none(), LEAVES, st.dictionaries(KEYS, st.one_of(st.none(), LEAVES), max_size=3)), max_size=3
)


@given(PRESENT, CHANGE, st.booleans())
def test_whatever_stands_there_the_text_says_the_merged_value_and_the_rest_stays(present, change, flow):
    rest = "# before\nversion: 1   # one\n"
    section = yaml.safe_dump({"cache": present}, default_flow_style=None if flow else False, allow_unicode=True)
    before = f"{rest}{section}# after\nteams: []\n"
    after = with_sections({FILE: before.encode()}, {"cache": change}).get(FILE, before.encode()).decode()
    assert parse(after.encode(), "policy.yaml").value == {"version": 1, "cache": merged(present, change), "teams": []}
    assert after.startswith(rest)
    assert after.endswith("# after\nteams: []\n")
