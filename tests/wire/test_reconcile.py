"""Comparing with the provider's bill: through a running gateway and on its files, from the admin API and from a file."""

from __future__ import annotations

import json
import sqlite3
import subprocess

import pytest

from sluicegate.calls.record import COLUMNS
from sluicegate.cli.main import app as sluicegate
from sluicegate.storage.store import DELETED_BEFORE_MS
from sluicegate.values import NANO, TOKEN_COLUMNS
from sluicegate.windows import DAY_MS, iso, parse_iso
from support.api import Api
from support.command import CliRunner
from support.fake_admin_api import ADMIN_KEY, FakeAdminApi, anthropic_cost, anthropic_usage, openai_cost, openai_usage
from support.harness import OPUS, VK, eventually, policy_text

pytestmark = pytest.mark.wire

START = parse_iso("2026-03-01")


def here(*arguments, **env):
    done = CliRunner().invoke(sluicegate, [*map(str, arguments)], env={"HOME": "/nonexistent"} | env)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def day(number):
    return iso(START + number * DAY_MS)[:10]


@pytest.fixture
def fake():
    with FakeAdminApi() as running:
        yield running


@pytest.fixture
def gw(gateway, fake, tmp_path):
    """Start a gateway with ten days on record, a call of $2.00 on each, and a bill that agrees."""
    (tmp_path / "admin-key").write_text(ADMIN_KEY + "\n")
    configured = {"base_url": fake.url, "admin_key": f"file:{tmp_path}/admin-key"}
    providers = {
        "anthropic": configured,
        "openai": {"base_url": "http://127.0.0.1:9", "admin_key": f"file:{tmp_path}/no-such-file"},
    }
    running = gateway(policy_text(providers=providers))
    base = (
        dict.fromkeys(COLUMNS)
        | dict.fromkeys(TOKEN_COLUMNS, 0)
        | {"provider": "anthropic", "model_requested": OPUS, "virtual_key_id": VK}
    )
    base |= {"outcome": "completed", "estimated": 0, "cost_nano": 2 * NANO, "cost_usd": "2", "output_tokens": 100_000}
    rows = [tuple((base | {"id": f"call_{i}", "started_at": iso(START + i * DAY_MS + 1000)}).values()) for i in range(10)]
    with sqlite3.connect(running.state / "sluicegate.db") as db:
        db.executemany(f"INSERT INTO calls ({','.join(base)}) VALUES ({','.join('?' * len(base))})", rows)
    db.close()
    fake.usage = {day(i): [anthropic_usage(OPUS, key="apikey_ours", output=100_000)] for i in range(10)}
    fake.costs = {day(i): [anthropic_cost(OPUS, "200")] for i in range(10)}
    fake.per_page = 4
    return running


def reconcile(gw, *options):
    common = ("--from", day(0), "--to", day(9), "--gateway", gw.url)
    if "--provider" not in options:
        common = ("--provider", "anthropic", *common)
    return here("reconcile", *common, *options, SLUICEGATE_ADMIN_TOKEN=gw.token)


def test_a_bill_that_agrees_is_exit_status_0_and_a_metric(gw, fake):
    done = reconcile(gw)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("agrees") == 10
    assert (
        done.stdout.splitlines()[-1]
        == "total: $20.00 on our records, $20.00 on the bill, drift $0.00 (0.00% of dollars, 0.00% of tokens)"
    )
    assert {path for path, _, _ in fake.seen} == {"/v1/organizations/usage_report/messages", "/v1/organizations/cost_report"}
    assert sum("page" in query for _, query, _ in fake.seen) == 4
    metrics = gw.admin("/metrics").body.decode()
    assert 'sluicegate_reconciliation_drift_usd{provider="anthropic"} 0.0' in metrics
    gw.stop()
    gw.start()
    assert 'sluicegate_reconciliation_drift_ratio{provider="anthropic",unit="usd"} 0.0' in gw.admin("/metrics").body.decode()


