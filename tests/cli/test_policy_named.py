"""Which policy a command works on: one that is named, or that of the gateway that runs; nothing is changed by guessing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sluicegate import paths
from sluicegate.cli.main import app
from sluicegate.policy.editing.permission import is_writable
from sluicegate.services import Services
from sluicegate.storage.state_folder import recorded_policy
from support.command import CliRunner

POLICY = """\
version: 1
virtual_keys:
  - {id: vk-mine, budget: {max_limit: 12.34, reset_duration: 1d}}
"""

WRITES = (
    ("key", "create", "vk-new"),
    ("key", "set", "vk-dev-alice", "--inactive"),
    ("key", "rotate", "vk-dev-alice"),
    ("key", "expire", "vk-dev-alice"),
    ("key", "top-up", "vk-dev-alice", "--amount", "1"),
    ("key", "reset", "vk-dev-alice"),
    ("key", "delete", "vk-dev-alice"),
    ("customer", "create", "Acme"),
    ("team", "set", "team-engineering", "--name", "x"),
    ("user", "delete", "alice"),
    ("project", "create", "Apollo", "--dry-run"),
    ("adjust", "--scope", "vk-dev-alice", "--amount", "1", "--reason", "x", "--yes"),
    ("policy", "restore", "0123456789ab"),
)


@pytest.fixture
def run(tmp_path):
    """Run a command in an empty home; return its exit status and what it printed."""

    def command(*words, **env):
        state = {"SLUICEGATE_STATE": str(tmp_path / "state"), "SLUICEGATE_POLICY": "", "HOME": str(tmp_path)}
        done = CliRunner().invoke(app, [*map(str, words)], env=state | env)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    return command


@pytest.fixture
def policy(tmp_path):
    file = tmp_path / "a folder" / "policy.yaml"
    file.parent.mkdir()
    file.write_text(POLICY)
    return file


@pytest.mark.parametrize("words", WRITES, ids=" ".join)
def test_without_a_policy_that_is_named_nothing_is_written_anywhere(run, tmp_path, words):
    quickstart = paths.policy_path(None, {})
    before = quickstart.read_bytes(), sorted(quickstart.parent.iterdir())
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "--policy FILE" in err
    assert "--gateway URL" in err
    assert (quickstart.read_bytes(), sorted(quickstart.parent.iterdir())) == before
    assert not (tmp_path / "state").exists()


def test_prices_are_not_imported_beside_a_policy_that_nobody_named(run, tmp_path):
    table = tmp_path / "table.json"
    table.write_text(
        json.dumps({"gpt-x": {"litellm_provider": "openai", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}})
    )
    code, _, err = run("prices", "import", table, "--yes")
    assert code == 2
    assert "--policy FILE" in err


def test_a_policy_is_named_by_option_or_variable(run, policy):
    assert run("team", "create", "One", "--policy", policy)[0] == 0
    assert run("team", "create", "Two", SLUICEGATE_POLICY=str(policy))[0] == 0
    assert "team-one" in policy.read_text()
    assert "team-two" in policy.read_text()


def test_edits_before_the_first_start_are_on_the_audit_trail(run, policy, tmp_path):
    assert run("key", "list", "--policy", policy)[0] == 0
    assert run("key", "set", "vk-mine", "--budget", "5/1d", "--policy", policy, "--dry-run")[0] == 0
    assert not (tmp_path / "state").exists()
    assert run("key", "set", "vk-mine", "--budget", "5/1d", "--policy", policy)[0] == 0
    assert run("customer", "create", "Acme", "--policy", policy)[0] == 0
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state/sluicegate.db").stat().st_mode & 0o777 == 0o600
    services = Services(policy, tmp_path / "state", {})
    try:
        entries, total = services.audit_trail.read(limit=10)
    finally:
        services.close()
    assert [(e["entity_kind"], e["entity_id"], e["action"]) for e in entries] == [
        ("customer", "customer-acme", "create"),
        ("virtual_key", "vk-mine", "update"),
    ]
    assert total == 2
    assert entries[1]["after"]["budget"]["max_limit"] == 5


def test_an_edit_that_cannot_be_recorded_is_not_made(run, policy, tmp_path):
    (tmp_path / "state").write_text("a file in its way")
    code, _, err = run("customer", "create", "Acme", "--policy", policy)
    assert code == 1
    assert "--state-dir" in err
    assert policy.read_text() == POLICY


def test_reading_takes_the_policy_of_the_state_folders_gateway(run, policy, tmp_path):
    def kinds():
        code, out, err = run("usage", "--json")
        assert code == 0, err
        return {row["id"] for row in json.loads(out)["usage"]}

    assert "vk-dev-alice" in kinds()
    services = Services(policy, tmp_path / "state", {})
    try:
        assert recorded_policy(tmp_path / "state") == policy
        assert kinds() == {"vk-mine"}
        assert "vk-mine" in run("key", "list")[1]
        # It does not listen yet, so it cannot be asked; a change would go past what it holds in memory.
        assert run("key", "set", "vk-mine", "--inactive")[0] == 2
        services.state_folder.note_url("http://127.0.0.1:9")
        assert kinds() == {"vk-mine"}
        code, _, err = run("key", "set", "vk-mine", "--inactive")
        assert code == 1
        assert "http://127.0.0.1:9 does not answer" in err
    finally:
        services.close()
    # It has ended: what it counted is still that policy's, but nothing is changed without its name.
    assert kinds() == {"vk-mine"}
    code, _, err = run("key", "set", "vk-mine", "--inactive")
    assert code == 2
    assert f"--policy '{policy}'" in err
    policy.unlink()
    assert "vk-dev-alice" in kinds()


def test_a_policy_in_the_package_is_read_and_never_written(run, tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "sluicegate"
    policies = package / "policies"
    policies.mkdir(parents=True)
    file = policies / "quickstart.yaml"
    file.write_text(POLICY)
    monkeypatch.setattr(paths, "PACKAGE", package)
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    for named in (file, link, policies):
        assert run("key", "list", "--policy", named)[0] == 0
        code, _, err = run("key", "set", "vk-mine", "--inactive", "--policy", named)
        assert code == 1
        assert "part of the installed package" in err
        assert "--policy" in err
    table = tmp_path / "table.json"
    table.write_text(
        json.dumps({"gpt-x": {"litellm_provider": "openai", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}})
    )
    code, _, err = run("prices", "import", table, "--yes", "--policy", file)
    assert code == 1
    assert "part of the installed package" in err
    assert [*policies.iterdir()] == [file]
    assert file.read_text() == POLICY
    services = Services(file, tmp_path / "state", {})
    try:
        assert is_writable(services.policy_watcher) is False
    finally:
        services.close()


def test_what_the_lock_file_says_is_read_whatever_the_path_is(tmp_path):
    from sluicegate.storage.state_folder import StateFolder, url_of_running

    for name in ("plain.yaml", "with\nline", os.fsdecode(b"not-\xff-utf8"), "größe", "x" * 200):
        folder = StateFolder(tmp_path)
        folder.note_policy(Path("/p") / name)
        assert (url_of_running(tmp_path), recorded_policy(tmp_path)) == (None, Path("/p") / name)
        folder.note_url("https://[::1]:8080")
        assert (url_of_running(tmp_path), recorded_policy(tmp_path)) == ("https://[::1]:8080", Path("/p") / name)
        folder.close()
        assert (url_of_running(tmp_path), recorded_policy(tmp_path)) == (None, Path("/p") / name)
    assert recorded_policy(tmp_path / "none") is None
