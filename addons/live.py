"""Live: tells whoever is looking which calls run and which have ended."""

from __future__ import annotations

from mitmproxy import http

from flow import Addon, call_of, enforcing, observing, services


class Live(Addon):
    """Behind every check, so that what begins here really runs, and behind audit, so that what ends has its record."""

    @enforcing
    def request(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the request is about to leave."""
        call = call_of(flow)
        if call is not None and call.cleared:
            services().live_calls.begin(call)

    @observing
    def response(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the call is over."""
        self.ended(flow)

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the call broke off."""
        self.ended(flow)

    def ended(self, flow: http.HTTPFlow) -> None:
        """Tell of the end, with the record that was just made."""
        call = call_of(flow)
        if call is not None and call.record is not None:
            services().live_calls.end(call, call.record)
            call.record = None


addons = [Live()]
