"""Spans as OTLP has them: one for each call that has ended, with the attributes of OpenTelemetry's GenAI conventions.

Imported only where an export is configured, because the messages come with the extra ``otel``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status

from sluicegate import __version__
from sluicegate.background import PAUSE_S
from sluicegate.telemetry.ended_call import EndedCall
from sluicegate.telemetry.trace_context import context_of
from sluicegate.values import NANO

Value = str | int | float | bool | Sequence[str] | None

SCOPE = "sluicegate"

MAX_VALUE_CHARS = 200
"""Characters of a value that are exported; models and other names come from clients and may be of any length."""

SPANS_PER_PAUSE = 8
"""Spans made between two pauses, which takes about a millisecond."""

_NANOS_PER_MS = 1_000_000

_SAMPLED = 1
"""The flag of W3C's trace context."""


def trace_request(resource: Resource, calls: Iterable[EndedCall]) -> ExportTraceServiceRequest:
    """Return the request that exports the spans of these calls."""
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.CopyFrom(resource)
    of_scope = of_resource.scope_spans.add()
    of_scope.scope.name, of_scope.scope.version = SCOPE, __version__
    for count, ended in enumerate(calls, 1):
        _fill(of_scope.spans.add(), ended)
        if not count % SPANS_PER_PAUSE:
            time.sleep(PAUSE_S)
    return request


def _fill(span: Span, ended: EndedCall) -> None:
    record = ended.record
    place = context_of(record["id"], ended.traceparent)
    span.trace_id, span.span_id = place.trace_id, place.span_id
    span.flags = _SAMPLED | SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
    if place.parent_id is not None:
        span.parent_span_id = place.parent_id
        span.flags |= SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
    span.name = " ".join(filter(None, (ended.operation, text_of(record["model_requested"] or ""))))
    span.kind = Span.SpanKind.SPAN_KIND_CLIENT
    span.start_time_unix_nano = ended.started_at * _NANOS_PER_MS
    span.end_time_unix_nano = (ended.started_at + record["latency_ms"]) * _NANOS_PER_MS
    if ended.error is not None:
        span.status.code = Status.StatusCode.STATUS_CODE_ERROR
    add_attributes(span.attributes, (*_conventional(ended), *_own(ended)))


def _conventional(ended: EndedCall) -> Iterator[tuple[str, Value]]:
    """Yield the attributes that the conventions name."""
    record = ended.record
    yield "gen_ai.operation.name", ended.operation
    yield "gen_ai.provider.name", ended.provider_name
    yield "gen_ai.request.model", record["model_requested"]
    yield "gen_ai.response.model", record["model_served"]
    yield "gen_ai.request.stream", bool(record["stream"]) or None
    yield "gen_ai.request.max_tokens", ended.max_tokens
    yield "gen_ai.response.finish_reasons", ended.finish_reasons or None
    yield "gen_ai.conversation.id", record["session_id"]
    yield "server.address", ended.server_address or None
    yield "server.port", ended.server_port or None
    yield "http.response.status_code", record["status"]
    yield "error.type", ended.error
    yield "user_agent.original", record["user_agent"]
    yield "client.address", record["client_address"]
    if record["stream"] and record["ttft_ms"] is not None:
        yield "gen_ai.response.time_to_first_chunk", record["ttft_ms"] / 1000
    read, written = record["cache_read_tokens"], record["cache_write_5m_tokens"] + record["cache_write_1h_tokens"]
    sent, received = record["input_tokens"] + read + written, record["output_tokens"]
    if sent or received:
        yield "gen_ai.usage.input_tokens", sent
        yield "gen_ai.usage.output_tokens", received
        yield "gen_ai.usage.cache_read.input_tokens", read
        yield "gen_ai.usage.cache_creation.input_tokens", written


def _own(ended: EndedCall) -> Iterator[tuple[str, Value]]:
    """Yield our own attributes, under the names that records have."""
    record = ended.record
    for name in ("virtual_key_id", "user_id", "team_id", "customer_id", "project_id", "agent_id", "provider", "reason"):
        yield f"sluicegate.{name}", record[name]
    for name in ("asked_model", "route", "policy_revision"):
        yield f"sluicegate.{name}", record[name]
    yield "sluicegate.call_id", record["id"]
    yield "sluicegate.decision", record["outcome"]
    yield "sluicegate.cost_usd", record["cost_nano"] / NANO
    yield "sluicegate.cost_nano", record["cost_nano"]
    yield "sluicegate.estimated", bool(record["estimated"])
    if record["shadow_nano"] is not None:
        yield "sluicegate.shadow_usd", record["shadow_nano"] / NANO
    if record["cache"] is not None:
        yield "sluicegate.cache", record["cache"]
    if record["saved_nano"] is not None:
        yield "sluicegate.saved_usd", record["saved_nano"] / NANO
    if record["attempts"] is not None:
        yield "sluicegate.attempts", [f"{a['provider']}/{a['model']} {a['result']}" for a in record["attempts"]]
    for name, value in (orjson.loads(record["labels"]) if record["labels"] else {}).items():
        yield f"sluicegate.labels.{name}", value


class Attributes(Protocol):
    """The attributes of a message."""

    def add(self) -> KeyValue:
        """Add one, and return it."""


def add_attributes(attributes: Attributes, values: Iterable[tuple[str, Value]]) -> None:
    """Add values to a message's attributes, bounded; None is left out."""
    for name, value in values:
        if value is None:
            continue
        added = attributes.add()
        added.key = name
        if isinstance(value, str):
            added.value.string_value = text_of(value)
        elif isinstance(value, bool):
            added.value.bool_value = value
        elif isinstance(value, int):
            added.value.int_value = value
        elif isinstance(value, float):
            added.value.double_value = value
        else:
            for item in value:
                added.value.array_value.values.add().string_value = text_of(item)


def text_of(value: str) -> str:
    """Return a text as a message can hold it: not long, and without halves of surrogate pairs."""
    short = value if len(value) <= MAX_VALUE_CHARS else value[:MAX_VALUE_CHARS] + "..."
    return short if short.isascii() else short.encode("utf-8", "replace").decode()
