"""Prompt-cache care on the wire: a provider that caches prefixes by its own rules, behind a real gateway, and what is said of it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from sluicegate.cli.main import app
from support.agent_prompts import Claude
from support.caching_provider import CachingProvider, lose_the_cache_once
from support.fake_provider import FakeProvider
from support.harness import VK, Gateway, policy_text
from support.prompt_cases import nano

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """One gateway, a provider that caches, and a conversation that has lost its cache once, by a date."""
    script = CachingProvider()
    with FakeProvider(script) as provider, Gateway(tmp_path_factory.mktemp("cache"), policy_text(provider.url)) as gw:
        agent = Claude(21)
        lose_the_cache_once(gw, agent)
        yield gw, script, agent


def test_the_block_that_changed_is_named_over_rest_with_what_it_cost(scene):
    gw, script, agent = scene
    shown = gw.admin("/api/sessions/session-7/prompt-cache").json
    (found,) = shown["findings"]
    assert (found["cause"], found["level"], found["position"]) == ("system_changed", "system", 4)
    size = len(json.dumps({"type": "text", "text": agent.system[2]}, separators=(",", ":")))
    assert found["message"] == f"system block 4 changed, {size} bytes"
    assert (found["user_id"], found["virtual_key_id"], found["model"]) == ("alice", VK, "claude-opus-5-5")
    lost = script.used[2].read + script.used[2].write_5m - script.used[3].read
    assert found["lost_tokens"] == lost
    assert float(found["lost_usd"]) == pytest.approx(lost * (5 - 0.20) / 1e6)
    ids = [row["id"] for row in gw.calls(len(script.used))]
    assert (found["call_id"], found["before_call_id"]) == (ids[3], ids[2])
    totals = shown["totals"]
    assert (totals["calls"], totals["breaks"]) == (5, 1)
    assert totals["read_tokens"] == sum(used.read for used in script.used)
    assert nano(agent.model, script.used[3]) > 1e9 * float(found["lost_usd"])


def test_sums_are_by_user_and_week_and_a_key_sees_its_own(scene):
    gw, _, _ = scene
    everything = gw.admin("/api/prompt-cache?days=1&user_id=alice").json
    (week,) = everything["weeks"]
    assert (week["user_id"], week["breaks"], week["lost_usd"]) == ("alice", 1, everything["causes"][0]["lost_usd"])
    assert gw.admin("/api/prompt-cache?user_id=bob").json["totals"]["calls"] == 0
    own = gw.request("GET", "/api/prompt-cache", headers={"authorization": f"Bearer {VK}"})
    assert own.json["totals"]["calls"] == 5


def test_no_word_of_a_prompt_is_kept(scene):
    gw, _, agent = scene
    gw.admin("/api/prompt-cache")
    kept = b"".join(path.read_bytes() for path in gw.state.iterdir() if path.name.startswith("prompt_cache.db"))
    for text in (agent.system[1][:40], "Today is", agent.tools[0]["description"][:30], "NotebookEdit", "input_schema"):
        assert text.encode() not in kept
    assert all(path.stat().st_mode & 0o077 == 0 for path in gw.state.iterdir() if path.name.startswith("prompt_cache.db"))


def test_the_command_shows_it_as_a_table_and_as_json(scene):
    gw, _, _ = scene
    gw.admin("/api/prompt-cache")
    run = CliRunner().invoke
    table = run(app, ["cache", "doctor", "--session", "session-7", "--since", "1d", "--state-dir", str(gw.state)])
    assert table.exit_code == 0, table.output
    assert "system block 4 changed, " in table.output
    assert "1 calls paid again" in table.output
    # The sums of a week are whole, whatever --since says.
    assert "by user and week, from its Monday on:" in table.output
    listed = run(app, ["cache", "doctor", "--user", "alice", "--format", "json", "--limit", "5", "--state-dir", str(gw.state)])
    assert json.loads(listed.output)["findings"][0]["cause"] == "system_changed"
    nobody = run(app, ["cache", "doctor", "--user", "bob", "--state-dir", str(gw.state)])
    assert (nobody.exit_code, nobody.output) == (0, "no call with a prompt cache in the last 7d\n")
    assert run(app, ["cache", "doctor", "--since", "soon", "--state-dir", str(gw.state)]).exit_code == 2
    assert run(app, ["cache", "doctor", "--state-dir", str(gw.state / "none")]).exit_code == 1