def test_a_drift_is_shown_explained_and_above_the_threshold_exit_status_1(gw, fake):
    fake.costs = fake.costs | {day(1): [anthropic_cost(OPUS, "230")]}
    fake.usage = fake.usage | {
        day(2): [anthropic_usage(OPUS, output=100_000), anthropic_usage("claude-haiku-5-5", output=7, space="w")]
    }
    fake.missing = {day(9)}
    Api(gw).ok("POST", "/api/adjustments", {"call_id": "call_3", "cost": 1.5})
    done = reconcile(gw)
    assert done.returncode == 1
    text = " ".join(done.stdout.split())
    for says in (
        f"the tokens agree, so a price of {OPUS} differs",
        "usage that did not pass this gateway",
        "1 adjustment of charges",
        f"the report does not have {day(9)} (yet)",
        f"days that the report does not have: {day(9)}",
    ):
        assert says in text, says
    made = json.loads(reconcile(gw, "--json", "--threshold", "20%").stdout)
    assert made["totals"]["drift_usd"] == "-1.2"
    assert reconcile(gw, "--threshold", "20%").returncode == 0
    found = {(r["day"], r["model"]): [c["cause"] for c in r["causes"]] for r in made["rows"] if r["causes"]}
    assert found == {
        (day(1), OPUS): ["price"],
        (day(2), "claude-haiku-5-5"): ["not_ours"],
        (day(3), OPUS): ["adjusted"],
        (day(9), OPUS): ["missing_day"],
    }
    kept = Api(gw).ok("GET", "/api/reconciliations?provider=anthropic")["reconciliations"]
    assert [k["totals"]["drift_usd"] for k in kept] == ["-1.2"] * 3
    assert 'sluicegate_reconciliation_drift_usd{provider="anthropic"} -1.2' in gw.admin("/metrics").body.decode()
    with sqlite3.connect(gw.state / "sluicegate.db") as db:
        db.execute("DELETE FROM calls WHERE id = 'call_0'")
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (DELETED_BEFORE_MS, START + DAY_MS))
    db.close()
    text = " ".join(reconcile(gw).stdout.split())
    assert f"calls from before {day(1)} were deleted for their age" in text
    assert f"retention.calls has deleted calls of {day(0)}" in text


def test_other_keys_of_the_organisation_are_left_out_on_request(gw, fake):
    fake.usage = {d: [*r, anthropic_usage(OPUS, key="apikey_other", output=5)] for d, r in fake.usage.items()}
    assert "other keys of the organisation" in " ".join(reconcile(gw).stdout.split())
    fake.usage = {d: [*r, anthropic_usage(OPUS, key="apikey_other", space="wrkspc_other", output=7)] for d, r in fake.usage.items()}
    fake.costs = {d: [*r, anthropic_cost(OPUS, "9", space="wrkspc_other")] for d, r in fake.costs.items()}
    made = json.loads(reconcile(gw, "--workspace", "default", "--json").stdout)
    assert (made["totals"]["drift_tokens"], made["totals"]["drift_usd"]) == (50, "0")
    done = reconcile(gw, "--api-key", "apikey_ours")
    assert (done.returncode, done.stdout.count("agrees")) == (0, 10)
    assert "the report has no costs" in done.stdout


