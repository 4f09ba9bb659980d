"""Live: publishes calls as they begin and end, for the event stream and the dashboard; a line is printed and a span exported."""

from __future__ import annotations

from mitmproxy import http

from flow import Addon, call_of, enforcing, services


class Live(Addon):
    """Comes after every check, so that a call that begins here really runs, and after audit, which makes its record."""

    @enforcing
    def request(self, flow: http.HTTPFlow) -> None:
        """Publish the call once every addon has cleared it."""
        call = call_of(flow)
        if call is not None and call.cleared:
            services().live_calls.begin(call)

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Publish the end, with the record that audit has just made."""
        call = call_of(flow)
        if call is not None and call.record is not None:
            shared = services()
            shared.live_calls.end(call, call.record)
            shared.printer.call(call.record)
            shared.telemetry.call_ended(call, call.record)
            call.record = None


addons = [Live()]
