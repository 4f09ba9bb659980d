"""A policy that is managed in git: REST and dashboard show it and change nothing of it; usage is not policy."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from sluicegate.cli.main import app as command
from sluicegate.policy.entities import KINDS
from sluicegate.services import Services
from sluicegate.web.app import build, endpoints
from sluicegate.web.spend_limits import routes as spend_limits
from sluicegate.web.spend_limits.limits import id_of_limit
from support.command import CliRunner
from support.harness import eventually

POLICY = """\
version: 1
policy: {managed_by: git}   # ask platform@
providers:
  anthropic: {simulate: true, keys: [{name: main, value: sk-ant-x}], budget: {max_limit: 5, reset_duration: 1d}}
customers: [{id: customer-acme, budget: {max_limit: 5, reset_duration: 1d}}]
teams: [{id: team-eng, budget: {max_limit: 5, reset_duration: 1d}}]
users: [{id: alice, budget: {max_limit: 5, reset_duration: 1d}}]
projects: [{id: apollo, budget: {max_limit: 5, reset_duration: 1d}}]
model_configs: [{model_name: claude, budget: {max_limit: 5, reset_duration: 1d}}]
virtual_keys: [{id: vk-a, budget: {max_limit: 5, reset_duration: 1d}}]
routes: [{name: all, targets: [{provider: anthropic}]}]
"""

NAMES = {
    "customers": "customer-acme",
    "teams": "team-eng",
    "users": "alice",
    "projects": "apollo",
    "model-configs": "claude",
    "virtual-keys": "vk-a",
    "providers": "anthropic",
}

G = "/api/governance"
RULE = {"name": "two", "targets": [{"provider": "anthropic"}]}
EDITS = {
    **{f"PUT {G}/{kind}/{name}": {"budget": {"max_limit": 6}} for kind, name in NAMES.items()},
    **{f"DELETE {G}/{kind}/{name}": None for kind, name in NAMES.items()},
    **{f"POST {G}/{kind}/{name}/top-up": {"amount": 1} for kind, name in NAMES.items()},
    **{f"POST {G}/{kind}/{name}/raise": {"amount": 1, "until": "2099-01-01T00:00:00Z"} for kind, name in NAMES.items()},
    f"POST {G}/users/alice/erase": None,
    f"POST {G}/apply": {"rows": [{"row": 2, "cells": {"user": "new@acme.example"}}]},
    **{f"POST {G}/{kind}": {"name": "New"} for kind in ("customers", "teams", "users", "projects", "virtual-keys")},
    f"POST {G}/model-configs": {"model_name": "x"},
    f"POST {G}/virtual-keys/bulk": {"virtual_keys": [{"name": "New"}]},
    f"POST {G}/virtual-keys/vk-a/rotate": {},
    f"POST {G}/virtual-keys/vk-a/expire": {},
    f"PUT {G}/virtual-keys/vk-a/budgets/virtual_key%2Fvk-a%2F1d/override": {"amount": 1, "mode": "forever"},
    f"DELETE {G}/virtual-keys/vk-a/budgets/virtual_key%2Fvk-a%2F1d/override": None,
    "POST /api/providers": {"provider": "openai", "keys": [{"name": "x", "value": "sk-x-secret"}]},
    "PUT /api/providers/anthropic": {"keys": [{"name": "x", "value": "sk-x-secret"}]},
    "DELETE /api/providers/anthropic": None,
    "POST /api/providers/anthropic/keys": {"name": "x", "value": "sk-x-secret"},
    "PUT /api/providers/anthropic/keys/main": {"value": "sk-x-secret"},
    "DELETE /api/providers/anthropic/keys/main": None,
    "PUT /api/policy": {"files": [{"name": "policy.yaml", "text": "version: 1\n"}]},
    "POST /api/policy/revisions/REVISION/restore": {},
    "PUT /api/features": {"content": "full"},
    "PUT /api/routes": {"routes": []},
    **{f"POST {path}": RULE for path in ("/api/routing/rules", f"{G}/routing-rules")},
    **{f"PUT {path}/all": {"description": "x"} for path in ("/api/routing/rules", f"{G}/routing-rules")},
    **{f"DELETE {path}/all": None for path in ("/api/routing/rules", f"{G}/routing-rules")},
    f"POST {spend_limits.BASE}": {"scope": {"type": "user", "user_id": "alice"}, "amount": "600", "period": "daily"},
    f"DELETE {spend_limits.BASE}/{id_of_limit(KINDS['users'], 'alice', 'daily', 0)}": None,
}

OF_USAGE = {
    **{f"POST {G}/{kind}/{name}/reset-usage": {} for kind, name in NAMES.items()},
    "POST /api/adjustments": {"scope": "vk-a", "amount": 1, "reason": "a test"},
}

NO_EDIT = {"PUT /api/config"}
"""Declared like an edit, and checks only whether what is sent is in force."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("git")
    file = folder / "policy.yaml"
    file.write_text(POLICY.replace("main", "first"))
    services = Services(file, folder / "state", {})
    services.history.start()
    older = services.policy.revision
    file.write_text(POLICY)
    services.policy_watcher.reload()
    eventually(lambda: services.revisions.newest() == services.policy.revision)
    with TestClient(build(services, folder / "ca.pem"), client=("127.0.0.1", 1)) as client:

        def ask(line, body=None, token=None, **query):
            method, path = line.replace("REVISION", older).split(" ", 1)
            sent = {"authorization": f"Bearer {token or services.admin_token}", "if-match": "*"}
            reply = client.request(method, path, headers=sent, json=body, params=query)
            return reply.status_code, reply.json()

        ask.services = services
        yield ask
    services.close()


