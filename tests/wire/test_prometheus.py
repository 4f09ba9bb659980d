"""A real Prometheus scrapes a real run.

The article's rules fire unedited, its queries say what the books say, and every name in our own rules and dashboard exists.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from support.api import VERA, token_hash
from support.harness import ROOT, VK, Gateway, ask, eventually, policy_text
from support.ports import free_port
from support.promql import names
from support.receiver import Receiver

pytestmark = pytest.mark.wire

DATA = ROOT / "tests/data"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
QUERIES = dict(re.findall(r"# (.+)\n(.+)", (DATA / "article-queries.promql").read_text()))

NOT_PROMQL = {
    "Budget utilization": "max(budget_usage / budget_limit) by (vk)",
    "Requests per user": "sum(rate(bifrost_requests_total[5m])) by (vk)",
}
"""Queries of the article that Prometheus refuses, since ``by`` belongs to an aggregation, and the form that works."""


class Prometheus:
    """A Prometheus of its own on loopback, with the configuration we ship, pointed at one gateway and made quick."""

    def __init__(self, folder: Path, gateway: Gateway, *rules: Path) -> None:
        config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(r) for r in rules]
        (job,) = config["scrape_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{gateway.port}"]}]
        public = {"job_name": "public", "static_configs": job["static_configs"]}
        token = folder / "token"
        # With a line's end, as `openssl rand` writes it.
        token.write_text(VERA + "\n")
        job["authorization"]["credentials_file"] = str(token)
        config["scrape_configs"].append(public)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/api/v1"
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=self.log,
            stderr=self.log,
            cwd=folder,
        )

    def get(self, path, **query):
        """The API's answer, an error's too; empty while it is starting."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.url}/{path}?{urllib.parse.urlencode(query)}", timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as e:
            return {} if e.code == 503 else json.load(e)
        except OSError:
            assert self.process.poll() is None, self.log.seek(0) or self.log.read()
            return {}

    def query(self, expr):
        """``(labels, value)`` of each series; empty while there is none."""
        found = self.get("query", query=expr).get("data", {}).get("result", [])
        return [({k: v for k, v in r["metric"].items() if k != "__name__"}, float(r["value"][1])) for r in found]

    def firing(self):
        return {a["labels"]["alertname"] for a in self.get("alerts").get("data", {}).get("alerts", ()) if a["state"] == "firing"}

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


@pytest.fixture(scope="module")
def gw(tmp_path_factory):
    """A run with something in every metric: alice's team is over 90 %, she herself over 80 %."""
    month = {"max_limit": 50, "reset_duration": "1M"}
    rate = {"request_max_limit": 100, "request_reset_duration": "1h", "max_concurrent": 9}
    with Receiver() as receiver, contextlib.ExitStack() as stack:
        policy = policy_text(
            providers={"anthropic": {"simulate": True, "keys": [{"name": "key-1", "value": "env.PROVIDER_KEY"}]}},
            teams=[
                {
                    "id": "team-engineering",
                    "customer_id": "customer-acme",
                    "budgets": [month | {"max_limit": 45}, month | {"reset_duration": "1d", "calendar_aligned": True}],
                }
            ],
            virtual_keys=[
                {"id": VK, "team_id": "team-engineering", "user_id": "alice", "budget": month, "rate_limit": rate}
                | {"provider_configs": [{"provider": "anthropic", "allowed_models": ["claude-*"]}]},
                {"id": "vk-bob", "team_id": "team-engineering"},
            ],
            server={"public_metrics": True},
            operators=[{"id": "prometheus", "role": "viewer", "token_hash": token_hash(VERA)}],
            alerts={"webhooks": [{"name": "ops", "url": receiver.url}]},
        )
        gw = stack.enter_context(Gateway(tmp_path_factory.mktemp("gateway"), policy))
        for status, key, body in (
            (200, VK, ask("[simulate cost=41.50]")),
            (200, VK, ask("[simulate input=1000 output=50 cache_read=5000]", stream=True)),
            (200, "vk-bob", ask("[simulate cost=0.25]")),
            (529, VK, ask("[simulate status=529]")),
            (403, VK, ask(model="gpt-4")),
        ):
            assert gw.post(body, key).status == status
        assert gw.post(key="unknown").status == 401
        eventually(lambda: b'sluicegate_alerts_sent_total{webhook="ops"}' in gw.admin("/metrics").body and receiver.got)
        gw.calls(5)
        yield gw


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory, gw):
    found = Prometheus(tmp_path_factory.mktemp("prometheus"), gw, ALERTS, DATA / "article-alerts.yml")
    yield found
    found.stop()


