"""Budgets: money reserved before the call at every level, settled exactly once after it, whatever the ending."""

from __future__ import annotations

from dataclasses import replace

from mitmproxy import http

from flow import Addon, call_of, deny, enforcing, expected_of, model_call, observing, services, was_sent_upstream
from sluicegate.calls import estimate
from sluicegate.calls.call import Call
from sluicegate.calls.record import draft_of
from sluicegate.calls.refusal import budget_message
from sluicegate.limits.ledger import Exhausted
from sluicegate.policy.model import Policy
from sluicegate.services import Services
from sluicegate.storage.errors import StoreError
from sluicegate.values import Deny, Reason, RequestFacts, Usage


def refusal(full: Exhausted, now: int) -> Deny:
    """The exhausted budget in words and numbers: used with what is in flight, then the limit."""
    limit = full.limit
    used = full.used + (full.asked if limit.hard else 0)
    return Deny(
        Reason.BUDGET_EXCEEDED,
        budget_message(limit, full.used, full.asked if limit.hard else None, full.resets_at),
        scope=f"{limit.scope_kind}/{limit.scope_id}",
        limit=limit.maximum,
        used=used,
        resets_at=full.resets_at,
        retry_after=None if full.resets_at is None else max(1, -(-(full.resets_at - now) // 1000)),
    )


class Budget(Addon):
    """Reserves, raises and settles; the call is on disk before it leaves."""

    @enforcing
    async def request(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the request is complete; hold its money under every budget, or refuse it naming the first."""
        judged = model_call(flow)
        if judged is None:
            return
        call, facts, policy = judged
        shared = services()
        refused = self.reserve(shared, call, facts, policy)
        if refused is None:
            try:
                await shared.writer.commit()
            except StoreError:
                refused = Deny(Reason.GATEWAY_ERROR, "The gateway's ledger cannot be written; try again shortly")
        if refused is not None:
            shared.ledger.release(call.id)
            deny(flow, refused)

    def reserve(self, shared: Services, call: Call, facts: RequestFacts, policy: Policy) -> Deny | None:
        """Hold the call's money in memory; None means it is admitted."""
        now = shared.clock()
        limits = [x for x in policy.limits(call.principal, call.provider, facts.model) if x.unit == "usd"]
        expected = expected_of(call, facts)
        cost = price(shared, policy, expected, facts.model, call.started_at)
        if cost is None:
            if limits:
                return Deny(
                    Reason.MODEL_UNPRICED,
                    f"Model '{facts.model}' has no known price, so it cannot be charged to a budget; add it to prices.yaml",
                )
            cost = 0
        bound = self.bound(shared, policy, facts, call.started_at, cost) if any(x.hard for x in limits) else cost
        if bound is None:
            return Deny(Reason.BUDGET_EXCEEDED, f"Model '{facts.model}' has no known worst case under a hard budget")
        full = shared.ledger.reserve(call.id, [(x, bound if x.hard else cost) for x in limits], now, call.limit_checks)
        if full is not None:
            return refusal(full, now)
        call.expected_nano = cost
        self.draft(shared, call, expected, cost)

        def known(usage: Usage) -> None:
            real = replace(usage, output_tokens=max(usage.output_tokens, expected.output_tokens), estimated=True)
            likely = price(shared, policy, real, facts.model, call.started_at)
            if likely is not None:
                shared.ledger.raise_to(call.id, {"usd": likely, "tokens": real.total_tokens})
                call.expected_nano = likely
                self.draft(shared, call, real, likely)
                shared.writer.flush_soon()

        call.on_usage = known
        return None

    def bound(self, shared: Services, policy: Policy, facts: RequestFacts, at: int, cost: int) -> int | None:
        """The most this call can cost, nano-dollars; never less than what it is expected to."""
        prices = shared.prices
        worst = estimate.worst_case_usage(facts, prices.context_window(facts.model), prices.max_output(facts.model))
        most = prices.max_cost(worst, facts.model, at)
        if most is None:
            most = price(shared, policy, worst, facts.model, at)
        return None if most is None else max(most, cost)

    def draft(self, shared: Services, call: Call, usage: Usage, cost: int) -> None:
        """Leave word of what the call will be charged if the process dies before it ends."""
        shared.ledger.hold_open(call.id, call.started_at, draft_of(call, usage, cost))

    @observing
    def response(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the call is over."""
        self.settle(flow)

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the client left, or the provider did."""
        self.settle(flow)

    def settle(self, flow: http.HTTPFlow) -> None:
        """Charge what the call really cost, once."""
        call = call_of(flow)
        if call is None or call.settled or call.kind != "messages" or not isinstance(call.policy, Policy):
            return
        call.settled = True
        shared = services()
        if not was_sent_upstream(flow):
            shared.ledger.release(call.id)
        else:
            charge(shared, call, call.policy, answered=flow.response.status_code if flow.response else None)
            shared.ledger.settle(call.id, {"usd": call.cost_nano})
            shared.ledger.close(call.id)
        shared.writer.flush_soon()


def charge(shared: Services, call: Call, policy: Policy, answered: int | None) -> None:
    """Make the call's usage and cost final. ``answered`` is the upstream status, None if none came."""
    facts, expected = call.facts, call.expected_usage
    if facts is None or expected is None or (answered is not None and answered >= 400):
        call.usage = None
        return
    if call.usage is None:
        # Answered, but not in a way we can read: its reservation. Not answered at all: its input.
        readable = expected if answered is not None else replace(expected, output_tokens=0)
        call.usage = replace(readable, estimated=True)
    elif not call.usage.estimated:
        learn(shared, facts, call.usage)
    cost = price(shared, policy, call.usage, facts.model, call.started_at)
    if cost is None:
        # The provider served a model nobody has a price for: what was asked for is the best there is.
        cost = call.expected_nano
        call.usage.estimated = True
    call.cost_nano = cost


def learn(shared: Services, facts: RequestFacts, usage: Usage) -> None:
    """Let the model's next estimates profit from what this call really used."""
    if facts.images or facts.adds_input or not facts.text_bytes:
        return
    lesson = shared.writer.learned.get(facts.model) or estimate.UsageAverages()
    shared.writer.learn(facts.model, lesson.update(usage, facts.text_bytes))


def price(shared: Services, policy: Policy, usage: Usage, model: str, at: int) -> int | None:
    """Nano-dollars for a usage; an unpriced model costs the policy's fallback price, or None where it denies."""
    cost = shared.prices.cost(usage, model, at)
    if cost is None and usage.model is not None:
        cost = shared.prices.cost(replace(usage, model=None), model, at)
    if cost is None and policy.unpriced == "fallback" and policy.fallback_price:
        cost = policy.fallback_price.cost(usage)
    return cost


addons = [Budget()]
