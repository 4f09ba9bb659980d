"""The record of a call: the one form shared by ``audit.jsonl``, the table ``calls`` and every export."""

from __future__ import annotations

from typing import Any

from sluicegate.calls.call import Call
from sluicegate.calls.refusal import one_line
from sluicegate.values import TOKEN_COLUMNS, Outcome, Usage, usd
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


def draft_of(call: Call, usage: Usage, cost_nano: int) -> Record:
    """Return the record the call would have if the process died now: this usage at this cost, ``interrupted``."""
    record = record_of(call, call.started_at, usage)
    attempts = _attempts(call, cost_nano)
    record.update(cost_usd=usd(cost_nano), cost_nano=cost_nano, outcome=Outcome.INTERRUPTED.value, attempts=attempts)
    if call.login is not None:
        record.update(cost_usd="0", cost_nano=0, shadow_usd=usd(cost_nano), shadow_nano=cost_nano)
    return record


def record_of(call: Call, now: int, usage: Usage | None = None) -> Record:
    """Return the call as one flat record, complete however it ended; fields that do not apply are None."""
    usage = usage or call.usage or _UNUSED
    who, facts, policy = call.principal, call.facts, call.policy
    reason = call.deny.reason if call.deny else call.failure
    claim = call.attribution.get("project")
    project, project_source = policy.recorded_project(who, claim) if policy and who else (None, None)
    return {
        "id": call.id,
        "started_at": iso(call.started_at),
        "latency_ms": max(0, now - call.started_at),
        "ttft_ms": None if call.first_byte_at is None else max(0, call.first_byte_at - call.started_at),
        "virtual_key_id": who.virtual_key_id if who else None,
        # A header may name the user where the key has none; it never overrides the key's.
        "user_id": (who.user_id if who else None) or call.attribution.get("user_id"),
        "team_id": who.team_id if who else None,
        "customer_id": who.customer_id if who else None,
        "project_id": project,
        "session_id": call.session_id,
        "agent_id": call.agent_id,
        "provider": call.provider,
        "model_requested": facts.model if facts else None,
        "model_served": usage.model,
        "stream": int(facts.stream) if facts else 0,
        "status": call.status,
        "outcome": (call.outcome or Outcome.FAILED).value,
        "reason": reason.value if reason else None,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_5m_tokens": usage.cache_write_5m_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "cost_usd": usd(call.cost_nano),
        "cost_nano": call.cost_nano,
        "estimated": int(usage.estimated),
        "policy_revision": policy.revision if policy else None,
        "request_bytes": call.request_bytes,
        "response_bytes": call.response_bytes,
        "user_agent": call.user_agent,
        "path": call.path,
        "web_search_requests": usage.web_search_requests,
        "limits": call.limit_checks,
        "file_search_requests": usage.file_search_requests,
        "code_interpreter_sessions": usage.code_interpreter_sessions,
        "route": call.plan.route if call.plan else None,
        "attempts": _attempts(call, call.cost_nano),
        "asked_model": call.asked_model if facts and call.asked_model != facts.model else None,
        "shadow_usd": usd(call.shadow_nano) if call.shadow_nano is not None else None,
        "shadow_nano": call.shadow_nano,
        "client_address": call.client_address,
        "message": one_line(call.deny.message) if call.deny else None,
        "labels": policy.labels_text(who) if policy and who else None,
        "project_source": project_source,
        "claimed_project": claim,
        "cache": call.cache,
        "saved_usd": usd(call.saved_nano) if call.saved_nano is not None else None,
        "saved_nano": call.saved_nano,
        "node": call.node,
    }


def _attempts(call: Call, cost_nano: int) -> list[Record] | None:
    """Return what was tried, of a call at this cost; the one that answered has cost what the others have not."""
    if call.attempts is None:
        return None
    last = cost_nano - call.abandoned_nano
    return [a.as_record(a.cost_nano if a.has_failed else last) for a in call.attempts]


def total_tokens(record: Record) -> int:
    """Return all tokens of a record, which is what its token limits were charged."""
    return sum(int(record.get(name) or 0) for name in TOKEN_COLUMNS)
