"""``sluicegate prices``: what models cost, where each price comes from, and importing newer ones."""

from __future__ import annotations

import json
from functools import cache

import pytest

from sluicegate.cli.main import app
from sluicegate.pricing import bundled
from sluicegate.pricing.prices import Prices
from sluicegate.values import Usage
from sluicegate.windows import parse_iso
from support.command import CliRunner

TABLE = {
    "claude-opus-5-5": {
        "litellm_provider": "anthropic",
        "input_cost_per_token": 5e-06,
        "output_cost_per_token": 2e-05,
        "cache_read_input_token_cost": 2e-07,
        "cache_creation_input_token_cost": 5e-06,
        "cache_creation_input_token_cost_above_1hr": 8e-06,
    },
    "claude-haiku-4-5": {
        "litellm_provider": "anthropic",
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 5e-06,
        "cache_read_input_token_cost": 1e-07,
        "cache_creation_input_token_cost": 1.25e-06,
        "cache_creation_input_token_cost_above_1hr": 2e-06,
    },
    "gpt-6.2-sol": {"litellm_provider": "openai", "input_cost_per_token": 2e-06, "output_cost_per_token": 1e-05},
}


@pytest.fixture(autouse=True, scope="module")
def listed_once():
    """What the library lists is the same for all commands and takes half a second: a process of its own would run only one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundled, "all_prices", cache(bundled.all_prices))
        yield


@pytest.fixture
def run(tmp_path):
    """Run a command on a policy of its own."""
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    (tmp_path / "table.json").write_text(json.dumps(TABLE))

    def run(*words, **options):
        words = [str(tmp_path / w) if w == "table.json" else w for w in words]
        return CliRunner().invoke(app, ["prices", *words, "--policy", str(tmp_path / "policy.yaml")], **options)

    return run


def rows(output):
    return [" ".join(line.split()) for line in output.splitlines()]


def test_list_has_every_tier_and_its_table(run):
    done = run("list", "--model", "gpt-6.1-sol")
    assert done.exit_code == 0
    assert rows(done.output) == [
        "model prompt input write 5m write 1h read output from",
        "gpt-6.1-sol 2 2.5 2.5 0.1 10 genai-prices",
        "gpt-6.1-sol > 272,000 4 5 5 0.2 15 genai-prices",
    ]
    # Only what is in force now, and our own entry rather than the library's.
    assert rows(run("list", "--model", "claude-sonnet-5-5").output)[1:] == ["claude-sonnet-5-5 2 2.5 4 0.1 10 own"]
    found = json.loads(run("list", "--json").output)["prices"]
    assert len(found) > 200
    assert {p["origin"] for p in found} == {"own", "genai-prices"}
    none = run("list", "--model", "nobodys-*")
    assert (none.exit_code, none.stdout) == (1, "")
    assert "no table has a model that matches 'nobodys-*'" in none.stderr


def test_show_has_every_component(run):
    text = rows(run("show", "claude-opus-5-5").output)
    assert text[0] == "claude-opus-5-5: from the gateway's own table"
    for line in (
        "standard 4 5 8 0.2 20",
        "fast 8 10 16 0.4 40",
        "service tier batch: 0.5 x standard",
        "inference_geo us: 1.1 x",
        "web search: 10 per 1,000 searches",
        "context window 1,000,000 tokens, at most 128,000 of output",
    ):
        assert line in text
    text = rows(run("show", "gpt-6.1-sol").output)
    for line in (
        "gpt-6.1-sol: from genai-prices",
        "standard > 272,000 4 5 5 0.2 15",
        "priority > 272,000 2026-10-12 8 10 10 0.4 30",
        "file search: 2.5 per 1,000 calls",
        "code interpreter: 0.03 per session",
    ):
        assert line in text
    assert "web search: 35 per 1,000 prompts that searched" in rows(run("show", "gemini-2.5-pro").output)
    assert "service tier flex: 0.5 x standard for input, cache_write_5m, cache_write_1h, output" in rows(
        run("show", "gemini-2.5-pro").output
    )
    assert "claude-sonnet-5-5-20260922: from the gateway's own table (entry 'claude-sonnet-5-5')" in rows(
        run("show", "claude-sonnet-5-5-20260922").output
    )


def test_show_says_when_a_price_is_an_estimate_and_by_what(run):
    text = run("show", "gpt-6.2-sol", "--at", "2026-11-27").output
    assert text.startswith("gpt-6.2-sol: no table has it; estimated by the family gpt-sol: gpt-5.6-sol, the dearest of it\n")
    assert run("show", "qwen3-coder-plus").output.startswith(
        "qwen3-coder-plus: no table has it; estimated by the family qwen: its list"
    )
    shown = json.loads(run("show", "gpt-6.2-sol", "--at", "2026-11-27", "--json").output)
    assert (shown["model"], shown["priced_as"], shown["family"], shown["estimated"]) == (
        "gpt-6.2-sol",
        "gpt-5.6-sol",
        "gpt-sol",
        True,
    )
    in_force = [r for r in shown["rates"] if r["tier"] == "standard" and r["in_force"]]
    assert [(r["above"], r["input"], r["output"]) for r in in_force] == [(0, "4", "20"), (272_000, "8", "30")]
    early = json.loads(run("show", "gemini-4-hydrogen", "--at", "2026-11-30", "--json").output)
    late = json.loads(run("show", "gemini-4-hydrogen", "--at", "2026-12-01", "--json").output)
    assert (early["priced_as"], late["priced_as"]) == ("gemini-3-pro-preview", "gemini-4-argon")
    unknown = run("show", "nobodys-model")
    assert unknown.exit_code == 1
    assert "'nobodys-model' has no price and is of no known family" in unknown.stderr
    assert run("show", "gpt-5", "--at", "soon").exit_code == 2


def test_import_shows_what_would_change_and_changes_nothing(run, tmp_path):
    for extra in ((), ("--dry-run", "--yes")):
        done = run("import", "table.json", "--from", "2026-12-01", *extra)
        assert done.exit_code == 0, done.stderr
        text = rows(done.output)
        assert "changed claude-opus-5-5 standard 4 -> 5 5 8 0.2 20" in text
        assert "new gpt-6.2-sol standard 2 2.5 2.5 2 10" in text
        assert "LiteLLM, from 2026-12-01: 1 new, 1 changed, 1 unchanged" in text
        assert text[-1] == f"nothing was written; --yes writes {tmp_path / 'prices.yaml'}"
        assert not (tmp_path / "prices.yaml").exists()


def test_import_writes_from_a_day_on_and_twice_is_once(run, tmp_path):
    done = run("import", "table.json", "--from", "2026-12-01", "--yes")
    assert done.exit_code == 0, done.stderr
    assert "2 models written; a running gateway takes them within seconds" in done.output
    prices = Prices.load(tmp_path / "prices.yaml")
    for at, dollars in (("2026-11-30T23:59:59", 4), ("2026-12-01", 5)):
        assert prices.cost(Usage(1_000), "claude-opus-5-5", parse_iso(at)) == dollars * 1_000_000
    assert not prices.price("gpt-6.2-sol").is_estimated
    text = (tmp_path / "prices.yaml").read_text()
    again = run("import", "table.json", "--from", "2026-12-01", "--yes")
    assert rows(again.output) == ["LiteLLM, from 2026-12-01: 0 new, 0 changed, 3 unchanged"]
    assert (tmp_path / "prices.yaml").read_text() == text
    assert rows(run("show", "gpt-6.2-sol").output)[0] == "gpt-6.2-sol: from your prices.yaml"


def test_a_price_that_has_not_begun_is_listed_as_it_is_charged(run, tmp_path):
    assert run("import", "table.json", "--model", "gpt-6.2-sol", "--from", "2099-01-01", "--yes").exit_code == 0
    assert rows(run("list", "--model", "gpt-6.2-sol").output)[1:] == ["gpt-6.2-sol 2 2.5 2.5 2 10 operator"]
    assert Prices.load(tmp_path / "prices.yaml").cost(Usage(1_000), "gpt-6.2-sol", parse_iso("2026-12-01")) == 2_000_000


def test_import_by_glob_and_as_json(run, tmp_path):
    done = json.loads(run("import", "table.json", "--model", "claude-*", "--from", "2026-12-01", "--json").output)
    assert (done["table"], done["from"], done["written"], done["unchanged"]) == ("LiteLLM", "2026-12-01", False, 1)
    assert [(m["model"], m["status"], m["before"][0]["input"], m["after"][0]["input"]) for m in done["models"]] == [
        ("claude-opus-5-5", "changed", "4", "5")
    ]
    assert not (tmp_path / "prices.yaml").exists()
    done = json.loads(run("import", "table.json", "--model", "gpt-*", "--json", "--yes").output)
    assert (done["written"], [m["status"] for m in done["models"]], done["models"][0]["before"]) == (True, ["new"], None)
    assert "gpt-6.2-sol" in (tmp_path / "prices.yaml").read_text()


def test_import_refuses_what_it_cannot_use(run, tmp_path):
    (tmp_path / "other.json").write_text('{"a": 1}')
    for words, status, message in (
        (["import", str(tmp_path / "none.json")], 1, "No such file or directory"),
        (["import", str(tmp_path / "other.json")], 1, "neither the data of genai-prices"),
        (
            ["import", "table.json", "--model", "nobodys-*"],
            1,
            "the table has no model with a price per token that matches 'nobodys-*'",
        ),
        (["import", "table.json", "--from", "2026-12-01T13:00:00Z"], 2, "prices begin at midnight UTC"),
        (["import", "table.json", "--from", "soon"], 2, "--from soon: write a day such as 2026-12-01"),
        (["import"], 2, "Missing argument"),
    ):
        done = run(*words)
        assert (done.exit_code, done.stdout) == (status, ""), words
        assert message in done.stderr
    (tmp_path / "prices.yaml").write_text("models: [{model: a}]\n")
    for words in (["list"], ["show", "gpt-5"], ["import", "table.json", "--yes"]):
        done = run(*words)
        assert done.exit_code == 1
        assert "prices.yaml:1: models[0]: an entry needs a model and a list of prices" in done.stderr


def test_a_folder_as_policy_holds_its_prices(tmp_path):
    (tmp_path / "prices.yaml").write_text(
        "models: [{model: ours, prices: [{input: 1, cache_write_5m: 1, cache_write_1h: 1, cache_read: 1, output: 2}]}]\n"
    )
    done = CliRunner().invoke(app, ["prices", "list", "--model", "ours", "--policy", str(tmp_path)])
    assert rows(done.output)[1:] == ["ours 1 1 1 1 2 operator"]
