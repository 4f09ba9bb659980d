"""The ended call: what is kept of a call for its span, once it has ended and until that is sent."""

from __future__ import annotations

from typing import NamedTuple

from sluicegate.calls.call import Call
from sluicegate.calls.record import Record
from sluicegate.telemetry.conventions import error_of, operation_of, provider_name
from sluicegate.values import Kind


class EndedCall(NamedTuple):
    """A call's record, and what OpenTelemetry asks for besides. No part of its prompt or answer."""

    record: Record
    started_at: int
    """Epoch milliseconds."""
    kind: Kind
    operation: str
    provider_name: str
    server_address: str
    server_port: int
    error: str | None
    traceparent: str | None = None
    max_tokens: int | None = None
    finish_reasons: tuple[str, ...] = ()


def ended_call(call: Call, record: Record) -> EndedCall:
    """Return what is kept of a call that has ended with this record."""
    provider = call.policy.providers.get(call.provider) if call.policy is not None else None
    reader = call.answer.reader if call.answer is not None else None
    return EndedCall(
        record=record,
        started_at=call.started_at,
        kind=call.kind,
        operation=operation_of(call.kind, call.path),
        provider_name=provider_name(call.provider, provider.protocol if provider is not None else call.protocol),
        server_address=provider.host if provider is not None else "",
        server_port=provider.port if provider is not None else 0,
        error=error_of(record, call.upstream_error),
        traceparent=call.traceparent,
        max_tokens=call.facts.max_tokens if call.facts is not None else None,
        finish_reasons=reader.finish_reasons if reader is not None else (),
    )
