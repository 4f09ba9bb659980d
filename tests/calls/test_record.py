"""The record of a call: every column, in its order, whatever the call came to."""

from __future__ import annotations

import pytest

from sluicegate.calls.call import Call
from sluicegate.calls.plan import Attempt, Plan, Target
from sluicegate.calls.record import COLUMNS, draft_of, record_of
from sluicegate.values import Deny, Outcome, Principal, Reason, RequestFacts, Usage

NOW = 1_790_000_000_000
TARGET = Target("openai", "gpt-5")
ZEROS = {name for name, kind in COLUMNS.items() if kind is int and name.endswith(("tokens", "requests", "sessions", "bytes"))}


def call_of(**fields) -> Call:
    return Call("call-1", NOW, "anthropic", "messages", **fields)


FULL = call_of(
    principal=Principal("vk", "alice", "team", "customer", None),
    facts=RequestFacts("claude-opus-5-5", stream=True),
    usage=Usage(1, 2, 3, 4, 5, web_search_requests=6, model="m", estimated=True),
    plan=Plan((TARGET,), route="cheap"),
    asked_model="opus",
    attempts=[Attempt(TARGET, status=500, cost_nano=7), Attempt(TARGET, status=200)],
    deny=Deny(Reason.BUDGET_EXCEEDED, "No money\nis left"),
    outcome=Outcome.DENIED,
    first_byte_at=NOW + 5,
    shadow_nano=1,
    saved_nano=2_500_000_000,
    attribution={"project": "acme", "user_id": "bob"},
)


@pytest.mark.parametrize("call", [call_of(), FULL], ids=["empty", "full"])
def test_a_record_has_every_column_in_its_order(call):
    for record in (record_of(call, NOW + 10), draft_of(call, Usage(), 5)):
        assert list(record) == list(COLUMNS)
        assert all(
            value is None or type(value) in (kind, list) for value, kind in zip(record.values(), COLUMNS.values(), strict=True)
        )


def test_what_a_call_did_not_come_to_is_none_or_zero():
    known = {
        "id",
        "started_at",
        "latency_ms",
        "provider",
        "outcome",
        "path",
        "limits",
        "cost_usd",
        "cost_nano",
        "stream",
        "estimated",
    }
    record = record_of(call_of(), NOW)
    assert {name for name, value in record.items() if value is not None} == known | ZEROS
    assert {record[name] for name in ZEROS} == {0}
    assert record["outcome"] == "failed"


def test_what_a_call_came_to_is_in_its_columns():
    record = record_of(FULL, NOW + 10)
    seen = {
        "started_at": "2026-09-21T14:13:20.000Z",
        "latency_ms": 10,
        "ttft_ms": 5,
        "user_id": "alice",
        "model_requested": "claude-opus-5-5",
        "asked_model": "opus",
        "model_served": "m",
        "stream": 1,
        "outcome": "denied",
        "reason": "budget_exceeded",
        "message": "No money is left",
        "cache_write_1h_tokens": 5,
        "web_search_requests": 6,
        "estimated": 1,
        "route": "cheap",
        "shadow_usd": "0.000000001",
        "saved_usd": "2.5",
        "claimed_project": "acme",
    }
    assert {name: record[name] for name in seen} == seen
    assert [attempt["status"] for attempt in record["attempts"]] == [500, 200]
    assert draft_of(FULL, Usage(), 12)["outcome"] == "interrupted"


def test_a_record_after_a_draft_has_what_came_between():
    call = call_of(principal=Principal("vk"), usage=Usage(9, estimated=True))
    draft = draft_of(call, Usage(7, model="guess", web_search_requests=1, estimated=True), 5)
    call.limit_checks.append(("virtual_key", "vk", "usd", None, "soft", 9, 1, 1, 1, None, True))
    call.usage, call.outcome, call.status, call.cost_nano = Usage(3, 2), Outcome.COMPLETED, 200, 4
    record = record_of(call, NOW + 1)
    assert record["limits"] == call.limit_checks
    assert [record[name] for name in ("input_tokens", "output_tokens", "cost_nano", "estimated", "web_search_requests")] == [
        3,
        2,
        4,
        0,
        0,
    ]
    assert (record["model_served"], record["outcome"], record["status"]) == (None, "completed", 200)
    assert (draft["input_tokens"], draft["outcome"], draft["status"], draft["estimated"]) == (7, "interrupted", None, 1)
