"""The policy's history: what is noted, what is kept, what differs."""

from __future__ import annotations

import difflib
import json
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.policy import revisions as module
from sluicegate.policy.diff import compare_policies, summarize, unified_diff
from sluicegate.policy.history import UNREDACTABLE_TEXT, History
from sluicegate.policy.loader import load
from sluicegate.policy.revisions import Revision, Revisions, RevisionsError
from sluicegate.policy.watcher import PolicyWatcher
from sluicegate.storage.store import Store

HASH = "sha256:" + "ab" * 32


@pytest.fixture
def revisions(tmp_path):
    Store(tmp_path / "sluicegate.db").close()
    return Revisions(tmp_path / "sluicegate.db")


def one(number, files=None):
    return Revision(
        f"r{number}", "2027-01-01T00:00:00.000Z", None, "edit", f"change {number}", files or {"policy.yaml": f"version: {number}"}
    )


def test_what_is_added_is_found_newest_first_page_by_page(revisions):
    for number in range(5):
        revisions.add(one(number))
    revisions.add(one(1))
    first = revisions.page(2)
    assert [r["revision"] for r in first] == ["r1", "r4"]
    assert [r["revision"] for r in revisions.page(9, first[-1]["id"])] == ["r3", "r2", "r1", "r0"]
    assert revisions.get("r2") == one(2)
    assert revisions.before("r1") == one(4)
    assert revisions.before("r0") is revisions.get("unknown") is None


@pytest.mark.parametrize(("most", "most_bytes", "left"), [(3, 1 << 20, 3), (100, 1, 1), (100, 2500, 2)])
def test_the_oldest_go_where_there_are_too_many_and_the_newest_never(revisions, monkeypatch, most, most_bytes, left):
    monkeypatch.setattr(module, "MAX_REVISIONS", most)
    monkeypatch.setattr(module, "MAX_COMPRESSED_BYTES", most_bytes)
    for number in range(6):
        # What does not get smaller: every word differs.
        revisions.add(one(number, {"policy.yaml": "".join(f"{i * (number + 7919) % 99991:05}" for i in range(400))}))
    assert [r["revision"] for r in revisions.page(100)] == [f"r{n}" for n in range(5, 5 - left, -1)]


def test_without_its_table_it_says_so(tmp_path):
    with pytest.raises(RevisionsError, match="cannot be used"):
        Revisions(tmp_path / "nothing.db").page(1)


def policy(tmp_path, **sections):
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps({"version": 1} | sections))
    return load(file, env={}, now=0)


def test_what_differs_is_named_without_values(tmp_path):
    key = {"id": "vk-a", "value_hash": HASH, "budget": {"max_limit": 5, "reset_duration": "1d"}}
    before = policy(tmp_path, virtual_keys=[key, {"id": "vk-b"}], teams=[{"id": "t"}], providers={"anthropic": {"simulate": True}})
    after = policy(
        tmp_path,
        virtual_keys=[key | {"value_hash": HASH.replace("ab", "cd"), "is_active": False, "budget": None}, {"id": "vk-c"}],
        teams=[{"id": "t"}],
        providers={"anthropic": {"simulate": True}},
        model_configs=[{"model_name": "claude-*", "provider": "anthropic"}],
        egress={"default": "deny"},
    )
    found = compare_policies(before.file, after.file)
    assert [str(d) for d in found] == [
        "virtual_key vk-a: budget, value_hash, is_active",
        "virtual_key vk-b deleted",
        "virtual_key vk-c created",
        "model_config anthropic/claude-* created",
        "egress",
    ]
    assert summarize(found).endswith("model_config anthropic/claude-* created; and 1 more")
    assert HASH not in summarize(found)
    assert found[-1].after == {"egress": {"default": "deny"}}
    assert summarize(compare_policies(before.file, before.file)) == "comments or layout"


LINES = st.lists(st.sampled_from(["a", "b", "c", "", "- x"]), max_size=14).map("\n".join)


