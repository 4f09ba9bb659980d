"""Audit: one record per call, however it ends; and no call while required records cannot be written."""

from __future__ import annotations

from mitmproxy import http

from flow import Addon, call_of, deny, enforcing, ensure_call, outcome_of, services, was_sent_upstream
from sluicegate.calls.call import Call
from sluicegate.calls.record import record_of
from sluicegate.calls.refusal import reason_of_failure
from sluicegate.values import Deny, Outcome, Reason


class Audit(Addon):
    """Appends the journal line at once and leaves the database row to the next transaction."""

    @enforcing
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Refuse a call at its beginning if it could not be recorded."""
        call = ensure_call(flow)
        if call is None:
            return
        required = call.policy is None or call.policy.audit == "required"
        if required and not services().writer.journal_ready():
            deny(flow, Deny(Reason.GATEWAY_ERROR, "The gateway cannot write its records, and policy requires them"))

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Record the call, once."""
        call = call_of(flow)
        if call is None or call.recorded:
            return
        call.recorded = True
        shared = services()
        call.outcome = outcome_of(flow)
        call.status = status_of(flow, call)
        if flow.error is not None and flow.response is None and call.cleared and call.outcome is Outcome.FAILED:
            call.failure = reason_of_failure(flow.error.msg)
        # Added to the bytes of a refused body that were counted and dropped as they came.
        call.request_bytes += len(flow.request.raw_content or b"")
        if call.deny is not None and flow.response is not None:
            call.response_bytes = len(flow.response.raw_content or b"")
        record = record_of(call, shared.clock())
        call.record = record
        shared.writer.record(record)
        shared.metrics.observe(record)
        shared.writer.flush_soon()


def status_of(flow: http.HTTPFlow, call: Call) -> int | None:
    """Return the status that the call was answered with; None for no answer, and for our own where nothing was sent.

    Of a call that its client left between attempts, it is the last one's: the provider has answered, and a request is counted.
    """
    if call.attempts is None or call.deny is not None:
        return flow.response.status_code if flow.response else None
    if flow.response is not None:
        return flow.response.status_code if was_sent_upstream(flow) else None
    return next((attempt.status for attempt in reversed(call.attempts) if attempt.status is not None), None)


addons = [Audit()]
