"""Prompt cache: hands each answered call to the thread that finds out whether it paid again for what its provider had cached."""

from __future__ import annotations

from functools import partial

from mitmproxy import http

from flow import Addon, call_of, services
from sluicegate.prompt_caching.seen import seen_of


class PromptCache(Addon):
    """Comes after audit, which knows what is recorded of the call, and before its record is given away."""

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Queue what is needed of the call; everything else, reading its headers too, is the thread's."""
        call = call_of(flow)
        if call is None or call.kind != "messages" or call.answer is None or call.record is None or call.policy is None:
            return
        shared, sent = services(), flow.request.data
        body = sent.content or b""
        shared.prompt_watch.see(
            len(body), partial(seen_of, call, call.record, call.policy, shared.prices_for, body, sent.headers.fields)
        )


addons = [PromptCache()]
