"""Access: which providers and models a virtual key may use and sees, and whether its client's own login may go to a provider."""

from __future__ import annotations

from mitmproxy import http

from flow import Addon, call_of, deny, enforcing, ensure_call, facts_of, observing
from sluicegate.calls.admission import check_access
from sluicegate.calls.call import Call
from sluicegate.calls.client_login import judge_login, login_only_message
from sluicegate.calls.refusal import UNREADABLE_MODELS, slashed_message, unsupported_message
from sluicegate.providers.model_lists import is_model_list, without_refused
from sluicegate.providers.requests.body import models_anywhere
from sluicegate.values import Deny, Reason

IN_PATHS = ("gemini", "vertex")
"""Protocols whose paths name the model: there a slash would end the name for one reader and not for another."""


class Access(Addon):
    """Refuses what the key's provider configs do not list. A key without any may use everything."""

    @enforcing
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Refuse what no table of endpoints lists, before its body has come."""
        call = ensure_call(flow)
        if call is None:
            return
        self.judge_login(flow, call)
        if call.kind == "login" and call.login is None:
            deny(flow, Deny(Reason.UNSUPPORTED, login_only_message(call.method, call.path)))
        elif call.kind == "unsupported":
            deny(flow, Deny(Reason.UNSUPPORTED, unsupported_message(call.provider, call.method, call.path)))

    def judge_login(self, flow: http.HTTPFlow, call: Call) -> None:
        """Let a client's own login take the place of a provider key, or refuse the call, as the policy says."""
        offered, call.offered_login = call.offered_login, None
        if offered is None or call.policy is None or call.kind == "keyless":
            return
        provider = call.policy.providers[call.provider]
        if not provider.has_subscriptions:
            # Of no use there; a provider key takes its place, as it does of whatever else a client sends.
            return
        refusal = judge_login(provider, call.client)
        if refusal is not None:
            deny(flow, refusal)
            return
        call.login, call.shadow_nano = offered, 0

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
        name = call.facts.model if call.facts is not None else ""
        if "/" in name and call.protocol == "gemini" and call.policy.providers[call.provider].protocol in IN_PATHS:
            deny(flow, Deny(Reason.UNSUPPORTED, slashed_message(name)))

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Have the answer collected that lists models to a key which may not use all of them."""
        call = call_of(flow)
        if call is None or not is_model_list(call.method, call.path) or call.policy is None or flow.response is None:
            return
        key = call.policy.virtual_keys.get(call.principal.virtual_key_id) if call.principal else None
        if key is not None and key.provider_configs is not None and flow.response.status_code == 200:
            flow.response.stream = False

    @observing
    def response(self, flow: http.HTTPFlow) -> None:
        """Leave out of a list of models what the key may not use."""
        call, response = call_of(flow), flow.response
        if call is None or not is_model_list(call.method, call.path) or call.policy is None:
            return
        # What was streamed has gone, and has no content here.
        if response is None or response.status_code != 200 or not response.raw_content:
            return
        policy, caller, provider = call.policy, call.principal, call.provider
        filtered = without_refused(response.content or b"", lambda m: policy.model_access(caller, provider, m).model_allowed)
        if filtered is not None:
            response.content = filtered


addons = [Access()]
