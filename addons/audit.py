"""Audit: one record per call, whatever became of it; and no call where records cannot be written."""

from __future__ import annotations

from mitmproxy import http

from flow import Addon, call_of, deny, enforcing, ensure_call, observing, outcome_of, services
from sluicegate.calls.record import record_of
from sluicegate.policy.model import Policy
from sluicegate.values import Deny, Reason


class Audit(Addon):
    """Writes the line in the hook and lets the row ride with the next transaction."""

    @enforcing
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a call begins; refuse it now if it could not be put on record."""
        call = ensure_call(flow)
        if call is None:
            return
        required = not isinstance(call.policy, Policy) or call.policy.audit == "required"
        if required and not services().writer.journal_ready():
            deny(flow, Deny(Reason.GATEWAY_ERROR, "The gateway cannot write its records, and policy requires them"))

    @observing
    def response(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the call is over."""
        self.record(flow)

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the call broke off."""
        self.record(flow)

    def record(self, flow: http.HTTPFlow) -> None:
        """Put the call on record, once."""
        call = call_of(flow)
        if call is None or call.recorded:
            return
        call.recorded = True
        shared = services()
        call.outcome = outcome_of(flow)
        call.status = flow.response.status_code if flow.response else None
        # Besides what has not been kept of it, see bounds.
        call.request_bytes += len(flow.request.raw_content or b"")
        if call.deny is not None and flow.response is not None:
            call.response_bytes = len(flow.response.raw_content or b"")
        record = record_of(call, shared.clock())
        call.record = record
        shared.writer.record(record)
        shared.metrics.observe(record)
        shared.writer.flush_soon()


addons = [Audit()]
