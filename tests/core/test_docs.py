"""Documents: what they name exists, and what exists they name."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from sluicegate.alerts.alert import Alert, alert_fields, build_headers
from sluicegate.logs.parameters import EXPORT, FILTERS, PAGING, RANKING
from sluicegate.policy.entities import KINDS
from sluicegate.policy.loader import load
from sluicegate.policy.schema import PolicyFile
from sluicegate.providers import PROTOCOLS
from sluicegate.services import Services
from sluicegate.values import NANO, Principal, Reason
from sluicegate.web.app import endpoints
from sluicegate.windows import parse_iso
from sluicegate.yaml_document import parse, read_data
from support import package_table, policy_page
from support.provider_table import table
from support.sources import tree

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def services(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text((ROOT / "policies/acme.yaml").read_text())
    services = Services(policy, tmp_path / "state", {}, clock=lambda: 1_000)
    yield services
    services.close()


def test_the_tables_of_metrics_name_what_there_is_and_nothing_else(services):
    names = set(re.findall(r"^# TYPE (\S+)", services.metrics.render().decode(), re.MULTILINE))
    documented = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    assert names == documented


def test_the_page_of_refusals_names_every_reason():
    assert {r.value for r in Reason} <= set(re.findall(r"`(\w+)`", (ROOT / "docs/refusals.md").read_text()))


PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_pages_name_only_files_that_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https:") or (page.parent / target).exists(), target
    for script in re.findall(r"scripts/\w+", text):
        assert (ROOT / script).exists(), script


def test_the_readme_leads_to_every_page():
    linked = set(re.findall(r"\]\((docs/[^)#]+\.md)", (ROOT / "README.md").read_text()))
    assert linked == {str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md")}


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md", "docs/security.md"])
def test_pages_for_contributors_name_only_modules_that_exist(page):
    tree = {str(p.relative_to(ROOT)) for p in ROOT.rglob("*.py") if ".venv" not in p.parts}
    names = re.findall(r"(?<![\w*])(?:[\w./]+/)?\w+\.py\b", (ROOT / page).read_text())
    assert len(names) > 5
    for name in set(names) - {"addons/sluicegate/providers/NAME.py"}:
        assert any(path == name or path.endswith(f"/{name}") for path in tree), name


def test_the_page_for_contributors_names_what_stands_in_the_file_that_it_names():
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text().split())
    places = re.findall(r"`(\w+)`(?: and `(\w+)`)? (?:there )?in `([\w./]+\.py)`", text)
    assert len(places) > 4
    for *names, path in places:
        (file, *_) = [p for p in (ROOT / path, ROOT / "addons" / path, ROOT / "addons/sluicegate" / path) if p.exists()]
        for name in filter(None, names):
            assert re.search(rf"\b{name}\b", file.read_text()), f"{name} is not in {path}"
    written = "\n".join(p.read_text() for folder in ("addons", "tests") for p in (ROOT / folder).rglob("*.py"))
    for name in re.findall(r"`(_?[A-Z]\w*[a-z_]\w*|_?[A-Z]{3,}[A-Z_]*)`", text):
        assert re.search(rf"\b{name}\b", written), name


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
    assert policy.stores_content(Principal("vk", team_id="team-engineering"))
    assert not policy.stores_content(Principal("vk", team_id="other"))


def test_the_readmes_policies_are_ones(tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    file = tmp_path / "policy.yaml"
    file.write_text("".join(blocks))
    loaded = load(file, env={"SLACK_URL": "https://hooks.example.com/a"}, now=0)
    assert loaded.virtual_keys["vk-dev-alice"].team_id == "team-engineering"
    assert [w.name for w in loaded.alerts.webhooks] == ["finance"]


def test_the_page_about_endpoints_shows_a_policy_and_every_listed_request(tmp_path):
    page = (ROOT / "docs/endpoints.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    loaded = load(file, env={"ANTHROPIC_API_KEY": "k"}, now=0)
    assert loaded.providers["anthropic"].kind_of("GET", "/v1/files/file_1/content") == "allowed"
    assert (loaded.free_request_max_limit, loaded.warnings) == (600, ())
    for provider in ("anthropic", "openai"):
        for endpoint, kind in PROTOCOLS[provider].endpoints.rows:
            if kind == "messages":
                assert f"{endpoint.path}`" in page


def test_the_page_about_providers_has_the_table_of_the_data_and_policies_that_load(tmp_path):
    page = (ROOT / "docs/providers.md").read_text()
    assert table() in page
    env = dict.fromkeys(re.findall(r"env\.([A-Z_]+)", page), "k") | {"VERTEX_CREDENTIALS": '{"type": "service_account"}'}
    for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        file = tmp_path / "policy.yaml"
        file.write_text("version: 1\n" + text)
        loaded = load(file, env=dict.fromkeys(re.findall(r"env\.(\w+)", text), "k") | env, now=0)
        assert (len(loaded.providers) > 3, loaded.warnings) == (True, ())


def test_the_page_about_alerts_says_what_is_true(tmp_path):
    """Its policy is one, its message has the fields that are sent, its check believes what we sign and nothing else."""
    page = (ROOT / "docs/alerts.md").read_text()
    (policy,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\n" + policy)
    env = {"SLACK_URL": "https://hooks.example.com/a", "OPS_URL": "https://ops.example.com/", "OPS_SECRET": "s"}
    loaded = load(file, env=env, now=0)
    assert [(w.name, w.format, w.secret) for w in loaded.alerts.webhooks] == [("finance", "slack", None), ("ops", "json", "s")]
    assert loaded.warnings == ()
    assert [limit.thresholds for limit in loaded.all_limits()] == [(90, 100)]
    (message,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    shown = json.loads(message)
    alert = Alert(
        shown["alert_id"],
        parse_iso(shown["at"]),
        *(shown[n] for n in ("kind", "id", "window", "enforcement", "threshold")),
        *(int(Decimal(shown[n]) * NANO) for n in ("used_usd", "limit_usd")),
        *(parse_iso(shown[n]) for n in ("starts_at", "resets_at")),
        shown["policy_revision"],
    )
    assert alert_fields(alert) == shown
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    there: dict[str, Any] = {}
    exec(code, there)
    header = build_headers(loaded.alerts.webhooks[1], "id", b"body", 1_000)["x-sluicegate-signature"]
    assert there["signed"](header, b"body", "s")
    assert not there["signed"](header, b"bodi", "s")
    for target in re.findall(r"\]\(([^)#]+)\)", page + (ROOT / "docs/metrics.md").read_text()):
        assert (ROOT / "docs" / target).exists(), target


def test_every_row_of_the_api_is_in_its_document_and_no_other():
    kinds = [k.path for k in KINDS.values()]
    documented = set()
    for path, methods in re.findall(r"^\| `(/\S*)` \| ([A-Z, ]+) \|", (ROOT / "docs/api.md").read_text(), re.MULTILINE):
        for kind in kinds if "{kind}" in path else [""]:
            documented |= {(path.replace("{kind}", kind), method) for method in methods.split(", ")}
    documented -= {("/api/governance/providers", "POST")}
    served = set()
    for endpoint in endpoints(Path()):
        path = endpoint.path.replace(":path", "")
        path = re.sub(r"/histogram/\w+/by-[\w-]+$", "/histogram/{measure}/by-{dimension}", path)
        path = re.sub(r"/histogram/\w+$", "/histogram/{measure}", path)
        served |= {(path, endpoint.method)} if endpoint.is_documented else set()
    assert served == documented


def test_nothing_tracked_names_a_machine_or_an_index():
    bad = re.compile(r"/(root|home)/[a-z]|file:///|https?://[^ ]*/simple\b|https?://registry")
    for folder in ("addons", "policies", "scripts", "docs", "deploy", ".ci"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and file.suffix in (".py", ".yaml", ".yml", ".md", ".json", "") and "__pycache__" not in str(file):
                assert not bad.search(file.read_text()), file


def test_the_glossary_has_each_module_in_the_words_of_its_docstring_and_no_other():
    text = (ROOT / "docs/glossary.md").read_text()
    listed = dict(re.findall(r"^\| `((?:\w+/)*\w+\.py)` \| (.+) \|$", text, re.MULTILINE))
    addons = ROOT / "addons"
    first = {
        str(p.relative_to(addons)): " ".join((ast.get_docstring(tree(p)) or "").split("\n\n")[0].split())
        for p in addons.rglob("*.py")
        if p.name != "__init__.py"
    }
    assert listed == {path: words.replace("``", "`") for path, words in first.items()}
    terms = re.findall(r"^\| ([a-z][^|`]*) \| \S", text.partition("## Modules")[0], re.MULTILINE)[1:]
    assert terms == sorted(terms, key=str.lower)
    assert {"virtual key", "scope", "window", "reservation", "settlement", "journal"} <= set(terms)


def test_the_page_on_architecture_has_every_package_of_the_core_in_the_words_of_its_docstring():
    text = (ROOT / "docs/architecture.md").read_text()
    assert package_table.table() in text, "scripts/docs writes it"


# -- the policy reference ----------------------------------------------------------------------------------------------


def test_the_policy_reference_is_the_one_that_the_schema_gives():
    assert (ROOT / "docs/policy.md").read_text() == policy_page.page(), "scripts/docs writes it"


def test_the_policy_reference_has_a_section_for_every_model_of_the_schema():
    assert {model.__name__ for _, model, _ in policy_page.SECTIONS} == {*PolicyFile.model_json_schema()["$defs"], "PolicyFile"}


def models_in(value: object) -> Iterator[BaseModel]:
    if isinstance(value, BaseModel):
        yield value
        value = [getattr(value, name) for name in type(value).model_fields]
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from models_in(one)


@pytest.mark.parametrize("model", [model for _, model, _ in policy_page.SECTIONS], ids=lambda m: m.__name__)
def test_the_example_of_a_section_is_a_policy_in_which_each_of_its_fields_occurs(model):
    document = parse(read_data(policy_page.EXAMPLES)[model.__name__].encode(), "example")
    assert document.problems == []
    policy = PolicyFile.model_validate({"version": 1} | document.value)
    assert {name for one in models_in(policy) if type(one) is model for name in one.model_fields_set} == {*model.model_fields}


def test_the_example_of_the_whole_file_is_a_policy(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(read_data(policy_page.EXAMPLES)["PolicyFile"])
    loaded = load(file, env={"ANTHROPIC_API_KEY": "k", "ALICE_KEY": "v", "OIDC_SECRET": "s"}, now=0)
    assert (loaded.virtual_keys["vk-dev-alice"].team_id, loaded.warnings) == ("team-engineering", ())