@pytest.fixture(scope="module")
def scraped(gw):
    """Metric to the labels its series have, from a scrape of the run."""
    found = {"up": {"job", "instance"}}
    for family in text_string_to_metric_families(gw.admin("/metrics").body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {"job", "instance"}).update(sample.labels)
        if family.name.startswith("sluicegate_fleet_"):
            # A gateway that is alone has the families without samples.
            found.setdefault(f"{family.name}{'_total' if family.type == 'counter' else ''}", {"job", "instance"})
    return found


def promtool(*arguments, stdin="", cwd=None):
    done = subprocess.run(["promtool", *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=60, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_articles_rules_fire_unedited(prometheus, gw):
    eventually(lambda: {"UserBudgetNearLimit", "TeamBudgetCritical", "BudgetNearLimit"} <= prometheus.firing())
    assert not {"BudgetExhausted", "LedgerNotWritable", "PolicyEditRefused", "GatewayRestarts"} & prometheus.firing()
    (share,) = prometheus.query('(budget_usage{vk="vk-dev-alice"} / budget_limit{vk="vk-dev-alice"})')
    assert share[1] == pytest.approx(gw.used() / 50)
    teams = dict((x["window"], v) for x, v in prometheus.query('team_budget_usage{job="sluicegate"} / team_budget_limit'))
    assert teams == {"1M": pytest.approx(gw.used("team/team-engineering") / 45), "1d UTC": pytest.approx(teams["1M"] * 0.9)}


def test_the_articles_queries_say_what_the_books_say(prometheus, gw):
    eventually(lambda: prometheus.query('bifrost_cost_total{vk!=""}'))
    assert len(QUERIES) == 4
    books: dict[str, dict[str, float]] = {}
    for row in gw.rows():
        mine = books.setdefault(row["virtual_key_id"], dict.fromkeys(("cost", "calls", "input", "output", "cache_read"), 0))
        mine["cost"] += row["cost_nano"] / 1e9
        mine["calls"] += 1
        for kind in ("input", "output", "cache_read"):
            mine[kind] += row[f"{kind}_tokens"]
    cost = {x.get("vk"): v for x, v in prometheus.query(QUERIES["Total cost by virtual key"]) if "vk" in x}
    assert cost == {key: pytest.approx(mine["cost"]) for key, mine in books.items()}
    assert cost[VK] > 41.5
    tokens = {(x["vk"], x["token_type"]): v for x, v in prometheus.query(QUERIES["Token usage"]) if "vk" in x}
    assert tokens == {(key, kind): mine[kind] for key, mine in books.items() for kind in list(mine)[2:] if mine[kind]}
    for name, working in NOT_PROMQL.items():
        refused = prometheus.get("query", query=QUERIES[name])
        assert refused["errorType"] == "bad_data", name
        assert "parse error" in refused["error"]
        assert working in (ROOT / "docs/metrics.md").read_text()
    used = {x["vk"]: v for x, v in prometheus.query(NOT_PROMQL["Budget utilization"])}
    assert used == {VK: pytest.approx(gw.used() / 50)}
    rates = eventually(lambda: [x for x, _ in prometheus.query(NOT_PROMQL["Requests per user"]) if "vk" in x])
    assert {x["vk"] for x in rates} == {VK, "vk-bob"}
    (upstream,) = prometheus.query('sum(bifrost_upstream_requests_total{job="sluicegate"})')
    (requests,) = prometheus.query('sum(bifrost_requests_total{job="sluicegate"})')
    assert (upstream[1], requests[1]) == (4, 5)


def test_without_a_token_prometheus_learns_nothing_of_keys_and_users(prometheus):
    eventually(lambda: prometheus.query('bifrost_cost_total{job="public"}'))
    mine = prometheus.get("series", **{"match[]": '{job="public"}'})["data"]
    assert not {label for series in mine for label in series} & {"vk", "virtual_key_id", "virtual_key_name", "user_id", "key"}
    (cost,) = prometheus.query('sum(bifrost_cost_total{job="public"}) / sum(bifrost_cost_total{job="sluicegate"})')
    assert cost[1] == pytest.approx(1)


def test_promtool_finds_nothing_to_say(gw, tmp_path):
    for form in (gw.admin("/metrics"), gw.request("GET", "/metrics")):
        assert promtool("check", "metrics", stdin=form.body.decode()) == ""
    promtool("check", "rules", ALERTS, DATA / "article-alerts.yml")
    config = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
    (tmp_path / "token").write_text("t")
    (tmp_path / "prometheus.yml").write_text(config.replace("/etc/prometheus/sluicegate-token", str(tmp_path / "token")))
    for file in (ALERTS, DATA / "alerts-test.yml"):
        shutil.copy(file, tmp_path)
    promtool("check", "config", tmp_path / "prometheus.yml")
    promtool("test", "rules", "alerts-test.yml", cwd=tmp_path)
    tests = yaml.safe_load((DATA / "alerts-test.yml").read_text())["tests"]
    tried = {t["alertname"] for test in tests for t in test["alert_rule_test"]}
    assert tried == {rule["alert"] for rule, _ in rules()}


def rules():
    """Each rule of ours, and the labels its words use."""
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule, set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))


