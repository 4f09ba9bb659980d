"""Labels, repositories and trust on the command line, and calls added up by them."""

from __future__ import annotations

import json

import pytest
import yaml

from sluicegate.calls.adjustment import adjustment_of
from sluicegate.calls.record import COLUMNS
from sluicegate.cli.main import app
from sluicegate.limits.ledger import Ledger
from sluicegate.storage.store import FILENAME, Rows, Store
from sluicegate.windows import iso, parse_iso
from support.command import CliRunner

T0 = parse_iso("2026-02-01")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Run commands on a policy file of its own; ``section`` reads it."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "version: 1\nteams: [{id: core, labels: {site: Berlin}}]\nvirtual_keys: [{id: k, value_hash: 'sha256:" + "0" * 64 + "'}]\n"
    )
    monkeypatch.setenv("SLUICEGATE_POLICY", str(policy))
    monkeypatch.setenv("SLUICEGATE_STATE", str(tmp_path / "state"))

    def run(*words, code=0):
        done = CliRunner().invoke(app, [*words])
        assert done.exit_code == code, done.output + done.stderr
        return done.stdout + done.stderr

    def entity(section, entity_id):
        return next(e for e in yaml.safe_load(policy.read_text())[section] if e["id"] == entity_id)

    return run, entity


def test_labels_are_given_changed_and_removed_one_by_one(site):
    run, entity = site
    run("team", "set", "core", "--label", "cost_center=47 11, a=b", "--label", "for=all")
    assert entity("teams", "core")["labels"] == {"site": "Berlin", "cost_center": "47 11, a=b", "for": "all"}
    assert "site=Berlin, cost_center=47 11, a=b, for=all" in run("team", "show", "core")
    run("team", "set", "core", "--label", "site=", "--label", "for=none")
    assert entity("teams", "core")["labels"] == {"cost_center": "47 11, a=b"}
    run("team", "set", "core", "--label", "cost_center=")
    assert not entity("teams", "core").get("labels")
    for kind, entity_id in (("customer", "acme"), ("user", "ann"), ("project", "apollo")):
        run(kind, "create", entity_id.title(), "--id", entity_id, "--label", "n=1")
        assert entity(f"{kind}s", entity_id)["labels"] == {"n": "1"}
    run("key", "create", "k2", "--label", "n=2", "--trust-project-header", "known")
    run("key", "set", "k", "--label", "n=1", "--trust-project-header", "any")
    assert entity("virtual_keys", "k2")["labels"] == {"n": "2"}
    assert (entity("virtual_keys", "k")["labels"], entity("virtual_keys", "k")["trust_project_header"]) == ({"n": "1"}, "any")
    run("key", "set", "k", "--trust-project-header", "none")
    assert "trust_project_header" not in entity("virtual_keys", "k")


def test_the_repositories_of_a_project(site):
    run, entity = site
    run("project", "create", "Apollo", "--id", "apollo", "--repository", "github.com/acme/API", "--repository", "git.acme.test/*")
    assert entity("projects", "apollo")["repositories"] == ["github.com/acme/API", "git.acme.test/*"]
    assert "github.com/acme/api, git.acme.test/*" in run("project", "show", "apollo")
    run("project", "set", "apollo", "--repository", "none")
    assert "repositories" not in entity("projects", "apollo")
    run("project", "create", "B", "--id", "b", "--repository", "git.acme.test/*")
    assert "is a repository of a project already" in run("project", "set", "apollo", "--repository", "git.acme.test/*", code=1)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("team", "set", "core", "--label", "cost_center"), 2, "--label cost_center: write a name, an equals sign and a value"),
        (("team", "set", "core", "--label", "a=1", "--label", "a=2"), 2, "'a' is given twice"),
        (("team", "set", "core", "--label", "9=1"), 1, "not a label's name"),
        (("team", "set", "core", "--repository", "x"), 2, "No such option"),
        (("project", "create", "P", "--repository", "https://github.com/acme/api"), 1, "without scheme and .git"),
        (("key", "set", "k", "--trust-project-header", "all"), 1, "trust_project_header"),
        (("usage", "--by", "colour"), 2, "write one of key, user"),
        (("usage", "--by", "label:a b"), 2, "not a label's name"),
        (("usage", "--by", "team", "--from", "yesterday"), 2, "must be a day"),
        (("usage", "--from", "2026-02-01"), 2, "go with --by"),
        (("usage", "--by", "team"), 1, "no gateway has recorded anything"),
    ],
)
def test_wrong_use_is_said(site, words, code, says):
    assert says in site[0](*words, code=code)


def test_calls_are_added_up_by_label_and_by_project(site, tmp_path):
    run, _ = site
    (tmp_path / "state").mkdir(mode=0o700)
    store = Store(tmp_path / "state" / FILENAME)
    base = dict.fromkeys(COLUMNS) | {
        "latency_ms": 1,
        "outcome": "completed",
        "input_tokens": 7,
        "output_tokens": 3,
        "team_id": "core",
    }
    said = [
        ('{"cost_center":"4711"}', "apollo", 2_000_000_000, 0),
        ('{"cost_center":"4711","a":"b"}', None, 1, 1),
        ('{"a":"b"}', "apollo", 5_000_000_000, 2),
        (None, None, 1_000_000_000, 3),
        ('{"cost_center":"4711"}', "apollo", 9_000_000_000, 40),
    ]
    rows = [
        base
        | {"id": f"call_{n}", "started_at": iso(T0 + day * 86_400_000), "labels": labels, "project_id": project, "cost_nano": nano}
        for n, (labels, project, nano, day) in enumerate(said)
    ]
    made = [
        adjustment_of("adj_1", T0, -500_000_000, reason="", actor="dana", policy_revision="r", call_id="call_0"),
        adjustment_of("adj_2", T0, 250_000_000, reason="", actor="dana", policy_revision="r", project_id="apollo"),
    ]
    store.write(Ledger().take_changes(), Rows(rows, adjustments=made))
    store.close()
    period = ("--from", "2026-02-01", "--to", "2026-02-28")

    def sums(by):
        return {
            r["name"]: (r["calls"], r["tokens"], r["cost_usd"])
            for r in json.loads(run("usage", "--by", by, *period, "--json"))["sums"]
        }

    assert sums("label:cost_center") == {"4711": (2, 20, "1.500000001"), None: (2, 20, "6.25")}
    assert sums("project") == {"apollo": (2, 20, "6.75"), None: (2, 20, "1.000000001")}
    assert sums("team") == {"core": (4, 40, "7.500000001"), None: (0, 0, "0.25")}
    shown = run("usage", "--by", "label:cost_center", *period)
    assert shown.splitlines()[1].split() == ["none", "2", "20", "$6.25"]
    assert "from 2026-02-01T00:00 to 2026-02-28T23:59, UTC" in shown
