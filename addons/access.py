"""Access: which providers and which models a virtual key may use, and whether its client's own login may go to a provider."""

from __future__ import annotations

from mitmproxy import http

from flow import Addon, deny, enforcing, ensure_call, facts_of
from sluicegate.calls.admission import check_access
from sluicegate.calls.call import Call
from sluicegate.calls.client_login import judge_login, login_only_message
from sluicegate.calls.refusal import UNREADABLE_MODELS, slashed_message, unsupported_message
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


addons = [Access()]
