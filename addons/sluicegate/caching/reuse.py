"""Which answers are given to other calls, what such an answer's headers say, and what it saves."""

from __future__ import annotations

from sluicegate.caching.entry import Entry, fresh_id
from sluicegate.calls.call import Call
from sluicegate.calls.settlement import price_usage
from sluicegate.policy.model import Policy
from sluicegate.pricing.prices import Prices
from sluicegate.providers.answers.usage_reader import MAX_FINISH_REASONS

ENDED_WELL = frozenset(("end_turn", "stop_sequence", "tool_use", "stop", "tool_calls", "function_call", "STOP"))
"""Why a model may have stopped: it was done, or it calls the client's tools. Not for length, refusal, filter or a pause."""

WITHOUT_REASONS = ("/responses", "/embeddings", ":embedContent", ":batchEmbedContents")
"""How paths end whose answers name no such reason: OpenAI's Responses API has a status, and vectors are whole or not there."""

_REQUEST_IDS = {"anthropic": ("request-id", "req_"), "openai": ("x-request-id", "req_")}
"""The header in which a provider names a request, and how its ids begin, by protocol."""

_TAIL_BYTES = 512


def is_for_others(call: Call, body: bytes) -> bool:
    """Return whether an answer that has ended may be given to others: whole, as its provider meant it, and paid as reported."""
    answer, usage = call.answer, call.usage
    if answer is None or usage is None or usage.estimated or call.upstream_error is not None:
        return False
    if not answer.is_final or answer.is_truncated or answer.is_unbilled or answer.error is not None:
        return False
    if usage.web_search_requests or usage.file_search_requests or usage.code_interpreter_sessions:
        return False
    reasons = answer.reader.finish_reasons if answer.reader is not None else ()
    if not ENDED_WELL.issuperset(reasons) or len(reasons) >= MAX_FINISH_REASONS:
        # Of so many candidates not all have been read.
        return False
    if not reasons and not call.path.endswith(WITHOUT_REASONS):
        return False
    return not answer.is_streamed or _is_ended(call, body)


def is_complete_though_left(call: Call, body: bytes) -> bool:
    """Return whether a stream whose client has left had come to its end: some clients read no further than its last event."""
    answer = call.answer
    return _protocol_of(call) in _REQUEST_IDS and answer is not None and answer.is_streamed and _is_ended(call, body)


def _is_ended(call: Call, body: bytes) -> bool:
    """Return whether a stream has the end that its clients wait for."""
    protocol = _protocol_of(call)
    if protocol == "anthropic":
        return b'"message_stop"' in body[-_TAIL_BYTES:]
    if protocol == "openai":
        return b"[DONE]" in body[-_TAIL_BYTES:] or b'"response.completed"' in body
    return True


def _protocol_of(call: Call) -> str:
    """Return the protocol in which a call is answered."""
    return call.policy.providers[call.envelope].protocol if call.policy is not None else call.protocol


def headers_of_hit(call: Call, found: Entry, now: int) -> list[tuple[str, str]]:
    """Return the headers of an answer from the cache. What the first one's said of its own request and account is left out."""
    headers = [("content-type", found.content_type), ("age", str(max(0, now - found.at) // 1000))]
    named = _REQUEST_IDS.get(_protocol_of(call))
    if named is not None:
        name, prefix = named
        headers.append((name, fresh_id(prefix + "0" * 24)))
    return headers


def saved_by(found: Entry, policy: Policy, prices: Prices, now: int) -> int:
    """Return what asking the provider again would have cost now, in nano-dollars; 0 where that has no price."""
    return price_usage(policy, prices, found.repeated_usage(now), found.model, now) or 0
