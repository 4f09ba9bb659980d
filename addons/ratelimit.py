"""Rate limits: requests, tokens and calls in flight, exact at admission; free requests have a limit of their own.

A slot is taken here and given back if a later check refuses the call. Tokens are held by estimate and corrected to what
the provider reports.
"""

from __future__ import annotations

from collections.abc import Awaitable

from mitmproxy import http

from flow import (
    Addon,
    call_of,
    count_refusal,
    deny,
    enforcing,
    ensure_call,
    services,
    settlement_of,
    source_of,
    when_read,
)
from sluicegate.calls.admission import deny_exhausted, reserve_rates
from sluicegate.calls.call import Call
from sluicegate.policy.limit import Limits
from sluicegate.policy.model import Policy
from sluicegate.sending.reservation import expected_of, reserve_shared_rates
from sluicegate.values import Deny, Reason, RequestFacts

LIMITED = ("messages", "allowed")
"""Kinds of requests that count under the policy's limits."""


class RateLimit(Addon):
    """Takes a slot under every rate limit that applies, or takes none and refuses the call with 429."""

    @enforcing
    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Take the slots once the request is complete."""
        call = ensure_call(flow)
        if call is None or call.policy is None:
            return None
        if call.kind == "messages":
            return when_read(flow, call, self.take)
        if call.kind in LIMITED:
            return self.take(flow, call, None)
        self.take_free(flow, call, call.policy)
        return None

    def take(self, flow: http.HTTPFlow, call: Call, facts: RequestFacts | None) -> Awaitable[None] | None:
        """Take the slots for a request that counts; ``facts`` are those of a model call."""
        if call.policy is None:
            return None
        limits = call.policy.limits(call.principal, call.provider, facts.model if facts is not None else None)
        if not limits.rates:
            return None
        shared = services()
        tokens = expected_of(shared, call, facts).total_tokens if facts is not None else 0
        if shared.fleet is not None:
            return self.take_shared(flow, call, limits, tokens)
        decide(flow, reserve_rates(shared.ledger, call.id, limits, tokens, shared.clock(), call.limit_checks))
        return None

    async def take_shared(self, flow: http.HTTPFlow, call: Call, limits: Limits, tokens: int) -> None:
        """Take slots that other gateways share, for which the fleet's store may have to be asked."""
        decide(flow, await reserve_shared_rates(services(), call, limits, tokens))

    def take_free(self, flow: http.HTTPFlow, call: Call, policy: Policy) -> None:
        """Count a free request of the caller, or of its address where it has shown no key."""
        shared, who = services(), call.virtual_key_id
        now = shared.clock()
        scope = ("virtual_key", who) if who is not None else ("address", source_of(flow))
        exhausted = shared.free_requests.take(*scope, policy.free_request_max_limit, now)
        if exhausted is None:
            return
        deny(flow, deny_exhausted(exhausted, now))
        if who is None:
            count_refusal(flow, call, Reason.REQUEST_LIMITED)

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Correct the tokens and free the slot; a call that was never sent gives everything back."""
        call = call_of(flow)
        if call is not None and call.kind in LIMITED and call.policy is not None:
            services().ledger.settle(call.id, settlement_of(flow, call, call.policy).rate_amounts)


def decide(flow: http.HTTPFlow, refusal: Deny | None) -> None:
    """Refuse the call, or have what it holds written."""
    if refusal is not None:
        deny(flow, refusal)
    else:
        services().writer.flush_soon()


addons = [RateLimit()]
