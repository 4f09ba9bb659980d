"""Rate limits: requests, tokens and calls in flight, exact at admission.

A slot is taken here and given back if a later check refuses the call. Tokens are held by estimate and corrected to what
the provider reports.
"""

from __future__ import annotations

from mitmproxy import http

from flow import Addon, call_of, deny, enforcing, expected_of, model_call, services, settlement_of
from sluicegate.calls.admission import reserve_rates


class RateLimit(Addon):
    """Takes a slot under every rate limit that applies, or takes none and refuses the call with 429."""

    @enforcing
    async def request(self, flow: http.HTTPFlow) -> None:
        """Take the slots once the request is complete."""
        judged = await model_call(flow)
        if judged is None:
            return
        call, facts, policy = judged
        limits = [x for x in policy.limits(call.principal, call.provider, facts.model) if x.unit != "usd"]
        if not limits:
            return
        shared = services()
        tokens = expected_of(call, facts).total_tokens
        refusal = reserve_rates(shared.ledger, call.id, limits, tokens, shared.clock(), call.limit_checks)
        if refusal is not None:
            deny(flow, refusal)
        else:
            shared.writer.flush_soon()

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Correct the tokens and free the slot; a call that was never sent gives everything back."""
        call = call_of(flow)
        if call is not None and call.kind == "messages" and call.policy is not None:
            services().ledger.settle(call.id, settlement_of(flow, call, call.policy).rate_amounts)


addons = [RateLimit()]
