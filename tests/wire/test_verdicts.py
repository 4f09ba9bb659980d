"""What each limit said of a call is on its record: in the logs, in audit.jsonl, and as the client was told."""

from __future__ import annotations

import csv
import io
import re

import orjson
import pytest

from sluicegate.windows import parse_iso
from support.fake_provider import FakeProvider, message, plain, usage
from support.harness import VK, Gateway, ask, eventually, policy_text

pytestmark = pytest.mark.wire

MONTH = {"max_limit": 50, "reset_duration": "1M"}
RATES = {"request_max_limit": 2, "request_reset_duration": "1h", "token_max_limit": 100_000, "token_reset_duration": "1h"}
POLICY = {
    "users": [{"id": "alice", "team_id": "team-engineering", "budget": MONTH | {"max_limit": 100}}],
    "virtual_keys": [
        {"id": VK, "team_id": "team-engineering", "user_id": "alice", "budget": MONTH},
        {"id": "vk-rated", "team_id": "team-engineering", "rate_limit": RATES | {"max_concurrent": 3}},
        {"id": "vk-spent", "team_id": "team-spent", "rate_limit": RATES},
        {"id": "vk-hard", "budget": {"max_limit": 0.001, "reset_duration": "1d", "enforcement": "hard"}},
        {"id": "vk-only", "provider_configs": [{"provider": "anthropic", "allowed_models": ["claude-haiku-*"]}]},
        {"id": "vk-fable"},
    ],
    "teams": [
        {"id": "team-engineering", "customer_id": "customer-acme", "budget": MONTH | {"max_limit": 500}},
        {"id": "team-spent", "customer_id": "customer-acme", "budget": MONTH | {"max_limit": 0}},
    ],
    "model_configs": [
        {"model_name": "claude-opus-*", "budget": MONTH | {"max_limit": 9000}},
        {"model_name": "claude-fable-*", "budget": MONTH | {"max_limit": 0}},
    ],
}


@pytest.fixture(scope="module")
def gw(tmp_path_factory):
    with FakeProvider() as fake, Gateway(tmp_path_factory.mktemp("verdicts"), policy_text(fake.url, **POLICY)) as made:
        fake.script = plain(message(**usage(input_tokens=1000, output_tokens=100)))
        yield made


def call(gw, *args, **more):
    """A call's answer, once the call is on record: its client has the answer a moment sooner."""
    before = len(gw.journal())
    reply = gw.post(*args, **more)
    eventually(lambda: len(gw.journal()) == before + 1)
    return reply


def newest(gw, key=None):
    """The last call as it is shown, to the administrator or a key's holder, and its line."""
    (listed,) = gw.admin("/api/logs?limit=1").json["logs"]
    assert "limits" not in listed
    path = f"/api/logs/{listed['id']}"
    shown = gw.request("GET", path, headers={"x-bf-vk": key}).json if key else gw.admin(path).json
    (line,) = [x for x in gw.journal() if x["id"] == listed["id"]]
    (row,) = [x for x in gw.rows() if x["id"] == listed["id"]]
    assert row == line
    return shown["limits"], line["limits"]


def test_a_call_under_every_level_has_their_numbers_of_that_moment(gw):
    assert call(gw).status == 200
    (first,) = [x["cost_usd"] for x in gw.journal() if x["virtual_key_id"] == VK]
    assert call(gw).status == 200
    shown, kept = newest(gw)
    levels = [(v["kind"], v["id"], v["limit_usd"]) for v in shown]
    assert levels == [
        ("virtual_key", VK, "50"),
        ("user", "alice", "100"),
        ("team", "team-engineering", "500"),
        ("customer", "customer-acme", "5000"),
        ("model", "claude-opus-*", "9000"),
    ]
    assert {(v["used_usd"], v["reserved_usd"], v["admitted"]) for v in shown} == {(first, "0", True)}
    (asked,) = {v["asked_usd"] for v in shown}
    assert float(asked) > 0
    for verdict, (kind, scope, unit, window, enforcement, limit, used, reserved, amount, resets_at, admitted) in zip(
        shown, kept, strict=True
    ):
        assert (verdict["kind"], verdict["id"], verdict["unit"], verdict["window"], verdict["enforcement"]) == (
            kind, scope, unit, window, enforcement,
        )  # fmt: skip
        dollars = (verdict["limit_usd"], verdict["used_usd"], verdict["reserved_usd"], verdict["asked_usd"])
        assert [round(float(x) * 1e9) for x in dollars] == [limit, used, reserved, amount]
        assert parse_iso(verdict["resets_at"]) == resets_at
        assert verdict["admitted"] is admitted is True


