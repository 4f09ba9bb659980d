"""Documents: what they name exists, and what exists they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sluicegate.call import Principal, Reason
from sluicegate.loader import load
from sluicegate.logs.parameters import EXPORT, FILTERS, PAGING, RANKING
from sluicegate.metrics import Metrics
from sluicegate.services import Services

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def house(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text((ROOT / "policies/acme.yaml").read_text())
    services = Services(policy, tmp_path / "state", {}, clock=lambda: 1_000)
    yield services
    services.close()


def test_the_table_of_metrics_is_complete(house):
    house.metrics.observe(
        dict.fromkeys(("virtual_key_id", "reason", "ttft_ms"))
        | {
            "provider": "anthropic",
            "model_served": "m",
            "model_requested": "m",
            "outcome": "completed",
            "cost_nano": 5,
            "latency_ms": 7,
            "ttft_ms": 3,
        }
        | {"input_tokens": 1, "output_tokens": 1, "cache_read_tokens": 1, "cache_write_5m_tokens": 0, "cache_write_1h_tokens": 0}
    )
    names = set(re.findall(r"^# TYPE (\S+)", house.metrics.render().decode(), re.MULTILINE))
    names = {n for n in names if not n.endswith("_created")}
    documented = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    assert names == documented


def test_invented_model_names_do_not_grow_the_metrics(house):
    metrics = Metrics(house)
    for i in range(400):
        assert metrics._model(f"made-up-{i}", "denied") == "other"
        metrics._model(f"served-{i}", "completed")
    assert len(metrics._models) == 200


def test_the_readme_names_every_reason_and_only_files_that_exist():
    text = (ROOT / "README.md").read_text()
    assert {r.value for r in Reason} <= set(re.findall(r"`(\w+)`", text))
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
    for script in re.findall(r"scripts/\w+", text):
        assert (ROOT / script).exists(), script


def test_the_parameters_of_the_logs_are_those_in_their_document():
    text = (ROOT / "docs/logs.md").read_text()
    tables = {"Which calls": FILTERS, "Pages": PAGING, "Exports": EXPORT, "Rankings": RANKING}
    sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    for title, parameters in tables.items():
        rows = re.findall(r"^\| `.*", sections[title], re.MULTILINE)
        assert rows == [
            f"| `{p.names[0]}` | {', '.join(f'`{n}`' for n in p.names[1:])} | {p.help}{', a list' if p.many else ''} |"
            for p in parameters.values()
        ]


def test_the_policy_in_the_document_of_the_logs_is_one(tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/logs.md").read_text(), re.DOTALL)
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\n" + block)
    policy = load(file, env={}, now=0)
    assert policy.content_retention == 30 * 86_400_000
    assert policy.keeps_content(Principal("vk", team_id="team-engineering"))
    assert not policy.keeps_content(Principal("vk", team_id="other"))


def test_the_readmes_policy_is_one(tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nteams: [{id: team-engineering}]\n" + block)
    assert load(file, env={}, now=0).virtual_keys["vk-dev-alice"].team_id == "team-engineering"


def test_nothing_tracked_names_a_machine_or_an_index():
    bad = re.compile(r"/(root|home)/[a-z]|file:///|https?://[^ ]*/simple\b|https?://registry")
    for folder in ("addons", "policies", "scripts", "docs", ".ci"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and file.suffix in (".py", ".yaml", ".md", ".json", "") and "__pycache__" not in str(file):
                assert not bad.search(file.read_text()), file
