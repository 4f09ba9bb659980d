"""Route: which provider and model answer a call, where the policy, the key or the model's name gives a choice."""

from __future__ import annotations

from collections.abc import Awaitable

from mitmproxy import http

from flow import Addon, call_of, deny, enforcing, outcome_of, services, when_read
from sluicegate.calls.call import Call
from sluicegate.calls.client_login import plan_with_login
from sluicegate.calls.plan import Target, cause_of_status
from sluicegate.routing.selection import Asked, unknown_fallback
from sluicegate.sending.dialects import turn_to
from sluicegate.values import Deny, Outcome, RequestFacts


class Route(Addon):
    """Makes the call's plan. Every rule after this judges the call by the plan's first target."""

    @enforcing
    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Choose a target once the request is complete."""
        call = call_of(flow)
        if call is None or call.kind not in ("messages", "count_tokens"):
            return None
        return when_read(flow, call, self.choose)

    def choose(self, flow: http.HTTPFlow, call: Call, facts: RequestFacts) -> None:
        """Choose a target for a call whose body has been read."""
        shared = services()
        if call.policy is None:
            return
        asked = Asked(call.envelope, facts.model, facts.fallbacks, call.request_class, call.session_id)
        if facts.fallbacks and (refusal := unknown_fallback(call.policy, asked)) is not None:
            deny(flow, refusal)
            return
        plan = shared.router.plan(call.policy, call.principal, asked, shared.clock())
        if plan is None:
            return
        if call.login is not None:
            with_login = plan_with_login(plan, call.envelope)
            if isinstance(with_login, Deny):
                deny(flow, with_login)
                return
            plan = with_login
        first = plan.targets[0]
        call.plan, call.asked_model = plan, facts.model
        turn_to(first, call, facts, call.policy)

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Note how its target did, of a call that was sent once; of others each attempt is noted where it was made."""
        call = call_of(flow)
        if call is None or call.facts is None or call.kind != "messages" or not call.cleared:
            return
        if call.deny is not None or call.attempts is not None:
            return
        if flow.response is None:
            # One that its client has left says nothing about its provider.
            is_failure, is_known = True, outcome_of(flow) is Outcome.FAILED
        else:
            status = flow.response.status_code
            # An answer that stands, such as 400, is about the call.
            is_failure = cause_of_status(status) is not None
            is_known = is_failure or status < 400
        if is_known:
            latency = None if call.first_byte_at is None or call.sent_at is None else call.first_byte_at - call.sent_at
            target = Target(call.provider, call.facts.model)
            services().router.note(target, services().clock(), is_failure=is_failure, latency_ms=latency)


addons = [Route()]