def shape(line):
    """Return a request's method and path as the endpoint table has it."""
    method, path = line.split(" ", 1)
    for row in endpoints(Path()):
        pattern = row.path.replace("{id:path}", "{id}").split("/")
        words = path.split("/")
        if (
            row.method == method
            and len(pattern) == len(words)
            and all(p == w or p.startswith("{") for p, w in zip(pattern, words, strict=True))
        ):
            return f"{method} {row.path}"
    raise AssertionError(line)


def test_every_request_that_edits_the_policy_is_tried_here():
    declared = {f"{e.method} {e.path}" for e in endpoints(Path()) if e.edits_policy}
    assert declared - NO_EDIT - {shape(line) for line in OF_USAGE} == {shape(line) for line in EDITS}


@pytest.mark.parametrize("line", EDITS)
def test_no_edit_is_made_over_rest_and_words_say_where_it_is(gateway, line):
    services = gateway.services
    status, answer = gateway(line, EDITS[line])
    kind = "invalid_request_error" if spend_limits.BASE in line else "policy_not_writable"
    assert (status, answer["error"]["type"]) == (409, kind), answer
    assert "managed in git" in answer["error"]["message"]
    assert services.policy_watcher.path.read_text() == POLICY
    assert [*services.state_dir.glob("provider-keys/*")] == []


@pytest.mark.parametrize("line", OF_USAGE)
def test_usage_is_corrected_as_ever(gateway, line):
    status, answer = gateway(line, OF_USAGE[line])
    assert status == 200, answer
    assert gateway.services.policy_watcher.path.read_text() == POLICY


def test_reading_and_trying_go_on(gateway):
    for kind, name in NAMES.items():
        assert gateway(f"GET {G}/{kind}")[0] == gateway(f"GET {G}/{kind}/{name}")[0] == 200
    assert gateway("GET /api/policy")[1]["writable"] is False
    assert gateway("GET /api/config")[1]["policy"]["managed_by"] == "git"
    assert gateway("POST /api/policy/validate", {"files": [{"name": "policy.yaml", "text": "version: 1\n"}]})[1]["ok"] is True
    status, answer = gateway(f"PUT {G}/teams/team-eng", {"budget": {"max_limit": 6}}, dry_run="true")
    assert (status, answer["team"]["budget"]["max_limit"]) == (200, 6)


def test_the_pages_are_told_and_developers_are_not(gateway):
    assert "managed in git" in gateway("GET /api/session")[1]["read_only"]
    who = gateway("GET /api/session", token="vk-a")[1]
    assert (who["role"], who["read_only"]) == ("developer", None)


def test_the_command_line_edits_the_files_of_the_checkout(gateway, tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    done = CliRunner().invoke(command, ["team", "create", "Two", "--policy", str(file), "--state-dir", str(tmp_path / "state")])
    assert done.exit_code == 0, done.output
    assert "team-two" in file.read_text()


def test_another_manager_is_refused_by_name(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\npolicy: {managed_by: gitops}\n")
    done = CliRunner().invoke(command, ["check", str(file)])
    assert done.exit_code == 1
    assert "policy.managed_by" in done.stderr
