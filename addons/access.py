"""Access: which providers and which models a virtual key may use."""

from __future__ import annotations

from mitmproxy import http

from flow import Addon, deny, enforcing, ensure_call, facts_of
from sluicegate.calls.admission import check_access
from sluicegate.providers import PROVIDERS
from sluicegate.values import Deny, Reason


class Access(Addon):
    """Refuses what the key's provider configs do not list. A key without any may use everything."""

    @enforcing
    def request(self, flow: http.HTTPFlow) -> None:
        """Judge provider and model once the request is complete."""
        call = ensure_call(flow)
        if call is None or call.policy is None:
            return
        if PROVIDERS[call.provider].creates_batch(call.method, flow.request.path):
            # A batch is many calls in one request, answered hours later: no budget could hold its cost.
            deny(flow, Deny(Reason.UNSUPPORTED, "Message batches are not supported by this gateway: send single calls"))
            return
        model = None
        if call.kind != "other":
            facts = facts_of(flow, call)
            if facts is None:
                return
            model = facts.model
        refusal = check_access(call.policy, call.principal, call.provider, model)
        if refusal is not None:
            deny(flow, refusal)


addons = [Access()]
