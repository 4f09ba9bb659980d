"""``sluicegate providers``: what the policy governs, and what else is known."""

from __future__ import annotations

import json

from sluicegate.cli.main import app
from sluicegate.providers.known import known_providers
from support.command import CliRunner

POLICY = """version: 1
providers:
  groq: {keys: [{name: a, value: env.GROQ_KEY}, {name: b, value: env.UNSET_KEY}]}
  deepseek: {base_url: 'https://api.deepseek.com/v1'}
  ollama: {}
"""


def test_the_policy_s_providers_are_listed_with_what_reaches_them(tmp_path, monkeypatch):
    monkeypatch.setenv("GROQ_KEY", "gsk-secret")
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    done = CliRunner().invoke(app, ["providers", "--policy", str(file), "--json"])
    rows = {row["provider"]: row for row in json.loads(done.stdout)["providers"]}
    assert list(rows) == ["anthropic", "openai", "gemini", "groq", "deepseek", "ollama"]
    assert {name: (row["path"], row["keys"]) for name, row in rows.items()} == {
        "anthropic": ("/anthropic", "0 of 0 usable"),
        "openai": ("/openai", "0 of 0 usable"),
        "gemini": ("/genai", "0 of 0 usable"),
        "groq": ("/groq", "1 of 2 usable"),
        "deepseek": ("/deepseek", "0 of 0 usable"),
        "ollama": ("/ollama", "none needed"),
    }
    assert rows["groq"]["base_url"] == "https://api.groq.com:443/openai"
    assert (rows["groq"]["hosts"], rows["ollama"]["hosts"]) == (["api.groq.com"], ["localhost:11434"])
    table = CliRunner().invoke(app, ["providers", "--policy", str(file)]).stdout
    assert "gsk-secret" not in table + done.stdout
    assert table.count("\n") == 7


def test_a_policy_that_cannot_be_read_is_said_so(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nproviders: {mine: {}}")
    done = CliRunner().invoke(app, ["providers", "--policy", str(file)])
    assert done.exit_code == 1
    assert "'mine' is not a provider" in done.stderr


def test_the_known_providers_are_listed_without_a_policy():
    rows = json.loads(CliRunner().invoke(app, ["providers", "--known", "--json"]).stdout)["providers"]
    assert [row["provider"] for row in rows] == list(known_providers())
    assert next(row for row in rows if row["provider"] == "groq")["variable"] == "GROQ_API_KEY"
    table = CliRunner().invoke(app, ["providers", "--known"]).stdout
    assert "DeepSeek" in table
    assert "AWS_BEARER_TOKEN_BEDROCK" in table
    assert "not yet" not in table
