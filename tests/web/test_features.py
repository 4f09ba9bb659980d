"""Features over REST: what is on, what a change makes of the YAML before it is made, and what is refused with words."""

from __future__ import annotations

import sys

import pytest
from starlette.testclient import TestClient

from sluicegate.services import Services
from sluicegate.web.app import build
from support.api import token_hash

BASE = "/api/features"
HOOK = "https://hooks.example.com/a-secret-of-ours"
POLICY = f"""\
version: 1
providers:
  anthropic: {{keys: [{{name: main, value: sk-ant-a-secret-key}}]}}   # ours
teams: [{{id: eng, content: full}}, {{id: ops, content: "off"}}]
virtual_keys: [{{id: vk-alice, team_id: eng, value: a-secret-value}}]
operators: [{{id: vera, role: viewer, token_hash: "{token_hash("a-viewer-s-token")}"}}]
alerts: {{webhooks: [{{name: chat, url: "{HOOK}"}}]}}   # who is told
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    file = folder / "policy.yaml"
    file.write_text(POLICY)
    opened = Services(file, folder / "state", {})
    with TestClient(build(opened, folder / "ca.pem"), client=("127.0.0.1", 1)) as client:
        yield opened, client
    opened.close()


@pytest.fixture
def services(served):
    """The services of one gateway with the policy restored."""
    opened, _ = served
    write(opened, POLICY)
    return opened


@pytest.fixture
def ask(services, served):
    """Send a request as an administrator, or with this token, and return status and JSON."""
    _, client = served

    def send(body=None, token=None, if_match=None, dry_run=False):
        headers = {"authorization": f"Bearer {token or services.admin_token}"}
        if if_match is None and body is not None:
            if_match = client.get(BASE, headers=headers).headers.get("etag", "*")
        headers |= {"if-match": if_match} if if_match else {}
        query = {"dry_run": "true"} if dry_run else {}
        reply = client.request("GET" if body is None else "PUT", BASE, headers=headers, json=body, params=query)
        return reply.status_code, reply.json()

    return send


def write(services, policy):
    """Put a policy in force as an editor does."""
    services.policy_watcher.path.write_text(policy)
    services.policy_watcher.reload()
    assert services.policy_watcher.error is None


def text(services):
    return services.policy_watcher.path.read_text()


def test_it_says_what_is_on_with_the_defaults(ask):
    status, found = ask()
    assert status == 200
    assert (found["cache"]["exact"]["enabled"], found["cache"]["semantic"]["scope"]) == (False, "user")
    assert (found["content"], found["content_retention"], found["content_elsewhere"]) == ("off", "30d", 1)
    assert found["alerts"] == {"thresholds": [50, 80, 95, 100], "webhooks": ["chat"]}
    assert found["providers"] == {"anthropic": {"subscriptions": "refuse"}}


CHANGES = {
    "semantic": (
        {"cache": {"semantic": {"enabled": True, "scope": "team", "threshold": 0.9}}},
        ["+", "+cache:", "+  semantic: {enabled: true, scope: team, threshold: 0.9}"],
    ),
    "exact": ({"cache": {"exact": {"enabled": True}}}, ["+", "+cache:", "+  exact: {enabled: true}"]),
    "content": ({"content": "full"}, ["+", "+content: full"]),
    "subscriptions": (
        {"providers": {"anthropic": {"subscriptions": "pass"}}},
        [
            "-  anthropic: {keys: [{name: main, value: <secret providers/anthropic/keys/main/value>}]}   # ours",
            "+  anthropic: {keys: [{name: main, value: <secret providers/anthropic/keys/main/value>}], subscriptions: pass} # ours",
        ],
    ),
    "alerts": (
        {"alerts": {"thresholds": []}},
        [
            '-alerts: {webhooks: [{name: chat, url: "<secret alerts/webhooks/chat/url>"}]}   # who is told',
            '+alerts: {webhooks: [{name: chat, url: "<secret alerts/webhooks/chat/url>"}], thresholds: []} # who is told',
        ],
    ),
}


@pytest.mark.parametrize(("change", "lines"), CHANGES.values(), ids=CHANGES.keys())
def test_the_lines_are_shown_before_they_are_written_and_then_written(ask, services, change, lines):
    status, shown = ask(change, dry_run=True)
    assert status == 200, shown
    (file,) = shown["files"]
    assert file["name"] == "policy.yaml"
    assert [line for line in file["diff"].splitlines() if line[0] in "+-"] == lines
    assert "secret-" not in file["diff"]
    assert (text(services), shown["on_disk"]) == (POLICY, services.policy.revision)

    before = len(services.audit_trail.read(limit=100)[0])
    status, written = ask(change)
    assert (status, written["files"]) == (200, shown["files"])
    assert (written["revision"], written["on_disk"]) == (shown["revision"], services.policy.revision)
    assert "sk-ant-a-secret-key" in text(services)
    assert HOOK in text(services)
    assert ask()[1]["cache"] == written["cache"]
    (entry, *_), _ = services.audit_trail.read(limit=5)
    assert (entry["who"], entry["action"]) == ("admin", "update")
    assert ask(change)[1]["files"] == []
    assert len(services.audit_trail.read(limit=100)[0]) == before + 1


def test_a_change_is_made_of_what_was_seen(ask, services):
    assert ask({"content": "full"}, if_match='"another"', dry_run=True)[0] == 412
    assert ask({"content": "full"}, if_match='"another"')[0] == 412
    status, answer = ask({"content": "full"}, if_match="")
    assert (status, answer["error"]["field"]) == (400, "If-Match")
    assert text(services) == POLICY


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"cache": {"exact": {"enable": True}}}, "cache.exact.enable", "did you mean"),
        ({"cache": {"exact": {"ttl": "soon"}}}, "cache.exact.ttl", ""),
        ({"cache": {"semantic": {"threshold": 2}}}, "cache.semantic.threshold", ""),
        ({"cache": {"near": {"enabled": True}}}, "cache.near", ""),
        ({"content": "some"}, "content", ""),
        ({"alerts": {"thresholds": [0]}}, "alerts.thresholds[0]", ""),
        ({"alerts": {"webhooks": []}}, "alerts.webhooks", ""),
        ({"providers": {"openai": {"subscriptions": "pass"}}}, "providers.openai", "known are anthropic"),
        (
            {"providers": {"anthropic": {"subscriptions": "pass", "base_url": "https://evil.example"}}},
            "providers.anthropic.base_url",
            "",
        ),
        ({"teams": []}, "teams", ""),
    ],
)
def test_what_makes_no_policy_is_refused_at_its_place(ask, services, change, field, words):
    for dry_run in (True, False):
        status, answer = ask(change, dry_run=dry_run)
        assert (status, answer["error"]["field"]) == (400, field), answer
        assert words in answer["error"]["message"]
    assert text(services) == POLICY


def test_viewers_see_and_change_nothing_and_developers_see_nothing(ask, services):
    assert ask(token="a-viewer-s-token")[0] == 200
    for dry_run in (True, False):
        assert ask({"content": "full"}, token="a-viewer-s-token", dry_run=dry_run)[0] == 403
    assert ask(token="a-secret-value")[0] == 403
    assert text(services) == POLICY


def test_where_the_policy_is_managed_in_git_the_lines_to_commit_are_shown(ask, services):
    managed = POLICY + "policy: {managed_by: git}\n"
    write(services, managed)
    status, shown = ask({"content": "full"}, dry_run=True)
    assert (status, "+content: full" in shown["files"][0]["diff"]) == (200, True)
    status, answer = ask({"content": "full"})
    assert (status, "managed in git" in answer["error"]["message"]) == (409, True)
    assert text(services) == managed


def test_a_policy_whose_secrets_cannot_be_told_from_the_rest_is_not_changed_here(ask, services):
    odd = POLICY.replace("value: a-secret-value", "value: &v a-secret-value") + "x-y: *v\n"
    write(services, odd)
    for dry_run in (True, False):
        status, answer = ask({"content": "full"}, dry_run=dry_run)
        assert (status, "cannot be shown" in answer["error"]["message"]) == (409, True), answer
    assert text(services) == odd


def test_semantic_caching_without_its_packages_is_refused_with_the_command_that_installs_them(ask, services, monkeypatch):
    monkeypatch.setitem(sys.modules, "wordllama", None)
    for dry_run in (True, False):
        status, answer = ask({"cache": {"semantic": {"enabled": True}}}, dry_run=dry_run)
        assert (status, answer["error"]["field"]) == (400, "cache.semantic.enabled")
        assert "pip install 'sluicegate[semantic]'" in answer["error"]["message"]
    assert text(services) == POLICY


def test_null_is_as_if_it_were_not_written_and_receivers_of_alerts_stay(services, ask):
    assert ask({"content": "full", "alerts": {"thresholds": [50]}})[0] == 200
    status, state = ask({"content": None, "alerts": None})
    assert status == 200
    assert (state["content"], [w.name for w in services.policy.file.alerts.webhooks]) == ("off", ["chat"])
    assert state["alerts"]["thresholds"] != [50]
    assert state["on_disk"] == state["revision"] == services.policy.revision


def test_nesting_without_end_is_refused_in_words(ask):
    value = True
    for _ in range(900):
        value = {"a": value}
    assert ask({"cache": {"exact": {"a": value}}})[0] == 400
