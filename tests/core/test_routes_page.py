"""The page about routes: each policy on it is one, each command on it runs, and what it says of them is so."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from sluicegate.calls.plan import FIRST_BACKOFF_MS, MAX_BACKOFF_MS, MAX_HONOURED_WAIT_MS
from sluicegate.cli.main import app
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.loader import load
from sluicegate.policy.routes import Conditions, Retry, Route
from sluicegate.routing import health
from sluicegate.routing.explanation import explain
from sluicegate.routing.router import Router
from sluicegate.routing.selection import Asked
from sluicegate.windows import parse_iso
from support.command import CliRunner

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/routes.md").read_text()
POLICIES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
ENV = {"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "b", "OPENAI_BATCH_KEY": "c"}


def written(folder, *parts):
    file = folder / "policy.yaml"
    file.write_text("version: 1\n" + "".join(parts))
    return file


@pytest.fixture
def split(tmp_path):
    return written(tmp_path, POLICIES[0])


def test_the_keys_providers_split_its_calls_whichever_model_is_asked_for(split):
    policy = load(split, env=ENV, now=0)
    assert all("is a demo key" in warning for warning in policy.warnings)
    for provider, model, first in (
        ("anthropic", "claude-opus-4-8", "claude-opus-4-8"),
        ("openai", "gpt-4o-mini", "claude-haiku-4-5"),
    ):
        found = explain(Router(Ledger()), policy, policy.virtual_keys["vk-split"], Asked(provider, model), 0)
        assert [(t["model"], t["share"], t["key_names"]) for t in found["targets"]] == [
            (first, 0.8, ["main"]),
            ("gpt-4o-mini", 0.2, ["batch"]),
        ]


def test_its_routes_are_ones(tmp_path):
    routes = POLICIES[1] + "virtual_keys: [{id: vk, team_id: team-engineering, budget: {max_limit: 1, reset_duration: 1M}}]\n"
    policy = load(written(tmp_path, routes), env=ENV, now=0)
    assert [r.name for r in policy.routes] == ["cheap-helpers", "spare"]
    asked = Asked("anthropic", "claude-opus-4-8", request_class="subagent")
    night, key = parse_iso("2026-11-27T23:00:00Z"), policy.virtual_keys["vk"]
    router = Router(Ledger())
    assert [r["unmet"] for r in explain(router, policy, key, asked, night)["routes"]] == ["budget_used_above", None]
    assert [r["unmet"] for r in explain(router, policy, key, asked, night + 12 * 3_600_000)["routes"]] == ["hours", None]
    found = explain(router, policy, key, asked, night)
    assert (found["route"], [t["share"] for t in found["targets"]]) == ("spare", [1.0, 0.0])


def test_it_names_every_field():
    table = PAGE[PAGE.index("| field | what |") : PAGE.index("A request may name")]
    named = set(re.findall(r"`([\w.]+)`", table))
    fields = {f.alias or n for n, f in Conditions.model_fields.items()} | set(Route.model_fields) - {"name"}
    assert fields | {f"retry.{n}" for n in Retry.model_fields} <= named | {"retry"}


def test_its_numbers_are_those_in_the_code():
    assert (FIRST_BACKOFF_MS, MAX_BACKOFF_MS, MAX_HONOURED_WAIT_MS) == (250, 8_000, 20_000)
    assert (health.HALF_LIFE_MS, health.OPEN_MS, health.OPENING_FAILURES, health.MIN_FACTOR) == (60_000, 30_000, 5, 0.05)


(SHELL,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("line", SHELL.splitlines())
def test_its_commands_run(split, line):
    words = [str(split) if w == "policy.yaml" else w for w in shlex.split(line)[1:]]
    words += ["--state-dir", str(split.parent / "state")] + ([] if "--policy" in words else ["--policy", str(split)])
    done = CliRunner().invoke(app, words, env=ENV)
    assert done.exit_code == 0, done.output
    if "--json" in words:
        assert [t["model"] for t in json.loads(done.stdout)["targets"]] == ["claude-opus-4-8", "gpt-4o-mini"]


def test_the_example_in_the_commented_policy_is_one(tmp_path):
    acme = (ROOT / "policies/acme.yaml").read_text()
    example = re.search(r"^# routes:\n(# .*\n)+", acme, re.MULTILINE)
    policy = load(written(tmp_path, re.sub(r"(?m)^# ", "", example[0]), "teams: [{id: team-engineering}]"), env=ENV, now=0)
    assert [len(r.targets) for r in policy.routes] == [2]
