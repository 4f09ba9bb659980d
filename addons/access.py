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
    async def request(self, flow: http.HTTPFlow) -> None:
        """Judge provider and model once the request is complete."""
        call = ensure_call(flow)
        if call is None or call.policy is None:
            return
        unmetered = PROVIDERS[call.provider].unmetered(call.method, flow.request.path)
        if unmetered is not None:
            # Its cost appears in no answer to this request, so no budget could hold it.
            deny(flow, Deny(Reason.UNSUPPORTED, f"{unmetered} are not supported by this gateway: send single calls"))
            return
        models: tuple[str, ...] = ()
        if call.kind != "other":
            facts = await facts_of(flow, call)
            if facts is None:
                return
            models = facts.named_models
        # Every model that the body names may do a part of the work.
        for model in models or (None,):
            refusal = check_access(call.policy, call.principal, call.provider, model)
            if refusal is not None:
                deny(flow, refusal)
                return


addons = [Access()]
