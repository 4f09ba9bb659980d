"""``sluicegate route``: what it prints and with which status it ends."""

from __future__ import annotations

import json

import pytest

from sluicegate.cli.main import app
from support.command import CliRunner
from support.routing import HAIKU, MINI

POLICY = {
    "version": 1,
    "providers": {n: {"keys": [{"name": "main", "value": f"sk-{n}"}]} for n in ("anthropic", "openai")},
    "virtual_keys": [
        {"id": "vk-alice", "name": "Alice"},
        {"id": "vk-bob", "provider_configs": [{"provider": "openai", "allowed_models": [MINI, "gpt-6*"]}]},
    ],
    "routes": [
        {
            "name": "nightly",
            "when": {"hours": "22:00-22:01", "virtual_key": "vk-bob"},
            "targets": [{"provider": "openai", "model": MINI}],
        },
        {
            "name": "split",
            "when": {"model": "claude-*"},
            "targets": [{"provider": "anthropic", "weight": 0.8}, {"provider": "openai", "model": MINI, "weight": 0.2}],
        },
    ],
}


@pytest.fixture
def run(tmp_path):
    def invoke(*words, policy=POLICY):
        (tmp_path / "policy.yaml").write_text(json.dumps(policy))
        place = ["--policy", str(tmp_path / "policy.yaml"), "--state-dir", str(tmp_path / "state")]
        return CliRunner().invoke(app, ["route", *words, *place])

    return invoke


def cells(line):
    return [cell for cell in line.split("  ") if cell.strip()]


def test_the_list_has_each_route_with_its_conditions_and_targets(run):
    done = run("list")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [c.strip() for c in cells(lines[1])][:3] == [
        "nightly",
        "virtual key vk-bob, hours 22:00-22:01, timezone UTC",
        f"openai/{MINI}",
    ]
    assert [c.strip() for c in cells(lines[2])][:4] == ["split", "model claude-*", "anthropic/(the one asked for)", "0.8"]
    assert [c.strip() for c in cells(lines[3])][:2] == [f"openai/{MINI}", "100%"]
    assert "\x1b" not in done.stdout
    said = json.loads(run("list", "--json").stdout)
    assert ([r["name"] for r in said["routes"]], len(said["targets"])) == (["nightly", "split"], 1)
    assert "has no routes" in run("list", policy={**POLICY, "routes": []}).stdout


def test_an_explanation_says_what_decides_what_not_and_in_which_order(run):
    done = run("explain", "--key", "Alice", "--model", HAIKU)
    assert done.exit_code == 0, done.output
    first, *rest = done.stdout.splitlines()
    assert first == f"vk-alice asks anthropic for {HAIKU}: route split"
    assert rest[0] == "  not by route nightly: its condition virtual_key does not hold"
    assert rest[1] == "  at most 3 attempts, again on connect, timeout, reset, 408, 429, 5xx, 529"
    assert [c.strip() for c in cells(rest[3])] == ["1", f"anthropic/{HAIKU}", "main", "80%", "0.8", "0.8", "closed"]
    assert [c.strip() for c in cells(rest[4])] == ["2", f"openai/{MINI}", "main", "20%", "0.2", "0.2", "closed"]


def test_what_the_key_may_not_use_is_in_the_table_with_the_reason(run):
    done = run("explain", "--key", "vk-bob", "--model", HAIKU, "--class", "subagent", "--session", "s1", "--provider", "anthropic")
    assert done.exit_code == 0, done.output
    assert "Provider 'anthropic' is not allowed for this virtual key" in done.stdout
    found = json.loads(
        run("explain", "--key", "vk-bob", "--model", HAIKU, "--session", "s1", "--class", "subagent", "--json").stdout
    )
    assert [(t["provider"], t["position"]) for t in found["targets"]] == [("openai", 1), ("anthropic", None)]
    assert (found["session_id"], found["class"]) == ("s1", "subagent")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["explain", "--key", "vk-bob", "--model", "gpt-4.1"], 1, "refused: Model 'gpt-4.1' is not allowed"),
        (["explain", "--key", "nobody", "--model", HAIKU], 1, "there is no virtual_key 'nobody'"),
        (["explain", "--key", "vk-bob", "--model", HAIKU, "--provider", "antropic"], 1, "did you mean anthropic"),
        (["explain", "--model", HAIKU], 2, "--key"),
        (["explain", "--key", "vk-bob"], 2, "--model"),
    ],
    ids=["refused", "unknown key", "unknown provider", "no key", "no model"],
)
def test_what_goes_wrong_is_said_with_the_status(run, words, code, message):
    done = run(*words)
    assert (done.exit_code, message in done.stderr) == (code, True), done.output


def test_a_refused_call_ends_with_its_status_in_json_too(run):
    done = run("explain", "--key", "vk-bob", "--model", "gpt-4.1", "--json")
    assert (done.exit_code, json.loads(done.stdout)["refusal"] is not None) == (1, True)


def test_without_a_running_gateway_the_command_says_what_it_judges_by(run):
    policy = {**POLICY, "providers": {"openai": {"keys": [{"name": "main", "value": "env.NOT_SET"}]}}, "routes": []}
    done = run("explain", "--key", "vk-bob", "--model", MINI, policy=policy)
    assert done.exit_code == 1
    said, refused = done.stderr.splitlines()
    assert said.startswith("judged by the policy file and this shell's environment, not by a running gateway")
    assert refused == "refused: Provider 'openai' has no usable key: main (env.NOT_SET) is not set on the gateway's machine"