def panels():
    """Each expression of the dashboard as Grafana would send it, and the labels its legend uses."""
    dashboard = json.loads((ROOT / "deploy/grafana/sluicegate.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            expr = target["expr"].replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$team", ".*")
            assert "$" not in expr, expr
            yield expr, set(re.findall(r"{{(\w+)}}", target["legendFormat"]))


def test_rules_and_dashboard_name_what_there_is(scraped, tmp_path):
    said = [(rule["expr"], labels) for rule, labels in rules()] + list(panels())
    assert len(said) > 50
    for expr, shown in said:
        found = names(expr)
        assert found.matched, expr
        for metric, labels in found.matched.items():
            assert metric in scraped, f"there is no {metric}: {expr}"
            assert labels <= scraped[metric], f"{metric} has no {labels - scraped[metric]}: {expr}"
        have = set().union(*(scraped[m] for m in found.matched))
        assert found.grouped | shown <= have, f"no metric has {(found.grouped | shown) - have}: {expr}"
        # What an aggregation has left is all there is to show.
        kept = re.findall(r"\bby \(([^)]*)\)", expr)
        if kept:
            assert shown <= {x.strip() for x in ",".join(kept).split(",")}, expr
    variables = json.loads((ROOT / "deploy/grafana/sluicegate.json").read_text())["templating"]["list"]
    for metric, label in re.findall(r"label_values\((\w+), (\w+)\)", json.dumps(variables)):
        assert label in scraped[metric]
    generated = [{"record": f"panel:{i}", "expr": expr} for i, (expr, _) in enumerate(panels())]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": generated}]}))
    assert f"{len(generated)} rules found" in promtool("check", "rules", tmp_path / "panels.yml")


@pytest.mark.parametrize(
    ("expr", "matched", "grouped"),
    [
        ('sum by (job, le) (rate(a_bucket{x=~"b,c{",y!="}"}[5m])) / on () group_left () count(b offset 5m)', {"a_bucket", "b"}, {"job", "le"}),
        ('up{job="s"} == 0 or absent(up{job="s"}) and c >= bool 1e5', {"up", "c"}, set()),
        ("sum(a) without (x) * ignoring (y) group_right (z) b", {"a", "b"}, {"x", "y", "z"}),
    ],
)  # fmt: skip
def test_the_reader_of_promql_reads(expr, matched, grouped):
    assert (set(names(expr).matched), names(expr).grouped) == (matched, grouped)
