"""The article read to its end: what a developer sets and types, and what is seen of it afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest

from support import article
from support.harness import ROOT, Gateway, eventually, policy_text
from support.real_clients import TIMEOUT_S, program

pytestmark = pytest.mark.wire


def test_every_line_of_the_article_is_tried_or_excepted():
    """Governance by test_article.py, the rest below; what is excepted says why and what works instead."""
    tried = [*article.commands("/api/"), "open http://localhost:8080"]
    tried += ['export ANTHROPIC_API_KEY="vk-dev-alice"', 'export ANTHROPIC_BASE_URL="http://localhost:8080"']
    tried += ['export ANTHROPIC_API_KEY="vk-eng-team"', 'export ANTHROPIC_API_KEY="vk-ds-team"']
    tried += ["ANTHROPIC_API_KEY=vk-dev-alice", "ANTHROPIC_BASE_URL=http://localhost:8080"]
    known = {t.splitlines()[0] for t in tried} | set(article.EXCEPTED)
    assert [x for x in article.lines() if x not in known] == []
    assert set(article.EXCEPTED) <= set(article.lines())
    assert all(x in article.ARTICLE.read_text() for x in article.NOT_HERE)


@pytest.fixture
def day(gateway) -> Gateway:
    """A gateway with the article's keys."""
    budget = {"max_limit": 500, "reset_duration": "1M"}
    keys = [{"id": k, "team_id": "team-engineering", "budget": budget} for k in ("vk-dev-alice", "vk-eng-team", "vk-ds-team")]
    return gateway(policy_text(users=[], virtual_keys=keys))


def printed(gw: Gateway, command: str) -> str:
    """What a command of the article prints, with the credential that curl-setup wrote; only the port is ours."""
    home = {"PATH": os.environ["PATH"], "HOME": str(gw.folder)}
    subprocess.run([ROOT / ".venv/bin/sluicegate", "admin", "curl-setup", "--state-dir", gw.state], env=home, check=True)
    command = command.replace(":8080", f":{gw.port}").replace("curl ", "curl -sS --fail-with-body ", 1)
    done = subprocess.run(["bash", "-c", command], env=home, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (command, done)
    return done.stdout


@pytest.mark.client
def test_the_real_client_with_the_articles_variables(day, tmp_path):
    """As exported in the shell, and from a file of variables."""
    commands = ["create a REST API for user management", "refactor this function"]
    for words in commands:
        said = f'claude-code "{words}"'
        assert said in article.lines()
        assert article.EXCEPTED[said][1] == f'claude -p "{words}"'
    (tmp_path / ".env").write_text(f"ANTHROPIC_API_KEY=vk-eng-team\nANTHROPIC_BASE_URL=http://localhost:{day.port}\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/claude").symlink_to(program("claude-code"))
    env = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    exported = 'export ANTHROPIC_API_KEY="vk-dev-alice"\nexport ANTHROPIC_BASE_URL="http://localhost:8080"'
    for words, variables in zip(commands, (exported, "set -a; . ./.env; set +a"), strict=True):
        script = f'{variables}\nclaude -p "{words}"'.replace(":8080", f":{day.port}")
        done = subprocess.run(
            ["bash", "-c", script],
            env=env,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert (done.returncode, done.stdout.strip()) == (0, "Hello from the simulated provider."), done
    calls = eventually(lambda: len(rows := [r for r in day.rows() if r["model_requested"]]) >= 2 and rows)
    assert [(r["virtual_key_id"], r["outcome"]) for r in calls] == [("vk-dev-alice", "completed"), ("vk-eng-team", "completed")]
    assert all(r["session_id"] and r["cost_nano"] > 0 and r["input_tokens"] + r["cache_write_5m_tokens"] > 0 for r in calls)


def test_logs_dashboard_and_metrics_as_printed(day):
    day.post(key="vk-dev-alice", x_bf_user_id="alice@acme.example")
    day.post(key="vk-eng-team")
    day.calls(2)
    everything, february = article.commands("/api/logs")
    (log,) = json.loads(printed(day, everything))["logs"]
    assert (log["virtual_key_id"], log["user_id"], log["model_requested"]) == (
        "vk-dev-alice",
        "alice@acme.example",
        "claude-opus-5-5",
    )
    assert log["input_tokens"] > 0
    assert log["output_tokens"] > 0
    assert log["cost_nano"] > 0
    assert log["started_at"].startswith(time.strftime("%Y-%m-%dT", time.gmtime()))
    assert log["latency_ms"] >= 0
    assert json.loads(printed(day, february))["logs"] == []
    today = time.strftime("%Y-%m-%d", time.gmtime())
    this = february.replace("2026-02-01", today).replace("2026-02-28", today)
    assert [x["id"] for x in json.loads(printed(day, this))["logs"]] == [log["id"]]
    assert "open http://localhost:8080" in article.lines()
    page = day.request("GET", "/", headers={"accept": "text/html"})
    assert (page.status, page.headers["content-type"].split(";")[0]) == (200, "text/html")
    assert b"<title>" in page.body
    metrics = printed(day, "curl http://localhost:8080/metrics")
    for name in ("bifrost_cost_total{", "budget_usage{", "budget_limit{", "bifrost_requests_total{", "bifrost_tokens_total{"):
        assert name in metrics
    assert 'vk="vk-dev-alice"' in metrics
