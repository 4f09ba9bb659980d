"""A list of the policy whose order counts: entries move with the comments before them, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.policy.editing.draft import ConflictError
from sluicegate.policy.editing.list_section import entries_of, with_list

FILE = Path("policy.yaml")
TEXT = """\
version: 1
# what is cheap goes first
routes:
  # a note on one
  - name: one   # here
    targets: [{provider: openai}]

  # a note on two
  - {name: two, targets: [{provider: openai}]}
  - name: three
    targets:
      - provider: anthropic   # inside
teams: [{id: a}]
"""

SHAPES = [TEXT, TEXT.replace("\n", "\r\n"), "version: 1\nroutes: [{name: one}, {name: two}, {name: three}]\n", "version: 1\n"]


def changed(text, entries):
    return with_list({FILE: text.encode()}, "routes", entries).get(FILE, text.encode()).decode()


def entries(text):
    return entries_of({FILE: text.encode()}, "routes")


def test_entries_that_change_places_take_their_comments_along():
    one, two, three = entries(TEXT)
    text = changed(TEXT, [three, {"name": "new", "targets": [{"provider": "openai"}]}, one | {"sticky": "none"}])
    assert [e["name"] for e in entries(text)] == ["three", "new", "one"]
    lines = text.split("\n")
    assert lines.index("  # a note on one") == next(i for i, line in enumerate(lines) if "name: one" in line) - 1
    assert "# here" in text
    assert "# inside" in text
    assert lines[0] == "version: 1"
    assert lines[-2:] == ["teams: [{id: a}]", ""]
    assert changed(changed(TEXT, [two, three, one]), [one, two, three]).replace("\n\n", "\n") == TEXT.replace("\n\n", "\n")


NAMES = st.lists(st.sampled_from(["one", "two", "three", "four", "five"]), unique=True, max_size=5)


@given(st.sampled_from(SHAPES), NAMES, st.booleans())
def test_whatever_order_is_asked_for_is_what_the_file_says_then(text, names, is_sticky):
    present = {e["name"]: e for e in entries(text)}
    more = {"sticky": "none"} if is_sticky else {}
    wanted = [present.get(name, {"name": name, "targets": [{"provider": "openai"}]}) | more for name in names]
    try:
        found = changed(text, wanted)
    except ConflictError:
        return
    assert entries(found) == wanted
    others = {k: v for k, v in yaml.safe_load(text).items() if k != "routes"}
    assert {k: v for k, v in yaml.safe_load(found).items() if k != "routes"} == others


@pytest.mark.parametrize("text", ["version: 1\nroutes: {a: 1}\n", "version: 1\nroutes: [1]\n"])
def test_what_is_no_list_of_mappings_is_to_be_corrected_first(text):
    with pytest.raises(ConflictError, match="is not a list of mappings"):
        entries(text)


def test_a_list_in_several_files_is_not_changed():
    data = {Path(n): b"routes: [{name: x}]\n" for n in ("a.yaml", "b.yaml")}
    with pytest.raises(ConflictError, match="stand in several files"):
        with_list(data, "routes", [])
