"""Names of tools, and what only its maker can read: both come back as they were."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.translation.conversation import DIALECTS, Opaque, Untranslatable
from sluicegate.translation.names import ToolName, ToolNames
from sluicegate.translation.opaque import PREFIX, pack, unpack

OPAQUES = st.builds(Opaque, st.sampled_from(DIALECTS), st.text(), st.booleans(), st.none() | st.text(), st.text())


@given(OPAQUES)
def test_what_is_packed_comes_back(opaque):
    assert unpack(pack(opaque)) == opaque
    assert pack(opaque).startswith(PREFIX)


@given(OPAQUES)
def test_what_is_packed_survives_a_library_that_decodes_and_encodes_it(opaque):
    again = base64.b64encode(base64.urlsafe_b64decode(pack(opaque))).decode()
    assert unpack(again) == opaque
    assert unpack(again.rstrip("=")) == opaque


@given(st.text(), OPAQUES, st.integers(0, 30))
def test_a_providers_own_or_a_damaged_text_is_not_taken_for_ours(text, opaque, cut):
    assert unpack(text) is None
    assert unpack(PREFIX + text) is None
    assert unpack(pack(opaque)[:cut]) is None


@given(st.sampled_from(DIALECTS), st.sets(st.tuples(st.text(), st.sampled_from(("", "mcp__files"))), max_size=8))
def test_each_dialect_takes_the_names_and_they_come_back(target, tools):
    names = ToolNames(target)
    first = r"[A-Za-z_]" if target == "generate_content" else r"[A-Za-z0-9_-]"
    for name, namespace in sorted(tools):
        sent = names.declare(ToolName(name, namespace))
        assert re.fullmatch(first + r"[A-Za-z0-9_-]{0,63}", sent)
        assert sent == ToolNames(target).sent(name, namespace)
        assert names.original(sent) == ToolName(name, namespace)


def test_names_that_are_taken_stay_and_an_unknown_one_comes_back_as_it_is():
    names = ToolNames("chat")
    assert names.declare(ToolName("read_file")) == "read_file"
    assert names.original("other") == ToolName("other")
    assert names.sent("a" * 65) != names.sent("a" * 64 + "b")


def test_two_tools_of_one_name_are_refused():
    names = ToolNames("messages")
    names.declare(ToolName("patch"))
    with pytest.raises(Untranslatable, match="stands there twice"):
        names.declare(ToolName("patch", kind="custom"))
