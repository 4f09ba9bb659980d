"""Access: which providers and which models a virtual key may use."""

from __future__ import annotations

from mitmproxy import http

from flow import Addon, deny, enforcing, ensure_call, facts_of
from sluicegate.calls.admission import check_access
from sluicegate.calls.refusal import UNREADABLE_MODELS, unsupported_message
from sluicegate.providers.requests.body import models_anywhere
from sluicegate.values import Deny, Reason


class Access(Addon):
    """Refuses what the key's provider configs do not list. A key without any may use everything."""

    @enforcing
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Refuse what no table of endpoints lists, before its body has come."""
        call = ensure_call(flow)
        if call is not None and call.kind == "unsupported":
            deny(flow, Deny(Reason.UNSUPPORTED, unsupported_message(call.provider, call.method, call.path)))

    @enforcing
    async def request(self, flow: http.HTTPFlow) -> None:
        """Judge provider and model once the request is complete."""
        call = ensure_call(flow)
        if call is None or call.policy is None:
            return
        models: tuple[str, ...] = ()
        if call.kind in ("messages", "count_tokens"):
            facts = await facts_of(flow, call)
            if facts is None:
                return
            models = facts.named_models
        elif call.kind == "allowed" and not call.policy.model_access(call.principal, call.provider, "").model_allowed:
            named = models_anywhere(flow.request.raw_content or b"", call.path)
            if named is None:
                deny(flow, Deny(Reason.UNSUPPORTED, UNREADABLE_MODELS))
                return
            models = named
        # Every model that is named may do a part of the work.
        for model in models or (None,):
            refusal = check_access(call.policy, call.principal, call.provider, model)
            if refusal is not None:
                deny(flow, refusal)
                return


addons = [Access()]
