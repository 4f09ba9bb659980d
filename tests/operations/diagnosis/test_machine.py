"""Findings about the gateway's machine: versions, authority, port, disk, clock, modes; and about its state."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sluicegate.authority.certificate import make_authority
from sluicegate.authority.folder import AuthorityFolder
from sluicegate.cli.main import app
from sluicegate.operations.diagnosis import machine, state
from sluicegate.paths import authority_folder
from sluicegate.services import Services
from support.command import CliRunner

NOW = datetime(2026, 11, 27, tzinfo=UTC)
DAY_MS = 86_400_000
NOW_MS = int(NOW.timestamp() * 1000)

POLICY = """\
version: 1
providers:
  anthropic: {keys: [{name: one, value: env.ONE}, {name: two, value: env.TWO}]}
virtual_keys: [{id: vk-a, value: env.VALUE}]
"""


@pytest.fixture
def policy(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    return file


def levels(found):
    return [f.level for f in found]


@pytest.mark.parametrize(
    ("python", "mitmproxy", "wanted"),
    [
        ((3, 12), "12.2.3", ["ok", "ok"]),
        ((3, 13), "12.3.1", ["ok", "ok"]),
        ((3, 11), "12.2.3", ["fail", "ok"]),
        ((3, 15), "12.4.0", ["warn", "warn"]),
        ((3, 13), "13.0.0", ["ok", "fail"]),
        ((3, 13), "11.1.3", ["ok", "fail"]),
    ],
)
def test_versions_are_tested_ones_or_named(python, mitmproxy, wanted):
    assert levels(machine.check_versions(python, mitmproxy)) == wanted


def test_the_certificate_authority_is_found_valid_and_private(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    state_dir = tmp_path / "state"
    folder = authority_folder(state_dir, None)
    assert folder == state_dir / "ca"
    assert [f.message for f in machine.check_authority(folder, NOW)] == ["is made at the first start"]
    key, certificate = make_authority(NOW)
    for folder in (tmp_path / "home/.mitmproxy", state_dir, state_dir / "ca", tmp_path / "named"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mitmproxy-ca.pem").touch(mode=0o600)
        (folder / "mitmproxy-ca.pem").write_bytes(key + certificate)
        assert authority_folder(state_dir, tmp_path / "named") == folder
        (found,) = machine.check_authority(folder, NOW)
        assert found.level == "ok"
        assert str(folder / "mitmproxy-ca.pem") in found.message
    file = folder / "mitmproxy-ca.pem"
    assert levels(machine.check_authority(folder, NOW + timedelta(days=365 * 20))) == ["fail"]
    (soon,) = machine.check_authority(folder, NOW + timedelta(days=3600))
    assert (soon.level, soon.mend.partition(" makes")[0]) == ("warn", "sluicegate ca rotate")
    assert levels(machine.check_authority(folder, datetime(2001, 1, 1, tzinfo=UTC))) == ["fail"]
    made = AuthorityFolder(folder).rotate(int(NOW.timestamp() * 1000) + 3600 * DAY_MS, 30 * DAY_MS)
    (follows,) = machine.check_authority(folder, NOW + timedelta(days=3600))
    assert (follows.level, "another signs from" in follows.message) == ("ok", True)
    (made.folder / "mitmproxy-ca.pem").chmod(0o640)
    file.chmod(0o644)
    found = [*machine.check_authority(folder, NOW)]
    assert [(f.level, f.mend) for f in found[1:]] == [
        ("fail", f"chmod 600 {file}"),
        ("fail", f"chmod 600 {made.folder / 'mitmproxy-ca.pem'}"),
    ]
    file.write_text("no certificate")
    assert levels(machine.check_authority(folder, NOW))[0] == "fail"
    file.unlink()
    (folder / "authorities.json").unlink()
    (folder / "mitmproxy-ca-cert.pem").write_bytes(certificate)
    (missing,) = machine.check_authority(folder, NOW)
    assert (missing.level, missing.mend) == ("fail", "restore it from a backup")


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = machine.check_port("127.0.0.1", port)
        assert (found.level, f"127.0.0.1:{port}" in found.message, "--listen-port" in found.mend) == ("fail", True, True)
    assert machine.check_port("127.0.0.1", port).level == "ok"
    assert machine.check_port("192.0.2.1", 0).level == "fail"


@pytest.mark.parametrize(("free", "level"), [(0, "fail"), (99 << 20, "fail"), (500 << 20, "warn"), (2 << 30, "ok")])
def test_room_on_the_disk(tmp_path, free, level):
    assert machine.check_disk(tmp_path / "not" / "yet", free).level == level
    assert machine.check_disk(tmp_path).message.endswith(f"free for {tmp_path}")


@pytest.mark.parametrize(
    ("now", "newest", "synchronised", "level"),
    [
        (NOW_MS, None, True, "ok"),
        (NOW_MS, NOW_MS - 1, True, "ok"),
        (NOW_MS, NOW_MS + 299_000, True, "ok"),
        (NOW_MS, NOW_MS + 301_000, True, "fail"),
        (NOW_MS, None, False, "warn"),
        (0, None, True, "fail"),
    ],
)
def test_the_clock_is_compared_with_what_must_have_passed(now, newest, synchronised, level):
    assert machine.check_clock(now, newest, synchronised).level == level


def test_what_others_can_read_or_write_is_named(tmp_path, policy):
    folder = tmp_path / "state"
    assert levels(machine.check_modes(folder, [policy])) == []
    (folder / "provider-keys").mkdir(parents=True)
    folder.chmod(0o700)
    (folder / "provider-keys").chmod(0o700)
    secret = folder / "provider-keys/x"
    secret.touch(0o600)
    secret.chmod(0o600)
    assert levels(machine.check_modes(folder, [policy])) == ["ok"]
    secret.chmod(0o640)
    (found,) = machine.check_modes(folder, [policy])
    assert (found.level, found.mend) == ("fail", f"chmod -R go= {folder}")
    assert str(secret) in found.message
    policy.chmod(0o666)
    assert [*machine.check_modes(folder, [policy])][1].mend == f"chmod o-w {policy}"


def test_a_policy_is_valid_or_its_first_mistake_is_shown(policy, tmp_path):
    env = {"ONE": "sk-1", "VALUE": "a-value-of-a-key"}
    found, findings = state.load_policy(policy, tmp_path, env, NOW_MS, True)
    assert found is not None
    assert findings[0].level == "ok"
    assert [(f.check, f.level) for f in state.check_keys(found)] == [("keys of anthropic", "warn")]
    found, findings = state.load_policy(policy, tmp_path, {}, NOW_MS, False)
    assert findings[0].level == "warn"
    assert levels(state.check_keys(found)) == ["fail"]
    policy.write_text(POLICY + "teems: []\nusers: 3\n")
    found, findings = state.load_policy(policy, tmp_path, env, NOW_MS, True)
    assert (found, levels(findings)) == (None, ["fail"])
    assert "teems" in findings[0].message
    assert findings[0].mend == f"sluicegate check {policy}"


def test_a_database_is_whole_bounded_and_of_a_version_that_we_know(policy, tmp_path):
    folder = tmp_path / "state"
    assert state.check_database(folder).message == "is made at the first start"
    Services(policy, folder, {}).close()
    file = folder / "sluicegate.db"
    assert state.check_database(folder).message == f"{file} is whole"
    assert state.newest_record(folder) is None
    with sqlite3.connect(file) as conn:
        conn.execute(
            "CREATE TABLE many AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) SELECT i, hex(i) h FROM n"
        )
        conn.execute("CREATE INDEX manys ON many(h)")
    conn.close()
    assert "in the part that was checked" in state.check_database(folder, limit_s=-1).message
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    data = bytearray((broken / "sluicegate.db").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 8192] = b"\xa5" * 8192
    (broken / "sluicegate.db").write_bytes(data)
    found = state.check_database(broken)
    assert (found.level, "sluicegate restore" in found.mend) == ("fail", True)
    (broken / "sluicegate.db").write_bytes(b"no database at all" * 1000)
    assert state.check_database(broken).level == "fail"
    with sqlite3.connect(file) as conn:
        conn.execute("PRAGMA user_version = 9999")
    conn.close()
    assert state.check_database(folder).mend == "upgrade sluicegate"


HEALTH = {
    "version": "1",
    "uptime_s": 5,
    "policy": {"error": None},
    "prices": {"error": None},
    "ledger": {"error": None},
    "audit": {"error": None},
    "options_refused": [],
    "providers": {"anthropic": {"simulate": False, "keys": [{"name": "a", "usable": True, "set_aside_until": None}]}},
}
ASIDE = {"name": "b", "usable": True, "set_aside_until": "2026-11-27T00:00:00Z"}


@pytest.mark.parametrize(
    ("change", "level"),
    [
        ({}, "ok"),
        ({"policy": {"error": {"file": "p.yaml", "line": 3, "message": "wrong"}}}, "fail"),
        ({"prices": {"error": "wrong"}}, "fail"),
        ({"ledger": {"error": "full"}}, "fail"),
        ({"audit": {"error": "full"}}, "fail"),
        ({"options_refused": [{"option": "mode", "why": "no"}]}, "warn"),
        ({"providers": {"anthropic": {"simulate": False, "keys": [ASIDE]}}}, "fail"),
        ({"providers": {"anthropic": {"simulate": True, "keys": [ASIDE]}}}, "ok"),
        ({"providers": {"anthropic": {"simulate": False, "keys": [*HEALTH["providers"]["anthropic"]["keys"], ASIDE]}}}, "warn"),
    ],
)
def test_what_a_running_gateway_says_of_itself_is_judged(change, level):
    found = levels(state.check_running(HEALTH | change))
    assert max(found, key=["ok", "warn", "fail"].index) == level


def test_the_command_prints_each_finding_with_its_mend(policy, tmp_path):
    def run(*more, **env):
        words = ["doctor", "--policy", str(policy), "--state-dir", str(tmp_path / "state"), "--port", "0", *more]
        done = CliRunner().invoke(
            app, words, env={"HOME": str(tmp_path), "ONE": "sk-1", "TWO": "sk-2", "VALUE": "a-value-of-a-key"} | env
        )
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    done = run("--json")
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["ok"]) == (0, True), answer
    checks = {f["check"] for f in answer["findings"]}
    assert checks >= {"python", "mitmproxy", "policy", "keys of anthropic", "port", "CA", "disk", "clock", "database"}
    assert all((f["mend"] is None) == (f["level"] == "ok") for f in answer["findings"])
    done = run(TWO="", ONE="")
    assert done.exit_code == 1
    assert "set the variable or write the file" in done.stdout
    assert not (tmp_path / "state").exists(), "looking makes nothing"


def test_all_files_of_a_first_start_are_its_owners_alone(policy, tmp_path):
    services = Services(policy, tmp_path / "state", {})
    try:
        assert levels(machine.check_modes(Path(tmp_path / "state"), [policy])) == ["ok"]
    finally:
        services.close()
