"""Rate limits: calls, tokens and calls in flight, exact at admission.

The slot is taken here and given back if a later check refuses the call; tokens are held by estimate and trued up to
what the provider reports.
"""

from __future__ import annotations

from mitmproxy import http

from flow import Addon, call_of, deny, enforcing, expected_of, model_call, observing, services, was_sent_upstream
from sluicegate.calls.call import Call
from sluicegate.calls.refusal import rate_message
from sluicegate.limits.ledger import Exhausted
from sluicegate.values import Deny, Reason, Unit

REASONS: dict[Unit, Reason] = {
    "requests": Reason.REQUEST_LIMITED,
    "tokens": Reason.TOKEN_LIMITED,
    "concurrent": Reason.CONCURRENCY_LIMITED,
}

CONCURRENCY_RETRY = 2
"""Seconds a client is told to wait for a free slot: calls in flight end at no known time, but soon."""


def refusal(full: Exhausted, call: Call, now: int) -> Deny:
    """The exhausted limit in words and numbers; the count includes the call being refused."""
    limit = full.limit
    used = full.used + (1 if limit.unit in ("requests", "concurrent") else 0)
    wait = CONCURRENCY_RETRY if full.resets_at is None else max(1, -(-(full.resets_at - now) // 1000))
    return Deny(
        REASONS[limit.unit],
        rate_message(limit, used, retry_after=wait),
        scope=f"{limit.scope_kind}/{limit.scope_id}",
        limit=limit.maximum,
        used=used,
        resets_at=full.resets_at,
        retry_after=wait,
        final=wait > 60,
    )


class RateLimit(Addon):
    """Takes a slot under every rate limit that applies, or none and a 429."""

    @enforcing
    def request(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the request is complete; take the slots."""
        judged = model_call(flow)
        if judged is None:
            return
        call, facts, policy = judged
        limits = [x for x in policy.limits(call.principal, call.provider, facts.model) if x.unit in REASONS]
        if not limits:
            return
        shared = services()
        now = shared.clock()
        expected = expected_of(call, facts).total_tokens
        asks = [(x, expected if x.unit == "tokens" else 1) for x in limits]
        full = shared.ledger.reserve(call.id, asks, now, call.limit_checks)
        if full is not None:
            deny(flow, refusal(full, call, now))
        else:
            shared.writer.flush_soon()

    @observing
    def response(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the call is over, well or not."""
        self.settle(flow)

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the call broke off."""
        self.settle(flow)

    def settle(self, flow: http.HTTPFlow) -> None:
        """True up tokens and free the slot in flight; a call that never left gives everything back."""
        call = call_of(flow)
        if call is None or call.kind != "messages":
            return
        ledger = services().ledger
        if not was_sent_upstream(flow):
            ledger.settle(call.id, {"requests": 0, "tokens": 0, "concurrent": 0})
            return
        ledger.settle(call.id, {"requests": 1, "tokens": used_tokens(call, flow.response), "concurrent": 0})


def used_tokens(call: Call, response: http.Response | None) -> int:
    """What a token limit is charged: what was reported, else the estimate, and nothing for an upstream's error."""
    if call.usage is not None:
        return call.usage.total_tokens
    expected = call.expected_usage
    if expected is None or (response is not None and response.status_code >= 400):
        return 0
    return expected.prompt_tokens if response is None else expected.total_tokens


addons = [RateLimit()]
