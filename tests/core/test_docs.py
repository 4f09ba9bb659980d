"""Documents: what they name exists, and what exists they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sluicegate.call import Reason
from sluicegate.loader import load
from sluicegate.services import Services

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def house(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text((ROOT / "policies/acme.yaml").read_text())
    services = Services(policy, tmp_path / "state", {}, clock=lambda: 1_000)
    yield services
    services.close()


def test_the_tables_of_metrics_name_what_there_is_and_nothing_else(house):
    names = set(re.findall(r"^# TYPE (\S+)", house.metrics.render().decode(), re.MULTILINE))
    documented = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    assert names == documented


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


def test_nothing_tracked_names_a_machine_or_an_index():
    bad = re.compile(r"/(root|home)/[a-z]|file:///|https?://[^ ]*/simple\b|https?://registry")
    for folder in ("addons", "policies", "scripts", "docs", ".ci"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and file.suffix in (".py", ".yaml", ".md", ".json", "") and "__pycache__" not in str(file):
                assert not bad.search(file.read_text()), file
