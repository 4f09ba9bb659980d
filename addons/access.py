"""Access: which providers and which models a key may use."""

from __future__ import annotations

from mitmproxy import http

from flow import Addon, deny, enforcing, ensure_call, facts_of
from sluicegate.calls.refusal import model_message
from sluicegate.policy.model import Policy
from sluicegate.providers import PROVIDERS
from sluicegate.values import Deny, Reason


class Access(Addon):
    """Refuses what the key's provider configs do not list. A key without any may use everything."""

    @enforcing
    def request(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the request is complete; judge provider and model."""
        call = ensure_call(flow)
        if call is None or not isinstance(call.policy, Policy):
            return
        policy, adapter = call.policy, PROVIDERS[call.provider]
        if adapter.creates_batch(call.method, flow.request.path):
            # A batch is many calls under one request that answers hours later: it would escape every budget.
            deny(flow, Deny(Reason.UNSUPPORTED, "Message batches are not supported by this gateway: send single calls"))
            return
        facts = None
        if call.kind != "other":
            facts = facts_of(flow, call)
            if facts is None:
                return
        who = call.principal.virtual_key_id if call.principal else None
        verdict = policy.model_access(call.principal, call.provider, facts.model if facts else None)
        if not verdict.provider_allowed:
            deny(
                flow,
                Deny(
                    Reason.PROVIDER_BLOCKED,
                    f"Provider '{call.provider}' is not allowed for this virtual key",
                    scope=who,
                ),
            )
        elif facts is not None and not verdict.model_allowed:
            deny(
                flow,
                Deny(
                    Reason.MODEL_BLOCKED,
                    model_message(facts.model, verdict.allowed_models),
                    scope=who,
                ),
            )


addons = [Access()]
