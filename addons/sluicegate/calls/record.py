"""The record of a call: the one form shared by ``audit.jsonl``, the table ``calls`` and every export."""

from __future__ import annotations

from typing import Any

from sluicegate.calls.call import Call
from sluicegate.calls.plan import Attempt
from sluicegate.calls.refusal import one_line
from sluicegate.values import TOKEN_COLUMNS, TOOL_COLUMNS, Outcome, Usage, usd
from sluicegate.windows import iso

Record = dict[str, Any]

COLUMNS: dict[str, type] = {
    "id": str,
    "started_at": str,
    "latency_ms": int,
    "ttft_ms": int,
    "virtual_key_id": str,
    "user_id": str,
    "team_id": str,
    "customer_id": str,
    "project_id": str,
    "session_id": str,
    "agent_id": str,
    "provider": str,
    "model_requested": str,
    "model_served": str,
    "stream": int,
    "status": int,
    "outcome": str,
    "reason": str,
    "input_tokens": int,
    "output_tokens": int,
    "cache_read_tokens": int,
    "cache_write_5m_tokens": int,
    "cache_write_1h_tokens": int,
    "cost_usd": str,
    "cost_nano": int,
    "estimated": int,
    "policy_revision": str,
    "request_bytes": int,
    "response_bytes": int,
    "user_agent": str,
    "path": str,
    "web_search_requests": int,
    "limits": str,
    "file_search_requests": int,
    "code_interpreter_sessions": int,
    "route": str,
    "attempts": str,
    "asked_model": str,
    "shadow_usd": str,
    "shadow_nano": int,
    "client_address": str,
    "message": str,
    "labels": str,
    "project_source": str,
    "claimed_project": str,
    "cache": str,
    "saved_usd": str,
    "saved_nano": int,
    "node": str,
}
"""Column name to type, in order; new columns go to the end. Times are ISO 8601 UTC with milliseconds, durations milliseconds.

``limits`` is a list of limit checks; None in records from before it was kept. ``route`` names the policy's route that the call
took, ``attempts`` lists what was tried, None for a call that was sent once and could not be sent elsewhere. ``asked_model`` is
the model in the client's own words where a route or a name chose another; ``model_requested`` is what the provider was asked for.
``shadow_usd`` is what a call with its client's own login would have cost; None for a call with a provider key.
``client_address`` is the address the call came from, as far as the proxies that the policy trusts say.
``message`` is a refusal in the words that its client got.
``labels`` is a JSON object of the caller's labels at the time of the call, None where there were none.
``project_source`` says who says which project it is for: ``key`` for the policy, ``client`` for a client that it trusts.
``claimed_project`` is the project or the repository in the client's own words, trusted or not.
``cache`` says what the cache did for it (``hit``, ``miss``, ``bypass``), None where none is enabled; ``saved_usd`` is what a hit
would have cost.
``node`` is the name of the gateway that the call passed, where several share a store; None where it is the only one.
"""

DETAIL_COLUMNS = ("limits", "attempts")
"""Columns that hold lists: JSON text in the table, and not in lists of calls."""

_UNUSED = Usage()

_BLANK: Record = dict.fromkeys(COLUMNS) | dict.fromkeys(("stream", "estimated", *TOOL_COLUMNS), 0)
"""A record of nothing, in the order of the columns. Filling a copy takes half the time of a dictionary written out."""


def draft_of(call: Call, usage: Usage, cost_nano: int) -> Record:
    """Return the record the call would have if the process died now: this usage at this cost, ``interrupted``."""
    record = record_of(call, call.started_at, usage)
    cost_usd = usd(cost_nano)
    if call.login is None:
        record["cost_usd"], record["cost_nano"] = cost_usd, cost_nano
    else:
        record["cost_usd"], record["cost_nano"] = "0", 0
        record["shadow_usd"], record["shadow_nano"] = cost_usd, cost_nano
    record["outcome"] = Outcome.INTERRUPTED._value_
    if call.attempts is not None:
        record["attempts"] = _attempts(call, call.attempts, cost_nano)
    return record


