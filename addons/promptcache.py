"""Prompt cache: hands each answered call to the thread that finds out whether it paid again for what its provider had cached."""

from __future__ import annotations

from mitmproxy import http

from flow import Addon, call_of, services
from sluicegate.prompt_caching.seen import seen_of


class PromptCache(Addon):
    """Comes after audit, which knows what is recorded of the call, and before its record is given away."""

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Queue a call whose provider has said what it used; nothing is read here."""
        call = call_of(flow)
        if call is None or call.answer is None or call.record is None or call.policy is None:
            return
        shared = services()
        header = flow.request.headers.get("anthropic-beta", "")
        seen = seen_of(call, call.policy, shared.prices_for(call.provider, call.policy), flow.request.raw_content or b"", header)
        if seen is not None:
            shared.prompt_watch.see(seen)


addons = [PromptCache()]
