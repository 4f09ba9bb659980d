"""Access: which providers and models a virtual key may use and sees, and whether its client's own login may go to a provider."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import ClassVar

from mitmproxy import http

from flow import Addon, call_of, deny, enforcing, ensure_call, observing, when_read
from sluicegate.calls.admission import check_access, has_refused_models
from sluicegate.calls.call import Call
from sluicegate.calls.client_login import judge_login, login_only_message
from sluicegate.calls.refusal import UNREADABLE_MODELS, render, slashed_message, unreadable_list_message, unsupported_message
from sluicegate.policy.model import Policy
from sluicegate.providers.answers.content_encoding import ContentDecoder
from sluicegate.providers.model_lists import (
    NOT_FOUND,
    UnreadableListError,
    is_model_list,
    model_asked_about,
    unknown_model_body,
    without_refused,
)
from sluicegate.providers.requests.body import models_anywhere
from sluicegate.values import Deny, Reason, RequestFacts

logger = logging.getLogger("sluicegate")

IN_PATHS = ("gemini", "vertex")
"""Protocols whose paths name the model: there a slash would end the name for one reader and not for another."""


class Access(Addon):
    """Refuses what the key's provider configs do not list. A key without any may use everything."""

    marks: ClassVar[dict[str, str]] = dict.fromkeys(("responseheaders", "response"), "sluicegate_lists_models")

    @enforcing
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Refuse what no table of endpoints lists, before its body has come."""
        call = ensure_call(flow)
        if call is None:
            return
        if is_model_list(call.method, call.path):
            flow.sluicegate_lists_models = True  # type: ignore[attr-defined]
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
    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Judge provider and model once the request is complete."""
        call = ensure_call(flow)
        if call is None or call.policy is None or call.asks_all:
            return None
        if call.kind in ("messages", "count_tokens"):
            return when_read(flow, call, self.judge_call)
        models = self.models_named(flow, call, call.policy)
        if models is not None:
            self.judge(flow, call, call.policy, models)
        return None

    def judge_call(self, flow: http.HTTPFlow, call: Call, facts: RequestFacts) -> None:
        """Judge a call by its body."""
        policy = call.policy
        if policy is None or not self.judge(flow, call, policy, facts.named_models):
            return
        if "/" in facts.model and call.protocol == "gemini" and policy.providers[call.provider].protocol in IN_PATHS:
            deny(flow, Deny(Reason.UNSUPPORTED, slashed_message(facts.model)))

    def judge(self, flow: http.HTTPFlow, call: Call, policy: Policy, models: tuple[str, ...]) -> bool:
        """Return whether the caller may use these models of the provider; refuse the request if not."""
        # Every model that is named may do a part of the work.
        for model in models or (None,):
            refusal = check_access(policy, call.principal, call.provider, model)
            if refusal is not None:
                deny(flow, refusal)
                if call.kind == "other" and refusal.reason is Reason.MODEL_BLOCKED and flow.response is not None:
                    # To whoever only asks about a model, it is one that is not there.
                    flow.response.status_code = NOT_FOUND
                    flow.response.content = unknown_model_body(call.protocol, refusal.message)
                return False
        return True

    def models_named(self, flow: http.HTTPFlow, call: Call, policy: Policy) -> tuple[str, ...] | None:
        """Return every model that a request names besides model calls; refuse it and return None where that cannot be told."""
        if call.kind == "allowed" and has_refused_models(policy, call.principal, call.provider):
            named = models_anywhere(flow.request.raw_content or b"", call.path)
            if named is None:
                deny(flow, Deny(Reason.UNSUPPORTED, UNREADABLE_MODELS))
            return named
        asked = model_asked_about(call.method, call.path)
        return () if asked is None else (asked,)

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Have the answer collected that lists models to a key which may not use all of them."""
        call = call_of(flow)
        if call is not None and flow.response is not None and lists_too_much(call, flow.response):
            flow.response.stream = False

    @observing
    def response(self, flow: http.HTTPFlow) -> None:
        """Leave out of a list of models what the key may not use; in place of one that cannot be read, say so."""
        call, response = call_of(flow), flow.response
        if call is None or call.policy is None or response is None or not lists_too_much(call, response):
            return
        policy, caller, provider = call.policy, call.principal, call.provider
        try:
            filtered = without_refused(decoded(response), lambda m: policy.model_access(caller, provider, m).model_allowed)
        except Exception as e:
            # Of whatever kind: shown as it came, the list would name models that the key may not use.
            why = str(e) if isinstance(e, UnreadableListError) else "it could not be judged"
            if not isinstance(e, UnreadableListError):
                logger.exception("a list of models could not be filtered")
            call.failure = Reason.GATEWAY_ERROR
            refusal = Deny(call.failure, unreadable_list_message(provider, why))
            status, headers, body = render(refusal, call.protocol, call.audience)
            flow.response = http.Response.make(status, body, dict(headers))
            return
        if filtered is not None:
            response.content = filtered


def lists_too_much(call: Call, response: http.Response) -> bool:
    """Return whether an answer lists models to a key that may not use all of them."""
    if call.asks_all or not is_model_list(call.method, call.path) or not 200 <= response.status_code < 300 or call.policy is None:
        return False
    return has_refused_models(call.policy, call.principal, call.provider)


def decoded(response: http.Response) -> bytes:
    """Return an answer's body without its content-encoding. Raises UnreadableListError."""
    # Not by mitmproxy's own decoding: a few bytes could become gigabytes there.
    decoder = ContentDecoder(response.headers.get("content-encoding", ""))
    body = decoder.feed(response.raw_content or b"")
    if not decoder.readable:
        raise UnreadableListError("its content-encoding says otherwise, or it is too long")
    return body


addons = [Access()]
