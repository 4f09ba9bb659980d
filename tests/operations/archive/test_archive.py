"""Backup and restore: whole, private, of one moment, refused under a gateway, and nothing that was there is lost."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import tarfile
from pathlib import Path

import pytest
from mitmproxy.certs import CertStore

from proving import books
from sluicegate.cli.main import app
from sluicegate.operations.archive import backup, restore
from sluicegate.services import Services
from support.command import CliRunner
from support.harness import Gateway

POLICY = "version: 1\nvirtual_keys: [{id: vk-a, budget: {max_limit: 12, reset_duration: 1d}}]\n"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return a home with a policy, an authority and a state that a gateway has left."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    authority = tmp_path / "home/.mitmproxy"
    authority.mkdir(parents=True)
    CertStore.from_store(authority, "mitmproxy", 2048)
    policy = tmp_path / "etc/policy.yaml"
    policy.parent.mkdir()
    policy.write_text(POLICY)
    (policy.parent / "prices.yaml").write_text("models: []\n")
    state = tmp_path / "state"
    Services(policy, state, {}).close()
    (state / "provider-keys").mkdir(mode=0o700)
    (state / "provider-keys/openai-1").write_text("sk-secret\n")
    (state / "audit.jsonl").write_text('{"id":"call_2"}\n')
    (state / "audit.jsonl.1").write_text('{"id":"call_1"}\n')
    os.utime(state / "audit.jsonl.1", ns=(10**18, 10**18 + 123))
    return tmp_path


def run(*words, code=0):
    done = CliRunner().invoke(app, [*map(str, words)], env={"SLUICEGATE_POLICY": "", "SLUICEGATE_STATE": ""})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def contents(*folders):
    return {p: p.read_bytes() for f in folders for p in sorted(f.rglob("*")) if p.is_file() and p.name != "lock"}


def test_what_is_backed_up_comes_back_elsewhere_as_it_was(site):
    file = site / "backup.tar.gz"
    run("backup", file, "--state-dir", site / "state")
    assert file.stat().st_mode & 0o777 == 0o600
    assert (
        str(site / "etc/policy.yaml")
        in json.loads(run("backup", file, "--state-dir", site / "state", "--force", "--json"))["policy"]
    )
    new = site / "new"
    said = run("restore", file, "--state-dir", new / "state", "--policy", new / "policy.yaml", "--dry-run")
    assert f"write {new}/state/sluicegate.db" in said
    assert not new.exists()
    run("restore", file, "--state-dir", new / "state", "--policy", new / "policy.yaml")
    assert (new / "policy.yaml").read_text() == POLICY
    assert (new / "prices.yaml").read_text() == "models: []\n"
    for name in ("audit.jsonl", "audit.jsonl.1", "admin-token", "provider-keys/openai-1"):
        assert (new / "state" / name).read_bytes() == (site / "state" / name).read_bytes()
    assert (new / "state/audit.jsonl.1").stat().st_mtime_ns == (site / "state/audit.jsonl.1").stat().st_mtime_ns
    assert all(not p.stat().st_mode & 0o077 for p in (new / "state").rglob("*"))
    Services(new / "policy.yaml", new / "state", {}).close()
    with tarfile.open(file) as tar:
        assert {n.partition("/")[0] for n in tar.getnames()} == {"manifest.json", "state", "policy", "ca"}


def test_a_restore_needs_force_and_keeps_what_was_there(site):
    file, state = site / "backup.tar.gz", site / "state"
    run("backup", file, "--state-dir", state)
    (site / "etc/policy.yaml").write_text("version: 1\n")
    (site / "home/.mitmproxy/mitmproxy-ca.pem").write_text("another")
    (state / "admin-token").write_text("another\n")
    before = contents(site)
    assert "--force" in run("restore", file, "--state-dir", state, code=1)
    assert contents(site) == before
    said = run("restore", file, "--state-dir", state, "--dry-run", "--force")
    assert "keep " in said
    assert contents(site) == before
    run("restore", file, "--state-dir", state, "--force")
    assert (site / "etc/policy.yaml").read_text() == POLICY
    (kept,) = state.glob("before-restore-*")
    assert (kept / "admin-token").read_text() == "another\n"
    assert (kept / "sluicegate.db").exists()
    (policy,) = (site / "etc").glob("policy.yaml.before-restore-*")
    assert policy.read_text() == "version: 1\n"
    assert [p.read_text() for p in (site / "home/.mitmproxy").glob("mitmproxy-ca.pem.before-*")] == ["another"]
    again = run("restore", file, "--state-dir", state, "--force", "--json")
    assert json.loads(again)["restored"] is True
    assert len([*state.glob("before-restore-*")]) == 2


def test_no_backup_is_put_back_under_a_gateway(site):
    file = site / "backup.tar.gz"
    services = Services(site / "etc/policy.yaml", site / "state", {})
    try:
        run("backup", file, "--state-dir", site / "state")
        before = contents(site)
        assert "another gateway is using the state folder" in run("restore", file, "--state-dir", site / "state", "--force", code=1)
        assert contents(site) == before
    finally:
        services.close()


def test_nothing_is_overwritten_by_a_backup_and_nothing_made_of_an_empty_folder(site):
    file = site / "backup.tar.gz"
    file.write_text("somebody's")
    assert "--force" in run("backup", file, "--state-dir", site / "state", code=1)
    assert file.read_text() == "somebody's"
    assert "no gateway has used it" in run("backup", site / "other.tar.gz", "--state-dir", site / "none", code=1)
    assert "cannot be made" in run("backup", site / "none/b.tar.gz", "--state-dir", site / "state", code=1)
    assert sorted(p.name for p in site.iterdir()) == ["backup.tar.gz", "etc", "home", "state"]


def remade(file, change):
    """Write a backup again with its members changed by ``change``, which returns other pairs of name and bytes."""
    with tarfile.open(file) as tar:
        members = [(info.name, tar.extractfile(info).read()) for info in tar]
    with tarfile.open(file, "w:gz") as tar:
        for name, data in change(members):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def renamed(old, new):
    return lambda members: [
        (n.replace(old, new), d.replace(old.encode(), new.encode()) if n == "manifest.json" else d) for n, d in members
    ]


def edited(**fields):
    return lambda members: [(members[0][0], json.dumps(json.loads(members[0][1]) | fields).encode()), *members[1:]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: [(n, d + b"x") for n, d in m[:1]] + [(n, d + b"x") for n, d in m[1:]], "not a backup"),
        (lambda m: [m[0], *((n, bytes(reversed(d))) for n, d in m[1:])], "does not have its digest"),
        (lambda m: m[:-1], "it has no"),
        (lambda m: [*m, ("state/more", b"x")], "is not what"),
        (lambda m: m[1:], "not a backup"),
        (renamed("state/admin-token", "state/../../evil"), "name that none has"),
        (renamed("state/admin-token", "/etc/passwd"), "name that none has"),
        (renamed("state/admin-token", "state/.."), "name that none has"),
        (edited(format=99), "format 99"),
        (edited(database_version=9999), "9999"),
        (edited(members="x"), "cannot be read"),
    ],
)
def test_a_backup_that_is_damaged_or_made_up_changes_nothing(site, change, words):
    file = site / "backup.tar.gz"
    run("backup", file, "--state-dir", site / "state")
    remade(file, change)
    before = contents(site)
    assert words in run("restore", file, "--state-dir", site / "state", "--force", code=1)
    assert contents(site) == before


def test_a_file_that_is_no_archive_or_cut_short_is_refused(site):
    file = site / "backup.tar.gz"
    run("backup", file, "--state-dir", site / "state")
    whole = file.read_bytes()
    for data in (b"", b"no archive", whole[:100], whole[: len(whole) // 2]):
        file.write_bytes(data)
        assert str(file) in run("restore", file, "--state-dir", site / "new", code=1)
        assert not (site / "new").exists()


def test_a_folder_of_policies_and_an_authority_in_the_state_folder_go_along(site):
    folder = site / "etc"
    (folder / "more.yaml").write_text("teams: [{id: team-x}]\n")
    (folder / "prices.yaml").unlink()
    for p in (site / "home/.mitmproxy").iterdir():
        p.rename(site / "state" / p.name)
    file = site / "backup.tar.gz"
    run("backup", file, "--state-dir", site / "state", "--policy", folder)
    run("restore", file, "--state-dir", site / "new", "--policy", site / "policies")
    assert sorted(p.name for p in (site / "policies").iterdir()) == ["more.yaml", "policy.yaml"]
    assert (site / "new/mitmproxy-ca.pem").read_bytes() == (site / "state/mitmproxy-ca.pem").read_bytes()


def test_a_database_that_is_being_written_is_copied_as_it_was_at_one_moment(site):
    """A transfer between two rows is either in the copy or not; a copy of the file would show half of it."""
    db = site / "state/sluicegate.db"
    with sqlite3.connect(db) as conn:
        conn.execute("CREATE TABLE money (amount)")
        conn.executemany("INSERT INTO money VALUES (?)", [(100,), (0,)])
    writer = sqlite3.connect(db, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE money SET amount = 40 WHERE rowid = 1")
    file = site / "backup.tar.gz"
    run("backup", file, "--state-dir", site / "state")
    writer.execute("UPDATE money SET amount = 60 WHERE rowid = 2")
    writer.execute("COMMIT")
    writer.close()
    run("restore", file, "--state-dir", site / "new", "--policy", site / "new.yaml")
    with sqlite3.connect(site / "new/sluicegate.db") as conn:
        assert [row[0] for row in conn.execute("SELECT amount FROM money")] == [100, 0]
    conn.close()
    assert Path(site / "new/sluicegate.db-wal").exists() is False


@pytest.mark.wire
def test_a_call_that_begins_and_ends_while_a_backup_is_made_is_charged_what_it_cost(gateway, tmp_path, monkeypatch):
    """The copied database has never seen it; the copied journal has."""
    gw = gateway()

    def with_calls(step):
        def taken(*arguments):
            assert gw.post().status == 200
            done = step(*arguments)
            # Before the next step begins, as a generator would not.
            done = done if isinstance(done, int) else list(done)
            assert gw.post().status == 200
            return done

        return taken

    for name in ("_copy_databases", "_open_files"):
        monkeypatch.setattr(backup, name, with_calls(getattr(backup, name)))
    file, place = tmp_path / "backup.tar.gz", tmp_path / "restored"
    backup.make_backup(file, gw.state, gw.policy, 0)
    restore.restore(file, restore.plan(restore.read(file), place, tmp_path / "restored.yaml", "now"), place, force=False)
    with Gateway(tmp_path, gw.policy, "--set", f"state_dir={place}") as other:
        other.state = place
        assert {row["outcome"] for row in other.rows()} == {"completed"}
        assert len(other.rows()) == len(gw.rows())
        assert other.post().status == 200
    assert books.check(place, other.policy, None, (), other.output) == []
