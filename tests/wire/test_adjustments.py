"""Correcting a wrong charge: over REST and from the command line, at every level, on the audit trail, across a crash."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from sluicegate.cli.main import app as sluicegate
from sluicegate.values import NANO, usd
from support.api import DANA, POLICY, VERA, Api, error
from support.command import CliRunner
from support.fake_provider import message, plain, usage
from support.harness import VK, eventually, policy_text

pytestmark = pytest.mark.wire

LEVELS = (f"virtual_key/{VK}", "user/alice", "team/team-engineering", "customer/customer-acme")


def here(*arguments, **env):
    done = CliRunner().invoke(sluicegate, [*map(str, arguments)], env={"HOME": "/nonexistent"} | env)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def spent(gateway, provider):
    """Start a gateway with one call of $3.00 on record."""
    provider.script = plain(message(**usage(input_tokens=5, output_tokens=149_999)))
    gw = gateway(policy_text(provider.url))
    assert gw.post().status == 200
    (row,) = gw.calls(1)
    assert row["cost_nano"] == 3 * NANO
    return gw, row["id"]


def used(gw):
    return [gw.used(level) for level in LEVELS]


def test_a_call_is_corrected_at_every_level_and_everywhere_it_is_counted(spent):
    gw, call_id = spent
    api = Api(gw)
    record = gw.rows()[0]
    made = api.ok("POST", "/api/adjustments", {"call_id": call_id, "cost": 0.12, "reason": "the stream was cut"})
    assert made["message"] == f"Call {call_id} now costs $0.12 instead of $3.00"
    assert (made["recorded_cost_usd"], made["effective_cost_usd"], made["repeated"]) == ("3", "0.12", False)
    assert [(f"{x['kind']}/{x['id']}", x["amount_usd"]) for x in made["adjustment"]["levels"]] == [(x, "-2.88") for x in LEVELS]
    assert used(gw) == [0.12] * 4
    # The record is what it was; the correction stands beside it.
    assert gw.rows() == [record]
    assert [line.get("kind") for line in gw.journal()] == [None, "adjustment"]
    shown = api.ok("GET", f"/api/logs/{call_id}")
    assert (shown["cost_usd"], shown["adjustment_usd"], shown["effective_cost_usd"]) == ("3", "-2.88", "0.12")
    assert [(a["reason"], a["actor"], a["amount_nano"]) for a in shown["adjustments"]] == [
        ("the stream was cut", "admin", -2_880_000_000)
    ]
    own = gw.request("GET", f"/api/logs/{call_id}", headers={"x-bf-vk": VK}).json
    assert [(a["amount_usd"], a["actor"], a["levels"]) for a in own["adjustments"]] == [("-2.88", "", [])]
    page = api.ok("GET", "/api/logs?team=team-engineering")
    assert (page["stats"]["total_requests"], page["stats"]["total_cost"]) == (1, 0.12)
    assert page["logs"][0]["effective_cost_usd"] == "0.12"
    assert sum(b["total_cost"] for b in api.ok("GET", "/api/logs/histogram/cost")["buckets"]) == pytest.approx(0.12)
    (line,) = csv.DictReader(io.StringIO(gw.admin("/api/logs/export?format=csv").body.decode()))
    assert (line["cost_usd"], line["adjustment_usd"], line["effective_cost_usd"]) == ("3", "-2.88", "0.12")
    (kept,) = map(orjson.loads, gw.admin("/api/logs/export?format=jsonl").body.splitlines())
    assert (kept["cost_nano"], kept["effective_cost_usd"]) == (3 * NANO, "0.12")
    metrics = gw.admin("/metrics").body.decode()
    assert 'sluicegate_adjusted_usd_total{direction="down"} 2.88' in metrics
    (entry,) = api.ok("GET", "/api/audit?action=adjust")["entries"]
    assert (entry["entity_kind"], entry["entity_id"], entry["before"]) == ("call", call_id, {"cost_usd": "3"})
    assert (entry["after"]["cost_usd"], entry["after"]["reason"], entry["who"]) == ("0.12", "the stream was cut", "admin")
    listed = api.ok("GET", f"/api/adjustments?call_id={call_id}")["adjustments"]
    assert listed == [made["adjustment"]]
    # It says what the call costs now, so once more changes nothing.
    again = api.ok("POST", "/api/adjustments", {"call_id": call_id, "cost": 0.12})
    assert (again["message"], again["adjustment"]) == (f"Call {call_id} costs $0.12 already", None)
    up = api.ok("POST", "/api/adjustments", {"call_id": call_id, "amount": 0.03})
    assert (up["effective_cost_usd"], used(gw)) == ("0.15", [0.15] * 4)


def test_a_scope_is_corrected_with_the_levels_above_it(spent):
    gw, _ = spent
    api = Api(gw)
    made = api.ok("POST", "/api/adjustments", {"scope": "team-engineering", "amount": -2, "reason": "refund"})
    assert made["message"] == "$2.00 taken off team team-engineering"
    assert used(gw) == [3, 3, 1, 1]
    assert (made["recorded_cost_usd"], made["effective_cost_usd"]) == (None, None)
    for query, cost, calls in (("", 1, 1), ("?team=team-engineering", 1, 1), ("?vk=" + VK, 3, 1), ("?status=success", 3, 1)):
        stats = api.ok("GET", f"/api/logs/stats{query}")
        assert (stats["total_cost"], stats["total_requests"], stats["success_rate"]) == (cost, calls, 100.0), query
    assert len(api.ok("GET", "/api/logs")["logs"]) == 1
    ranked = {r["team_id"]: r["total_cost"] for r in api.ok("GET", "/api/logs/rankings?dimension=teams&rank_by=cost")["rankings"]}
    assert ranked == {"team-engineering": 1}
    # What is refused says how much there is; what stops at zero says where.
    told = api("POST", "/api/adjustments", {"scope": "team/team-engineering", "amount": -1.5, "reason": "x"})
    assert (told.status, error(told)["message"]) == (
        409,
        "amount: team 'team-engineering' has used $1.00 in its window, so $1.50 cannot be taken off; at most $1.00",
    )
    stopped = api.ok("POST", "/api/adjustments", {"scope": "alice", "amount": -3, "reason": "refund"})
    assert (
        "stopped at 0, because no more was counted there: team team-engineering (1M), customer customer-acme (1M)"
        in stopped["message"]
    )
    assert used(gw) == [3, 0, 0, 0]
    added = api.ok("POST", "/api/adjustments", {"scope": VK, "amount": 0.5, "reason": "a call that was not metered"})
    assert added["message"] == f"$0.50 added to virtual_key {VK}"
    assert used(gw) == [3.5, 0.5, 0.5, 0.5]
    pages = [api.ok("GET", "/api/adjustments?limit=2")]
    pages.append(api.ok("GET", f"/api/adjustments?limit=2&before={pages[0]['next_before']}"))
    assert [[a["amount_usd"] for a in p["adjustments"]] for p in pages] == [["0.5", "-3"], ["-2"]]
    assert pages[1]["next_before"] is None
    exported = csv.DictReader(io.StringIO(gw.admin("/api/adjustments/export").body.decode()))
    assert [(r["scope_kind"], r["scope_id"], r["amount_usd"], r["reason"]) for r in exported] == [
        ("team", "team-engineering", "-2", "refund"),
        ("user", "alice", "-3", "refund"),
        ("virtual_key", VK, "0.5", "a call that was not metered"),
    ]


def test_a_scope_without_a_budget_gets_back_no_more_than_it_has_spent(gateway, provider):
    provider.script = plain(message(**usage(input_tokens=0, output_tokens=150_000)))
    month = {"max_limit": 50, "reset_duration": "1M"}
    customers = [{"id": "customer-acme", "budget": month | {"max_limit": 5000}}]
    teams = [{"id": t, "customer_id": "customer-acme"} for t in ("team-a", "team-b")]
    keys = [{"id": f"vk-{t}", "team_id": t} for t in ("team-a", "team-b")]
    gw = gateway(policy_text(provider.url, customers=customers, teams=teams, users=[], virtual_keys=keys))
    assert [gw.post(key=k["id"]).status for k in keys] == [200, 200]
    gw.calls(2)
    api = Api(gw)
    body = {"scope": "team-a", "amount": -5, "reason": "refund"}
    told = api("POST", "/api/adjustments", body)
    assert (told.status, told.message) == (
        409,
        "amount: team 'team-a' has used $3.00 on record, so $5.00 cannot be taken off; at most $3.00",
    )
    planned = api.ok("POST", "/api/adjustments?dry_run=true", body | {"amount": -2})
    assert planned["message"] == "$2.00 would be taken off team team-a"
    api.ok("POST", "/api/adjustments", body | {"amount": -2})
    told = api("POST", "/api/adjustments", body | {"amount": -1.01})
    assert (told.status, "has used $1.00 on record" in told.message) == (409, True)
    api.ok("POST", "/api/adjustments", body | {"amount": -1})
    assert gw.used("customer/customer-acme") == 3
    for query, cost in (("", 3), ("?team=team-a", 0), ("?team=team-b", 3)):
        assert api.ok("GET", f"/api/logs/stats{query}")["total_cost"] == cost, query


def test_a_request_that_is_sent_twice_adjusts_once(spent):
    gw, call_id = spent
    api = Api(gw)
    body = {"call_id": call_id, "amount": -1, "idempotency_key": "one"}
    first, second = (api.ok("POST", "/api/adjustments", body) for _ in range(2))
    assert (first["repeated"], second["repeated"]) == (False, True)
    assert second["adjustment"]["id"] == first["adjustment"]["id"]
    assert second["message"] == f"Made before: Call {call_id} now costs $2.00 instead of $3.00"
    assert used(gw) == [2] * 4
    other = api("POST", "/api/adjustments", body | {"amount": -2})
    assert (other.status, "use a new key" in other.message) == (409, True)
    gw.stop(signal.SIGKILL)
    gw.start()
    assert api.ok("POST", "/api/adjustments", body)["repeated"] is True
    assert used(gw) == [2] * 4
    assert len(gw.rows("SELECT * FROM adjustments")) == len([x for x in gw.journal() if x.get("kind")]) == 1


def test_many_at_once_are_made_one_by_one(spent):
    gw, call_id = spent

    def adjust(key):
        return Api(gw)("POST", "/api/adjustments", {"call_id": call_id, "amount": -0.5, "idempotency_key": key})

    with ThreadPoolExecutor(8) as pool:
        same = list(pool.map(adjust, ["same"] * 8))
        assert sorted(r.json["repeated"] for r in same) == [False] + [True] * 7
        assert used(gw) == [2.5] * 4
        # Five more make nothing of what is left; the others are refused.
        others = list(pool.map(adjust, [f"key-{i}" for i in range(8)]))
    assert sorted(r.status for r in others) == [200] * 5 + [409] * 3
    assert used(gw) == [0] * 4
    assert Api(gw).ok("GET", f"/api/logs/{call_id}")["effective_cost_usd"] == "0"


def test_a_person_at_a_terminal_is_asked(spent):
    gw, call_id = spent
    command = [str(Path(sys.executable).with_name("sluicegate")), "adjust", "--call", call_id, "--cost", "1", "--gateway", gw.url]
    for answer, code, left in (("n\n", 1, 3), ("y\n", 0, 1)):
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            command,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"SLUICEGATE_ADMIN_TOKEN": gw.token, "HOME": "/nonexistent"},
        ) as running:
            os.write(ours, answer.encode())
            _, told = running.communicate(timeout=60)
        os.close(ours)
        os.close(theirs)
        assert (running.returncode, b"would cost $1.00 instead of $3.00" in told, used(gw)) == (code, True, [left] * 4), told


REFUSED = [
    ({"call_id": "x", "scope": "y", "cost": 1}, 400, "name either 'call_id' or 'scope'"),
    ({"cost": 1}, 400, "name either 'call_id' or 'scope'"),
    ({"call_id": "x"}, 400, "give either 'cost'"),
    ({"call_id": "x", "cost": 1, "amount": 1}, 400, "give either 'cost'"),
    ({"call_id": "x", "cost": -1}, 400, "cost: '-1': a call cannot cost less than nothing"),
    ({"call_id": "x", "cost": 1e9}, 400, "at most a million dollars"),
    ({"call_id": "x", "amount": 1e20}, 400, "at most a million dollars"),
    ({"call_id": "x", "amount": -1e300}, 400, "at most a million dollars"),
    ({"call_id": "x", "cost": "1"}, 400, "without quotes"),
    ({"call_id": "x", "amount": 1e9}, 400, "at most a million dollars"),
    ({"call_id": "x", "amount": 0.0000000001}, 400, "nine decimals"),
    ({"scope": "alice", "cost": 1, "reason": "x"}, 400, "'cost' is of a call"),
    ({"scope": "alice", "amount": 1}, 400, "'reason' is required"),
    ({"call_id": "x", "amount": 1, "idempotency_key": "a b"}, 400, "'^[A-Za-z0-9._-]{1,64}$'"),
    ({"scope": "team-enginering", "amount": 1, "reason": "x"}, 404, "(did you mean team/team-engineering?)"),
    ({"scope": "user/team-engineering", "amount": 1, "reason": "x"}, 404, "There is no"),
]


def test_what_cannot_be_corrected_is_refused_with_the_fix(spent):
    gw, call_id = spent
    api = Api(gw)
    for body, status, says in REFUSED:
        told = api("POST", "/api/adjustments", body)
        assert (told.status, says in told.message) == (status, True), (body, told.body)
    told = api("POST", "/api/adjustments", {"call_id": call_id[:-3], "cost": 1})
    assert (told.status, f"(did you mean {call_id}?)" in told.message) == (404, True)
    told = api("POST", "/api/adjustments", {"call_id": call_id, "amount": -3.5})
    assert (told.status, told.message) == (409, "amount: the call costs $3.00, so $3.50 cannot be taken off; at most $3.00")
    assert gw.post(key=VK, body=b"{}").status == 400
    refused = gw.calls(2)[1]["id"]
    told = api("POST", "/api/adjustments", {"call_id": refused, "cost": 1})
    assert (told.status, "was refused and cost nothing" in told.message) == (409, True)
    foreseen = api.ok("POST", "/api/adjustments?dry_run=true", {"call_id": call_id, "cost": 1})
    assert [x["amount_usd"] for x in foreseen["adjustment"]["levels"]] == ["-2"] * 4
    assert gw.request("POST", "/api/adjustments", b"{}", {"x-bf-vk": VK, "content-type": "application/json"}).status == 403
    assert used(gw) == [3] * 4
    assert (api.ok("GET", "/api/audit?action=adjust")["count"], gw.rows("SELECT * FROM adjustments")) == (0, [])


def test_a_viewer_reads_adjustments_and_makes_none(gateway):
    gw = gateway(POLICY)
    api = Api(gw)
    body = {"scope": "team-engineering", "amount": 1.25, "reason": "x"}
    assert api("POST", "/api/adjustments", body, VERA).status == 403
    made = api.ok("POST", "/api/adjustments", body, DANA)
    assert made["adjustment"]["actor"] == "dana"
    assert [a["id"] for a in api.ok("GET", "/api/adjustments", None, VERA)["adjustments"]] == [made["adjustment"]["id"]]


def test_the_command_line_corrects_at_a_gateway_and_on_its_files(spent, tmp_path):
    gw, call_id = spent
    common = ("--gateway", gw.url, "--state-dir", gw.state)
    token = {"SLUICEGATE_ADMIN_TOKEN": gw.token}
    foreseen = here("adjust", "--call", call_id, "--cost", "0.12", "--dry-run", *common, **token)
    assert foreseen.stdout.splitlines()[0] == f"Call {call_id} would cost $0.12 instead of $3.00"
    asked = here("adjust", "--call", call_id, "--cost", "0.12", *common, **token)
    assert (asked.returncode, "give --yes" in asked.stderr, used(gw)) == (2, True, [3] * 4)
    done = here("adjust", "--call", call_id, "--cost", "$0.12", "--yes", *common, **token)
    assert (done.returncode, done.stdout.splitlines()[1]) == (0, f"  virtual_key {VK} (1M): -$2.88")
    assert used(gw) == [0.12] * 4
    again = here("adjust", "--call", call_id, "--cost", "0.12", "--yes", *common, **token)
    assert again.stdout == f"Call {call_id} costs $0.12 already\n"
    gw.stop()
    files = ("--policy", gw.policy, "--state-dir", gw.state)
    scoped = ("adjust", "--scope", "team-engineering", "--amount", "-0.02", "--reason", "refund", "--yes", "--json")
    answer = json.loads(here(*scoped, *files).stdout)
    assert answer["adjustment"]["actor"].endswith("(command line)")
    gw.start()
    assert used(gw) == [0.12, 0.12, 0.1, 0.1]
    common = ("--gateway", gw.url, "--state-dir", gw.state)
    for words, code, says in (
        (("--cost", "1"), 2, "give either --call ID or --scope NAME"),
        (("--call", "x"), 2, "give either --cost"),
        (("--call", "x", "--cost", "much"), 2, "'much' is not an amount"),
        (("--call", "x", "--cost", "-1"), 2, "a cost is an amount of dollars from 0"),
        (("--scope", "x", "--cost", "1"), 2, "give --amount for a scope"),
        (("--scope", "x", "--amount", "1"), 2, "--scope needs a --reason"),
        (("--call", "nothing", "--cost", "1", "--yes"), 1, "There is no call 'nothing'"),
        (("--scope", "team-enginering", "--amount", "1", "--reason", "x"), 1, "did you mean team/team-engineering?"),
    ):
        told = here("adjust", *words, *common, **token)
        assert (told.returncode, says in told.stderr) == (code, True), (words, told)


def test_a_call_that_runs_is_adjusted_once_it_has_ended(gateway, provider):
    gw = gateway(policy_text(provider.url))
    go = threading.Event()
    answer = plain(message(**usage(input_tokens=10, output_tokens=10)))
    provider.script = lambda peer, seen: (go.wait(60), answer(peer, seen))
    caller = threading.Thread(target=gw.post)
    caller.start()
    (running,) = eventually(lambda: gw.rows("SELECT call_id FROM reservations"))
    told = Api(gw)("POST", "/api/adjustments", {"call_id": running["call_id"], "cost": 1})
    go.set()
    caller.join()
    assert (told.status, "is still running" in told.message) == (409, True)
    (row,) = gw.calls(1)
    assert Api(gw).ok("POST", "/api/adjustments", {"call_id": row["id"], "cost": 0})["effective_cost_usd"] == usd(0)
