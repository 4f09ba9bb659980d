"""Documents: what they name exists, and what exists they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sluicegate.call import Reason
from sluicegate.entities import KINDS
from sluicegate.loader import load
from sluicegate.metrics import Metrics
from sluicegate.services import Services
from sluicegate.web.api import Table
from sluicegate.web.app import build

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


def test_the_readmes_policy_is_one(tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nteams: [{id: team-engineering}]\n" + block)
    assert load(file, env={}, now=0).virtual_keys["vk-dev-alice"].team_id == "team-engineering"


def test_every_row_of_the_api_is_in_its_document_and_no_other(house, tmp_path):
    kinds = [k.path for k in KINDS.values()]
    documented = set()
    for path, methods in re.findall(r"^\| `(/api/\S+)` \| ([A-Z, ]+) \|", (ROOT / "docs/api.md").read_text(), re.MULTILINE):
        for kind in kinds if "{kind}" in path else [""]:
            documented |= {(path.replace("{kind}", kind), method) for method in methods.split(", ")}
    documented -= {("/api/governance/providers", "POST")}
    tables = [route for route in build(house, tmp_path / "ca.pem").routes if isinstance(route, Table)]
    assert {(row.path.replace(":path", ""), row.method) for table in tables for row in table.rows} == documented


def test_nothing_tracked_names_a_machine_or_an_index():
    bad = re.compile(r"/(root|home)/[a-z]|file:///|https?://[^ ]*/simple\b|https?://registry")
    for folder in ("addons", "policies", "scripts", "docs", ".ci"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and file.suffix in (".py", ".yaml", ".md", ".json", "") and "__pycache__" not in str(file):
                assert not bad.search(file.read_text()), file
