"""Alerts from a running gateway: told once, also when it is killed; tried and listed from the command line."""

from __future__ import annotations

import json
import signal

import pytest

from support.command import sluicegate
from support.harness import VK, ask, eventually, policy_text
from support.receiver import Receiver, signed

pytestmark = pytest.mark.wire

SECRET = "s3cret-of-the-webhook"


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


def policy(receiver, **webhook):
    hook = {"name": "ops", "url": "env.HOOK", "secret": "env.SIGN", "scopes": ["virtual_key/*"]} | webhook
    return policy_text(alerts={"webhooks": [hook]}), {"HOOK": f"{receiver.url}/very-secret", "SIGN": SECRET}


def cli(*arguments, **env):
    return sluicegate(*arguments, env=env)


def test_a_threshold_is_told_once_whatever_happens_to_the_gateway(gateway, receiver):
    text, env = policy(receiver)
    gw = gateway(text, env=env)
    receiver.answers = [500]
    assert gw.post(ask("[simulate cost=42]")).status == 200
    eventually(lambda: gw.rows("SELECT 1 FROM alerts WHERE status = 'sent'"))
    gw.stop(signal.SIGKILL)
    said = "\n".join(gw.output)
    gw.start()
    assert gw.post(ask("[simulate cost=0.10]")).status == 200
    assert gw.post(ask("[simulate cost=9]")).status == 200
    eventually(lambda: len(gw.rows("SELECT 1 FROM alerts WHERE status = 'sent'")) == 2)
    assert [m["threshold"] for m in receiver.json()] == [80, 80, 100]
    assert receiver.got[0][2] == receiver.got[1][2]
    assert all(signed(headers, body, SECRET) for _, headers, body in receiver.got)
    assert [(m["kind"], m["id"], m["used_usd"], m["limit_usd"]) for m in receiver.json()[1:]] == [
        ("virtual_key", VK, "42", "50"),
        ("virtual_key", VK, "51.1", "50"),
    ]
    alerts = gw.admin("/api/alerts?limit=1").json
    assert [(a["threshold"], a["status"], a["webhook"]) for a in alerts["alerts"]] == [(100, "sent", "ops")]
    assert gw.admin("/api/alerts").json["count"] == 2
    assert gw.request("GET", "/api/alerts").status == 401
    assert gw.request("GET", "/api/alerts", headers={"x-api-key": VK}).status == 403
    for query in ("limt=1", "limit=0", "limit=1001", "limit=x", "limit="):
        assert gw.admin(f"/api/alerts?{query}").status == 400, query
    listed = cli("alerts", "list", "--state-dir", gw.state).stdout.splitlines()
    assert [line.split("  ")[1:3] for line in listed] == [["ops", "sent"]] * 2
    assert "has used up its budget: $51.10 of $50.00 per 1M" in listed[0]
    assert len(json.loads(cli("alerts", "list", "--limit", 1, "--state-dir", gw.state, "--json").stdout)["alerts"]) == 1
    said += "\n".join(gw.output) + gw.admin("/metrics").body.decode() + json.dumps(alerts)
    assert "Webhook ops did not accept an alert: it answered 500" in said
    assert "Webhook ops accepts alerts again" in said
    assert "very-secret" not in said
    assert SECRET not in said


def test_webhooks_can_be_tried(tmp_path, receiver):
    text, env = policy(receiver)
    (tmp_path / "policy.yaml").write_text(text)
    test = ("alerts", "test", "--policy", tmp_path / "policy.yaml")
    dry = cli(*test, "--dry-run", **env)
    assert (dry.returncode, receiver.got) == (0, [])
    assert "This is a test: webhook ops takes the alerts" in dry.stdout
    done = cli(*test, "--webhook", "ops", **env)
    assert (done.returncode, done.stdout) == (0, "ops (127.0.0.1): ok\n")
    ((_, headers, body),) = receiver.got
    assert signed(headers, body, SECRET)
    assert json.loads(body)["type"] == "test"
    receiver.answers = [404]
    failed = cli(*test, "--json", **env)
    assert (failed.returncode, json.loads(failed.stdout)["webhooks"][0]["error"]) == (1, "it answered 404")
    assert cli(*test, "--webhook", "opps", **env).returncode == 2
    unset = cli(*test, HOOK=env["HOOK"])
    assert unset.returncode == 1
    assert "webhook ops: is not usable, the variable SIGN is not set" in unset.stderr
    assert not [x for x in (dry, done, failed, unset) if "very-secret" in x.stdout + x.stderr or SECRET in x.stdout + x.stderr]
    assert cli("alerts", "list", "--state-dir", tmp_path / "none").stdout == ""