def patched(before, diff):
    """The lines after a diff has been applied to those before."""
    out, at = [], 0
    for line in diff.splitlines():
        if line.startswith("@@ "):
            start, count = (*line.split()[1][1:].split(","), "1")[:2]
            upto = int(start) - (count != "0")
            out += before[at:upto]
            at = upto
        elif line[0] == "+":
            out.append(line[1:])
        else:
            assert before[at] == line[1:]
            out += [line[1:]] if line[0] == " " else []
            at += 1
    return out + before[at:]


@given(LINES, LINES)
def test_a_diff_leads_from_one_text_to_the_other(before, after):
    assert patched(before.splitlines(), unified_diff(before, after)) == after.splitlines()


@given(st.integers(0, 60), st.integers(0, 60))
def test_a_diff_names_the_lines_where_they_are(first, second):
    before = [f"line {i}" for i in range(61)]
    after = list(before)
    after[first] = "changed"
    after.insert(second, "new")
    assert unified_diff("\n".join(before), "\n".join(after)) == "".join(
        f"{x}\n" for x in list(difflib.unified_diff(before, after, lineterm=""))[2:]
    )


def test_texts_with_nothing_in_common_are_compared_in_no_time():
    before, after = ("\n".join(f"{word} {i}" for i in range(40_000)) for word in "ab")
    began = time.process_time()
    diff = unified_diff(before, after)
    assert (diff.count("\n"), diff.splitlines()[0]) == (80_001, "@@ -1,40000 +1,40000 @@")
    assert time.process_time() - began < 2


# -- noting -----------------------------------------------------------------------------------------------------------


def noted(revisions, source, *changes):
    history = History(revisions, source.active)
    source.on_change = history.record
    history.start()
    for change in changes:
        change()
        source.reload()
    history.stop()
    return [(r["revision"], r["who"], r["action"], r["summary"]) for r in reversed(revisions.page(100))]


def test_every_policy_in_force_is_noted_also_an_editors_and_no_secret(revisions, tmp_path):
    file = tmp_path / "policy.yaml"
    text = f"version: 1\nvirtual_keys: [{{id: vk-a, value_hash: {HASH}}}]\n"
    file.write_text(text)
    source = PolicyWatcher(file, {}, lambda: 1_000)
    first = source.current.revision
    found = noted(
        revisions,
        source,
        lambda: file.write_text(text + "teams: [{id: t}]\n"),
        lambda: file.write_text("version: 1\nteems: []\n"),
        lambda: file.write_text(text + "teams: [{id: t}]\n# a comment\n"),
        lambda: None,
        lambda: file.write_text(text),
    )
    assert [x[1:] for x in found] == [
        (None, "start", "the first policy"),
        (None, "edit", "team t created"),
        (None, "edit", "comments or layout"),
        (None, "edit", "team t deleted"),
    ]
    assert found[0][0] == found[3][0] == first
    assert revisions.get(first).files == {"policy.yaml": text.replace(HASH, "<secret virtual_keys/vk-a/value_hash>")}
    strings = subprocess.run(["grep", "-ac", "abababab", *map(str, tmp_path.glob("*.db*"))], capture_output=True, text=True)
    assert set(strings.stdout.split()) <= {f"{f}:0" for f in tmp_path.glob("*.db*")}
    assert len(noted(revisions, PolicyWatcher(file, {}, lambda: 2_000))) == 4
    file.write_text("version: 1\n")
    assert noted(revisions, PolicyWatcher(file, {}, lambda: 3_000))[4][2:] == ("start", "changed while the gateway was not running")


def test_a_text_whose_secrets_cannot_be_told_apart_is_not_kept(revisions, tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nvirtual_keys: [{id: vk-a, value: &a the-secret-value}]\n")
    source = PolicyWatcher(file, {}, lambda: 1_000)
    noted(revisions, source)
    assert revisions.get(source.current.revision).files == {"policy.yaml": UNREDACTABLE_TEXT}


def test_a_history_that_cannot_be_written_disturbs_nobody(tmp_path, caplog):
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\n")
    source = PolicyWatcher(file, {}, lambda: 1_000)
    history = History(Revisions(tmp_path / "nothing.db"), source.active)
    history.start()
    history.record(source.active)
    history.stop()
    assert caplog.text.count("cannot be used") == 2
