"""The article's commands on a real gateway: each works as printed, and the next call is governed by it."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from support import article
from support.api import Api
from support.fake_provider import message, plain
from support.harness import PROVIDER_KEY, ROOT, ask

pytestmark = pytest.mark.wire


def test_every_command_of_the_article_works_as_printed_and_governs_the_next_call(gateway, provider):
    """In order, with curl and the credential from ~/.netrc; only the port is ours."""
    start = json.dumps({"version": 1, "providers": {"anthropic": {"base_url": provider.url}, "openai": {}}})
    gw = gateway(start, env={"ANTHROPIC_API_KEY": PROVIDER_KEY})
    api = Api(gw)
    home = {"PATH": os.environ["PATH"], "HOME": str(gw.folder)}
    subprocess.run([ROOT / ".venv/bin/sluicegate", "admin", "curl-setup", "--state-dir", gw.state], env=home, check=True)
    provider.script = plain(message("claude-3-5-haiku-20241022", input_tokens=10, output_tokens=10))
    haiku, opus3, opus4 = "claude-3-5-haiku-20241022", "claude-3-opus-4-20240229", "claude-opus-4-20240229"

    def call(key, model=haiku, cost_tokens=0, **headers):
        if cost_tokens:
            provider.script = plain(message(model, input_tokens=0, output_tokens=cost_tokens))
        reply = gw.post(ask(model=model), key=key, **headers)
        provider.script = plain(message(model, input_tokens=10, output_tokens=10))
        return reply.status, reply.json["error"]["message"] if reply.status != 200 else ""

    def key(name):
        return api.ok("GET", f"virtual-keys/{name}")["virtual_key"]

    def provider_key(_):
        (found,) = api.ok("GET", "/api/providers/anthropic")["keys"]
        assert (found["name"], found["value"], found["weight"], found["usable"]) == (
            "anthropic-key-1", "env.ANTHROPIC_API_KEY", 1.0, True,
        )  # fmt: skip

    def customer(said):
        assert (said["message"], said["customer"]["id"]) == ("Customer created successfully", "customer-acme")

    def team(said):
        assert (said["team"]["id"], said["team"]["customer_id"]) == ("team-engineering", "customer-acme")

    def team_key(said):
        assert said["created"] == []
        assert call("vk-eng-team") == (200, "")
        assert provider.seen[-1].header("x-api-key") == PROVIDER_KEY
        assert [b["source"] for b in api.ok("GET", "virtual-keys/quota", token="vk-eng-team")["budgets"]] == [
            "customer", "team", "virtual_key",
        ]  # fmt: skip

    def alice(said):
        assert said["message"] == "Virtual key created successfully"
        assert call("vk-dev-alice", cost_tokens=12_500_000) == (200, "")  # $50 of haiku's output at $4 a million
        status, words = call("vk-dev-alice")
        assert (status, words.startswith("Budget exceeded: VK budget exceeded: 50.00 > 50.00 dollars")) == (402, True)
        assert api.ok("GET", "teams/team-engineering")["team"]["budget"]["current_usage"] == pytest.approx(50, abs=0.01)
        assert api.ok("GET", "customers/Acme Corp".replace(" ", "%20"))["customer"]["budget"]["remaining"] == pytest.approx(
            4950, abs=0.01
        )
        api.ok("POST", "virtual-keys/vk-dev-alice/reset-usage", {"rate_limit": False})

    def rate(said):
        now = key("vk-dev-alice")
        assert (now["team_id"], now["budget"]["max_limit"]) == ("team-engineering", 50.0)
        assert now["rate_limit"]["token_max_limit"] == 50_000
        assert now["rate_limit"]["request_max_limit"] == 100
        assert call("vk-dev-alice", cost_tokens=60_000) == (200, "")
        status, words = call("vk-dev-alice")
        assert (status, words.startswith("Rate limits exceeded: [token limit exceeded (")) == (429, True)

    def models(said):
        status, words = call("vk-dev-alice", opus3)
        assert (status, words) == (403, f"Model '{opus3}' is not allowed for this virtual key. Allowed: {haiku}")
        assert call("vk-dev-alice", opus3, user_agent="claude-cli/2.1.330")[0] == 409
        assert key("vk-dev-alice")["rate_limit"]["token_max_limit"] == 50_000

    def engineering(said):
        assert call("vk-eng-team", opus4)[0] == 403
        assert call("vk-eng-team") == (200, "")
        assert key("vk-eng-team")["rate_limit"]["request_max_limit"] == 1000

    def science(said):
        assert said["created"] == [{"kind": "team", "id": "team-data-science", "similar": None}]
        assert call("vk-ds-team", opus4) == (200, "")
        assert call("vk-ds-team")[0] == 403

    def weighted(said):
        assert [(c["provider"], c["weight"]) for c in said["virtual_key"]["provider_configs"]] == [
            ("anthropic", 0.8),
            ("openai", 0.2),
        ]
        assert call("vk-cost-optimized") == (200, "")

    checks = [provider_key, customer, team, team_key, alice, rate, models, engineering, science, weighted]
    printed = [*article.commands("/api/providers"), *article.commands("/api/governance/")]
    assert len(printed) == len(checks)
    for command, check in zip(printed, checks, strict=True):
        assert "http://localhost:8080" in command
        done = subprocess.run(
            ["bash", "-c", command.replace(":8080", f":{gw.port}").replace("curl ", "curl -sS -w '%{http_code}' ", 1)],
            env=home, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        body, status = done.stdout[:-3], done.stdout[-3:]
        assert status == "200", (command, done)
        check(json.loads(body))
    assert len(api.ok("GET", "/api/audit")["entries"]) == 12
    assert json.loads(gw.policy.read_text())["version"] == 1, "a policy that is JSON stays JSON"


def test_doing_it_all_again_changes_nothing_but_what_was_said(api):
    for command in article.commands("/api/governance/"):
        path, body = re.search(r"localhost:8080(\S+)", command)[1], json.loads(re.search(r"-d '(.*)'", command, re.DOTALL)[1])
        method = re.search(r"-X (\w+)", command)[1]
        first = api.ok(method, path, body)
        revision = api("GET", "/api/config").headers["etag"]
        again = api(method, path, body)
        assert again.status == 200
        assert again.headers["etag"] == revision
        assert again.json["message"].endswith("updated successfully")
        assert "created" in first


def test_the_examples_of_the_document_work_as_written(api):
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/api.md").read_text(), re.DOTALL)
    gw = api.gw
    path = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
    home = {"PATH": path, "HOME": str(gw.folder), "SLUICEGATE_STATE": str(gw.state)}
    script = "set -e\n" + "".join(blocks).replace(":8080", f":{gw.port}").replace("curl ", "curl -sS --fail-with-body ")
    done = subprocess.run(["bash", "-c", script], env=home, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    assert '"message":"Virtual key updated successfully"' in done.stdout
    assert '"virtual_key_id":"vk-dev-alice"' in done.stdout
