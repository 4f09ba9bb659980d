"""The live policy: good edits take, bad ones never do, however the file is replaced."""

from __future__ import annotations

import json
import os

import pytest

from sluicegate.policy.loader import PolicyError
from sluicegate.policy.watcher import PolicyWatcher


def text(limit):
    return f"version: 1\nteams: [{{id: t, budget: {{max_limit: {limit}, reset_duration: 1d}}}}]\n"


def cap(source):
    return cap_of(source.current)


def cap_of(policy):
    return policy.all_limits()[0].maximum // 10**9


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(text(1))
    return path


def test_a_good_edit_is_noticed_and_taken(file):
    source = PolicyWatcher(file, {}, lambda: 5)
    assert not source.has_changed()
    swap = file.with_suffix(".tmp")
    swap.write_text(text(2))
    swap.rename(file)
    assert source.has_changed()
    assert source.reload()
    assert (cap(source), source.error, source.has_changed()) == (2, None, False)


@pytest.mark.parametrize("bad", ["version: 1\nteams: [{id: t, budget: {max", "", "version: 1\nnonsense: 1\n", None])
def test_a_bad_edit_leaves_the_last_good_policy_and_says_why(file, bad):
    source = PolicyWatcher(file, {}, lambda: 5)
    if bad is None:
        file.unlink()
    else:
        file.write_text(bad)
    assert source.has_changed()
    assert not source.reload()
    assert (cap(source), source.reload_errors) == (1, 1)
    assert source.error["file"] == str(file)
    assert not source.has_changed(), "a bad file is read once, not over and over"
    file.write_text(text(3))
    assert source.has_changed()
    assert source.reload()
    assert (cap(source), source.error) == (3, None)


def test_a_policy_that_this_process_cannot_serve_is_refused(file):
    source = PolicyWatcher(file, {}, lambda: 5)
    source.unfit = lambda policy: "teams need one process" if cap_of(policy) == 2 else None
    file.write_text(text(2))
    assert not source.reload()
    assert (cap(source), source.error["message"]) == (1, "teams need one process")
    file.write_text(text(3))
    assert source.reload()


def test_editors_files_beside_it_change_nothing(tmp_path, file):
    source = PolicyWatcher(tmp_path, {}, lambda: 5)
    for name in (".policy.yaml.swp", "#policy.yaml#", "policy.yaml~", "4913", ".hidden.yaml"):
        (tmp_path / name).write_text("{{{")
    assert not source.has_changed()
    (tmp_path / "more.yaml").write_text("version: 1\ncustomers: [{id: c}]\n")
    assert source.has_changed()
    assert source.reload()


def test_a_symlink_swap_is_noticed(tmp_path):
    for name, limit in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_text(text(limit))
    (tmp_path / "data").symlink_to("one")
    source = PolicyWatcher(tmp_path / "data", {}, lambda: 5)
    (tmp_path / "fresh").symlink_to("two")
    os.replace(tmp_path / "fresh", tmp_path / "data")
    assert source.has_changed()
    assert source.reload()
    assert cap(source) == 2


def test_a_bad_policy_at_start_is_an_error(tmp_path):
    with pytest.raises(PolicyError, match="cannot be read"):
        PolicyWatcher(tmp_path / "missing.yaml", {}, lambda: 5)


def test_a_secret_is_read_again_when_its_file_changes(tmp_path, file):
    secret, another = tmp_path / "secret", tmp_path / "another"
    secret.write_text("sk-ant-one\n")
    for written in ("{text}", "{text}# edited\n"):
        keys = [{"name": "a", "value": f"file:{secret}"}, {"name": "b", "value": f"file:{another}"}]
        file.write_text(written.format(text=json.dumps({"version": 1, "providers": {"anthropic": {"keys": keys}}}) + "\n"))
        source = PolicyWatcher(file, {}, lambda: 5)
        revision = source.current.revision

        def values(source=source):
            return [k.value for k in source.current.providers["anthropic"].keys]

        assert not source.has_changed()
        swap = tmp_path / "swap"
        swap.write_text("sk-ant-two\n")
        swap.rename(secret)
        assert source.has_changed()
        assert source.reload()
        assert (values(), source.has_changed()) == (["sk-ant-two", None], False)
        another.write_text("sk-ant-three")
        assert source.has_changed()
        assert source.reload()
        assert (values(), source.has_changed()) == (["sk-ant-two", "sk-ant-three"], False)
        another.unlink()
        assert source.has_changed()
        source.reload()
        assert not source.has_changed(), "what is missing is looked for once"
        # The policy is the same one: nothing for its history.
        assert source.current.revision == revision
        secret.write_text("sk-ant-one, as before")
        assert source.reload()
