"""What a gateway prints: a line for each call, warnings and errors, as text or JSON, and nothing else of mitmproxy's."""

from __future__ import annotations

import json
import re

import pytest

from support.harness import OPUS, PROVIDER_KEY, VK, Gateway, ask, eventually, policy_text

pytestmark = pytest.mark.wire

AS_IN_USE = ("--set", "log_connections=false")

LINE = rf"^\d{{4}}-\d\d-\d\dT[\d:.]+Z call completed status=200 key={VK} user=alice model={OPUS} provider=anthropic tokens=\d+ cost=\$0\.\d+ ms=\d+ id=call_\w+$"
POLICY = {
    "virtual_keys": [{"id": VK, "user_id": "alice", "provider_configs": [{"provider": "anthropic", "allowed_models": [OPUS]}]}]
}


@pytest.fixture(scope="module", params=["text", "json"])
def printed(request, tmp_path_factory):
    """A gateway in use: calls that are answered, refused and unknown, a tunnel that fails, and a warning."""
    policy = policy_text(**POLICY, egress={"default": "tunnel"})
    folder = tmp_path_factory.mktemp(request.param)
    variable = {"SLUICEGATE_LOG_FORMAT": "json"} if request.param == "json" else {}
    with Gateway(folder, policy, *AS_IN_USE, env=variable) as gw:
        assert gw.post().status == 200
        assert gw.proxied().status == 200
        assert gw.post(ask(model="claude-haiku\n4-5")).status in (400, 403)
        assert gw.post(key="vk-stranger").status == 401
        assert gw.admin("/api/logs").status == 200
        gw.send_raw(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n\r\n")
        eventually(lambda: sum("call" in line and VK in line for line in gw.output) >= 3)
        gw.govern(policy.replace('"version": 1', '"version": 7'))
        gw.wait_for("Policy reload failed")
        gw.stop()
        gw.format = request.param
        yield gw


def after_the_start(gw):
    """The lines once it listens."""
    started = next(i for i, line in enumerate(gw.output) if "sluicegate listens on" in line)
    return gw.output[started:]


def test_nothing_of_the_connections_is_printed(printed):
    said = "\n".join(after_the_start(printed))
    for chatter in ("client connect", "client disconnect", "server connect", "POST http", "GET http", "<<"):
        assert chatter not in said
    assert PROVIDER_KEY not in said


def test_each_call_has_one_line(printed):
    if printed.format == "json":
        calls = [x for x in map(json.loads, after_the_start(printed)) if x["event"] == "call"]
        assert [(x["decision"], x["key"], x["user"]) for x in calls] == [
            (d, VK, "alice") for d in ("completed", "completed", "denied")
        ]
        records = printed.rows()
        assert [(x["id"], x["cost_usd"], x["ms"], x["model"]) for x in calls] == [
            (r["id"], r["cost_usd"], r["latency_ms"], r["model_served"] or r["model_requested"]) for r in records
        ]
    else:
        calls = [x for x in printed.output if " call " in x and "id=" in x]
        assert len(calls) == 3
        assert all(re.match(LINE, x) for x in calls[:2]), calls
        assert " call denied reason=" in calls[2]


def test_all_that_is_printed_as_json_is_json_warnings_included(printed):
    if printed.format == "json":
        lines = [json.loads(line) for line in after_the_start(printed)]
        assert lines[0]["message"].startswith("sluicegate listens on http://127.0.0.1:")
        assert any(line.startswith("policy ") for line in lines[0]["details"])
        assert [x for x in lines if x["level"] == "error" and x["message"].startswith("Policy reload failed")]
    else:
        assert [x for x in printed.output if re.search(r"Z error Policy reload failed", x)]


@pytest.mark.parametrize(("options", "shown"), [(("-q", *AS_IN_USE), False), (("--set", "log_connections=true"), True)])
def test_quiet_prints_no_call_and_connections_are_printed_for_those_who_ask(gateway, options, shown):
    gw = gateway(policy_text(), *options)
    assert gw.post().status == 200
    gw.stop()
    said = "\n".join(gw.output)
    assert (" call completed" in said, "client connect" in said, "POST http" in said) == (shown, shown, shown)


@pytest.mark.parametrize(
    ("options", "variable", "said"),
    [
        (("--set", "log_format=xml"), "", "sluicegate: --log-format xml: the log is written as text or as json"),
        ((), "yaml", "sluicegate: SLUICEGATE_LOG_FORMAT yaml: the log is written as text or as json"),
    ],
)
def test_an_unknown_format_ends_the_start(tmp_path, options, variable, said):
    gw = Gateway(tmp_path, policy_text(), *options, env={"SLUICEGATE_LOG_FORMAT": variable}).start(wait=False)
    assert gw.exit_code() == 1
    assert said in gw.output


def test_an_error_of_the_start_is_json_too(tmp_path):
    gw = Gateway(tmp_path, policy_text(version=9), "--set", "log_format=json").start(wait=False)
    assert gw.exit_code() == 1
    (line,) = [
        x for x in map(json.loads, (x for x in gw.output if x.startswith("{"))) if x["level"] == "error" and "9" in x["message"]
    ]
    assert line["event"] == "log"
