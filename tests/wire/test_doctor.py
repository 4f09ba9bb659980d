"""sluicegate doctor at a real gateway: from its own machine, and from a developer's."""

from __future__ import annotations

import json
import socket

import pytest

from sluicegate.cli.main import app
from sluicegate.operations.diagnosis.environment import BASE_URLS, REPLACING
from support.api import Api
from support.command import CliRunner
from support.harness import VK

pytestmark = pytest.mark.wire


def doctor(*words, **env):
    """Return the exit status and the findings by check, the last of each."""
    ways = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SLUICEGATE_POLICY")
    clean = dict.fromkeys((*ways, *BASE_URLS, *REPLACING, "NODE_EXTRA_CA_CERTS"), "")
    done = CliRunner().invoke(app, ["doctor", "--json", *map(str, words)], env=clean | {"HOME": "/nonexistent"} | env)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, {f["check"]: f for f in json.loads(done.stdout)["findings"]}


def test_on_the_gateways_machine_the_running_gateway_is_asked(company: Api):
    code, found = doctor("--state-dir", company.gw.state)
    assert code == 0, found
    assert "has run for" in found["gateway"]["message"]
    assert str(company.gw.policy) in found["policy"]["message"] or found["policy"]["level"] == "warn"
    assert found["database"]["level"] == "ok"
    (company.gw.state / "admin-token").rename(company.gw.state / "aside")
    try:
        code, found = doctor("--state-dir", company.gw.state, SLUICEGATE_ADMIN_TOKEN="not-the-token-at-all")
        assert (code, found["gateway"]["level"]) == (1, "fail")
    finally:
        (company.gw.state / "aside").rename(company.gw.state / "admin-token")


def test_from_a_developers_machine_everything_on_the_way_is_tried(company: Api, tmp_path):
    url = company.gw.url
    ca = tmp_path / "ca.pem"
    ca.write_bytes(company.gw.request("GET", "/ca.pem").body)
    proxy = url.replace("http://", f"http://{VK}:x@")
    env = {"HTTPS_PROXY": proxy, "NO_PROXY": "localhost,127.0.0.1", "NODE_EXTRA_CA_CERTS": str(ca)}
    code, found = doctor("--gateway", url + "/", "--key", VK, **env)
    assert code == 0, found
    assert {
        check: found[check]["level"] for check in ("gateway", "clock", "key", "proxy", "HTTPS_PROXY", "NODE_EXTRA_CA_CERTS")
    } == (dict.fromkeys(("gateway", "clock", "key", "proxy", "HTTPS_PROXY", "NODE_EXTRA_CA_CERTS"), "ok"))
    assert VK in found["key"]["message"]
    code, found = doctor("--gateway", url, "--key", "vk-of-nobody", **env)
    assert (code, found["key"]["level"], found["HTTPS_PROXY"]["level"]) == (1, "fail", "fail")
    assert doctor("--gateway", url, "--key", company.gw.token)[1]["key"]["level"] == "warn"
    code, found = doctor("--gateway", url)
    assert (code, found["HTTPS_PROXY"]["level"]) == (0, "warn")


def test_what_does_not_answer_or_is_no_gateway_is_said_at_once(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        code, found = doctor("--gateway", f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert (code, "cannot be reached" in found["gateway"]["message"]) == (1, True)