def record_of(call: Call, now: int, usage: Usage | None = None) -> Record:
    """Return the call as one flat record, complete however it ended; fields that do not apply are None."""
    record, began, first_byte_at = _head_of(call).copy(), call.started_at, call.first_byte_at
    record["latency_ms"] = now - began if now > began else 0
    if first_byte_at is not None:
        record["ttft_ms"] = first_byte_at - began if first_byte_at > began else 0
    record["provider"] = call.provider
    record["status"] = call.status
    # ``value`` takes ten times as long.
    record["outcome"] = (call.outcome or Outcome.FAILED)._value_
    _note_usage(record, usage or call.usage or _UNUSED)
    record["cost_usd"], record["cost_nano"] = usd(call.cost_nano), call.cost_nano
    record["request_bytes"], record["response_bytes"] = call.request_bytes, call.response_bytes
    record["cache"] = call.cache
    if (facts := call.facts) is not None:
        record["model_requested"] = facts.model
        record["stream"] = int(facts.stream)
    if call.deny is not None or call.failure is not None or call.plan is not None or call.attempts is not None:
        _note_way(record, call)
    if call.shadow_nano is not None:
        record["shadow_usd"], record["shadow_nano"] = usd(call.shadow_nano), call.shadow_nano
    if call.saved_nano is not None:
        record["saved_usd"], record["saved_nano"] = usd(call.saved_nano), call.saved_nano
    return record


def _head_of(call: Call) -> Record:
    """Return a record with what does not change of a call once its caller is known: the draft and the end have that in common."""
    head = call.record_head
    if head is None:
        head = call.record_head = _BLANK.copy()
        head["id"] = call.id
        head["started_at"] = iso(call.started_at)
        _note_caller(head, call)
        head["session_id"] = call.session_id
        head["agent_id"] = call.agent_id
        head["user_agent"] = call.user_agent
        head["path"] = call.path
        head["client_address"] = call.client_address
        # The list itself, to which checks are added.
        head["limits"] = call.limit_checks
        head["node"] = call.node
    return head


def _note_usage(record: Record, usage: Usage) -> None:
    """Note what the call used."""
    record["model_served"] = usage.model
    record["input_tokens"] = usage.input_tokens
    record["output_tokens"] = usage.output_tokens
    record["cache_read_tokens"] = usage.cache_read_tokens
    record["cache_write_5m_tokens"] = usage.cache_write_5m_tokens
    record["cache_write_1h_tokens"] = usage.cache_write_1h_tokens
    if usage.web_search_requests or usage.file_search_requests or usage.code_interpreter_sessions:
        for name in TOOL_COLUMNS:
            record[name] = getattr(usage, name)
    if usage.estimated:
        record["estimated"] = 1


def _note_way(record: Record, call: Call) -> None:
    """Note why a call was refused or has no answer, and where a call went that could go elsewhere than it was addressed to."""
    if call.deny is not None:
        record["reason"], record["message"] = call.deny.reason.value, one_line(call.deny.message)
    elif call.failure is not None:
        record["reason"] = call.failure.value
    if call.plan is not None:
        record["route"] = call.plan.route
    if call.facts is not None and call.asked_model != call.facts.model:
        record["asked_model"] = call.asked_model
    if call.attempts is not None:
        record["attempts"] = _attempts(call, call.attempts, call.cost_nano)


def _note_caller(record: Record, call: Call) -> None:
    """Note who made the call, what for, and by which policy it was judged."""
    who, policy = call.principal, call.policy
    record["claimed_project"] = claim = call.attribution.get("project")
    if policy is not None:
        record["policy_revision"] = policy.revision
    if who is not None:
        record["virtual_key_id"] = who.virtual_key_id
        record["team_id"] = who.team_id
        record["customer_id"] = who.customer_id
        if policy is not None:
            record["project_id"], record["project_source"] = policy.recorded_project(who, claim)
            record["labels"] = policy.labels_text(who)
    # A header may name the user where the key has none; it never overrides the key's.
    record["user_id"] = (who.user_id if who is not None else None) or call.attribution.get("user_id")


def _attempts(call: Call, attempts: list[Attempt], cost_nano: int) -> list[Record]:
    """Return what was tried, of a call at this cost; the one that answered has cost what the others have not."""
    last = cost_nano - call.abandoned_nano
    return [a.as_record(a.cost_nano if a.has_failed else last) for a in attempts]


def total_tokens(record: Record) -> int:
    """Return all tokens of a record, which is what its token limits were charged."""
    return sum(int(record.get(name) or 0) for name in TOKEN_COLUMNS)