def test_openais_export_is_compared_from_a_file(gw, fake, tmp_path):
    with sqlite3.connect(gw.state / "sluicegate.db") as db:
        db.execute("UPDATE calls SET provider = 'openai', model_requested = 'gpt-4.1', input_tokens = 40, cache_read_tokens = 60")
    db.close()
    fake.usage = {
        day(i): [openai_usage("gpt-4.1-2025-04-14", input_tokens=100, input_cached_tokens=60, output_tokens=100_000)]
        for i in range(10)
    }
    fake.costs = {day(i): [openai_cost("gpt-4.1-2025-04-14, output", 2.0)] for i in range(10)}
    query = {"start_time": [str(START // 1000)], "end_time": [str(START // 1000 + 864_000)], "limit": ["31"]}
    fake.per_page = 31
    pages = {"usage": fake._openai(fake.usage, query), "costs": fake._openai(fake.costs, query)}
    (tmp_path / "report.json").write_text(json.dumps(pages))
    done = reconcile(gw, "--provider", "openai", "--file", tmp_path / "report.json")
    assert (done.returncode, done.stdout.count("agrees")) == (0, 10), done
    assert fake.seen == []


def test_what_fails_says_how_to_mend_it(gw, fake, tmp_path):
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "other.json").write_text('{"rows": []}')
    (tmp_path / "null.json").write_text("null")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for words, code, says in (
        (("--provider", "openai"), 2, "providers.openai.admin_key is not set or not usable"),
        (("--provider", "gemini"), 2, "known are anthropic, openai"),
        (("--provider", "anthropc"), 2, "did you mean anthropic?"),
        (("--threshold", "much"), 2, "write a share such as 1% or 0.01"),
        (("--file", tmp_path / "none.json"), 2, "No such file"),
        (("--file", tmp_path / "bad.json"), 2, "is not JSON"),
        (("--file", tmp_path / "null.json"), 2, "is not a report"),
        (("--file", tmp_path / "deep.json"), 2, "is not JSON"),
        (("--file", tmp_path / "binary.json"), 2, "is not JSON"),
        (("--file", tmp_path / "other.json"), 2, "the report has no page"),
        (("--to", "2026-02-01"), 2, "is after 2026-02-01"),
        (("--to", "2099-01-01"), 2, "has not begun yet"),
        (("--to", "tomorrow"), 2, "is not a day such as 2026-11-01"),
    ):
        told = reconcile(gw, *words)
        assert (told.returncode, says in told.stderr) == (code, True), (words, told)
    assert fake.seen == []
    told = here(
        "reconcile", "--provider", "anthropic", "--from", "2099-01-01", "--gateway", gw.url, SLUICEGATE_ADMIN_TOKEN=gw.token
    )
    assert (told.returncode, "--to is yesterday" in told.stderr) == (2, True)
    fake.failures = [(401, b"{}")]
    told = reconcile(gw)
    assert (told.returncode, "providers.anthropic.admin_key must be" in told.stderr) == (2, True)
    fake.failures = [(403, b'{"error": {"message": "no"}}')]
    told = reconcile(gw)
    assert (told.returncode, "does not let this admin key read usage and costs (403: no)" in told.stderr) == (2, True)
    assert gw.request("POST", "/api/reconciliations", b"{}", {"x-bf-vk": VK, "content-type": "application/json"}).status == 403


def test_the_admin_key_is_shown_nowhere(gw, fake):
    reconcile(gw)
    for path in (
        "/api/policy",
        "/api/config",
        "/api/governance/providers/anthropic",
        "/api/reconciliations",
        "/health",
        "/metrics",
    ):
        assert ADMIN_KEY.encode() not in gw.admin(path).body, path
    literal = gw.policy.read_text().replace(f"file:{gw.policy.parent.parent}/admin-key", ADMIN_KEY)
    gw.govern(literal)
    assert ADMIN_KEY in gw.policy.read_text()
    warning = b"admin_key is in plain text in the policy"
    eventually(lambda: warning in gw.admin("/api/config").body)
    for path in ("/api/policy", "/api/config", "/api/audit", "/health"):
        assert ADMIN_KEY.encode() not in gw.admin(path).body, path
    change = Api(gw)("PUT", "providers/anthropic", {"admin_key": "file:/etc/hostname"})
    assert (change.status, "admin_key" in change.message) == (400, True)


def test_on_the_files_of_a_gateway_that_does_not_run(gw, fake):
    gw.stop()
    common = ("--provider", "anthropic", "--from", day(0), "--to", day(9), "--policy", gw.policy, "--state-dir", gw.state)
    done = here("reconcile", *common)
    assert (done.returncode, done.stdout.count("agrees")) == (0, 10), done
    elsewhere = ("--policy", gw.policy, "--state-dir", gw.folder / "no-such-folder")
    for command in (("reconcile", *common[:6]), ("adjust", "--call", "call_1", "--cost", "1", "--yes")):
        told = here(*command, *elsewhere)
        assert (told.returncode > 0, "no gateway has recorded anything in" in told.stderr) == (True, True), told
    assert not (gw.folder / "no-such-folder").exists()
    gw.policy.with_name("prices.yml").write_text("models: [{model: a}]\n")
    for command in (("reconcile", *common[:6]), ("adjust", "--call", "call_1", "--cost", "1", "--yes")):
        told = here(*command, *common[6:])
        assert told.stderr.endswith("prices.yml:1: models[0]: an entry needs a model and a list of prices\n"), told