def test_the_numbers_of_a_refusal_are_those_its_client_was_told(gw):
    told = call(gw, key="vk-spent")
    assert told.reason == "budget_exceeded"
    shown, kept = newest(gw)
    # The slots of its rate limit were taken before, and the customer behind its team was not asked.
    assert [(v["kind"], v["unit"], v["admitted"]) for v in shown] == [
        ("virtual_key", "requests", True),
        ("virtual_key", "tokens", True),
        ("team", "usd", False),
    ]
    assert [v[-1] for v in kept] == [True, True, False]
    last = shown[-1]
    assert f"{float(last['used_usd']):.2f} > {float(last['limit_usd']):.2f} dollars (team-spent" in told.message
    assert f"resets {last['resets_at'][:19]}Z" in told.message


def test_a_rate_limits_count_is_what_the_client_was_told(gw):
    assert [call(gw, key="vk-rated").status for _ in range(3)] == [200, 200, 429]
    told = call(gw, key="vk-rated")
    used, limit = map(int, re.search(r"\((\d+)/(\d+),", told.message).groups())
    shown, _ = newest(gw)
    (verdict,) = shown
    assert (verdict["used"] + verdict["reserved"] + verdict["asked"], verdict["limit"]) == (used, limit) == (3, 2)
    assert (verdict["unit"], verdict["window"], verdict["limit_usd"], verdict["admitted"]) == ("requests", "1h", None, False)


def test_a_hard_budgets_worst_case_is_what_was_asked(gw):
    told = call(gw, key="vk-hard")
    worst = re.search(r"worst case of ([\d.]+)", told.message)[1]
    ((verdict,), _) = newest(gw)
    assert (verdict["enforcement"], verdict["admitted"], f"{float(verdict['asked_usd']):.2f}") == ("hard", False, worst)


def test_a_call_that_no_limit_was_asked_about_says_so(gw):
    assert call(gw, key="vk-only").reason == "model_blocked"
    assert newest(gw) == ([], [])
    assert call(gw, b"{}").reason == "invalid_request"
    assert newest(gw) == ([], [])


def test_a_developer_sees_no_numbers_of_what_all_others_use(gw):
    assert call(gw).status == 200
    shown, _ = newest(gw, VK)
    assert [v["kind"] for v in shown] == ["virtual_key", "user", "team", "customer"]
    # But a limit that refused has told them already.
    assert call(gw, ask(model="claude-fable-5-1"), key="vk-fable").reason == "budget_exceeded"
    shown, _ = newest(gw, "vk-fable")
    assert [(v["kind"], v["admitted"]) for v in shown] == [("model", False)]


def test_exports_hold_them_for_whoever_may_see_them(gw):
    assert call(gw).status == 200
    lines = [orjson.loads(x) for x in gw.admin(f"/api/logs/export?format=jsonl&vk={VK}").body.splitlines()]
    assert lines == [x for x in gw.journal() if x["virtual_key_id"] == VK]
    assert {v[0] for v in lines[-1]["limits"]} == {"virtual_key", "user", "team", "customer", "model"}
    mine = gw.request("GET", "/api/logs/export?format=jsonl", headers={"x-bf-vk": VK}).body
    assert {v[0] for x in mine.splitlines() for v in orjson.loads(x)["limits"]} == {"virtual_key", "user", "team", "customer"}
    text = gw.request("GET", "/api/logs/export", headers={"x-bf-vk": VK}).body.decode()
    cells = [row["limits"] for row in csv.DictReader(io.StringIO(text, newline=""))]
    assert orjson.loads(cells[-1]) == orjson.loads(mine.splitlines()[-1])["limits"]
