"""The names and numbers of OpenTelemetry's conventions, and of OTLP's answers."""

from __future__ import annotations

import itertools
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sluicegate.telemetry.conventions import TOKEN_BOUNDS, error_of, operation_of, provider_name
from sluicegate.telemetry.metric_messages import unit_of
from sluicegate.telemetry.sender import LONGEST_RETRY_AFTER_S, retry_after_s
from sluicegate.telemetry.trace_context import context_of, parent_of
from support.otlp_receiver import Refused, check_span, points_of

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("header", "is_valid"),
    [
        (VALID, True),
        (f"00-{TRACE}-{PARENT}-00", True),
        (f"cc-{TRACE}-{PARENT}-01", True),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like", True),
        (f"cc-{TRACE}-{PARENT}-01.what", False),
        (f"00-{TRACE}-{PARENT}-01-more", False),
        (f"ff-{TRACE}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (VALID.upper(), False),
        (VALID[:-1], False),
        (VALID + "\n", False),
        (f" {VALID}", False),
        (VALID.replace("4", "４", 1), False),
        (f"{VALID}, {VALID}", False),
        ("", False),
        (None, False),
    ],
)
def test_a_traceparent_is_read_as_w3c_defines_it(header, is_valid):
    assert parent_of(header) == ((bytes.fromhex(TRACE), bytes.fromhex(PARENT)) if is_valid else None)
    place = context_of("call_0123456789abfedcba9876543210", header)
    assert place.span_id.hex() == "fedcba9876543210"
    assert place.trace_id.hex() == (TRACE if is_valid else "00000123456789abfedcba9876543210")
    assert place.parent_id == (bytes.fromhex(PARENT) if is_valid else None)


@given(
    st.one_of(
        st.text("0123456789abcdefAF-", max_size=60),
        st.tuples(*[st.sampled_from(["00", "01", "ff", TRACE, PARENT, "0" * 32, ""])] * 4).map("-".join),
    )
)
def test_a_traceparent_is_valid_exactly_where_the_sdk_takes_it(header):
    found = TraceContextTextMapPropagator().extract({"traceparent": header})
    (span,) = found.values() if found else (None,)
    theirs = (span.get_span_context().trace_id, span.get_span_context().span_id) if span else None
    ours = parent_of(header)
    assert theirs == (tuple(int.from_bytes(part) for part in ours) if ours else None)


@given(st.text(max_size=40))
def test_any_id_has_a_place(call_id):
    place = context_of(call_id, None)
    assert (len(place.trace_id), len(place.span_id)) == (16, 8)
    assert any(place.span_id)
    assert any(place.trace_id)


@pytest.mark.parametrize(
    ("kind", "path", "operation"),
    [
        ("messages", "/v1/messages", "chat"),
        ("messages", "/v1/chat/completions", "chat"),
        ("messages", "/v1/responses", "chat"),
        ("messages", "/v1/completions", "text_completion"),
        ("messages", "/v1/embeddings", "embeddings"),
        ("messages", "/v1beta/models/gemini-3-pro:generateContent", "generate_content"),
        ("messages", "/v1beta/models/gemini-3-pro:streamGenerateContent", "generate_content"),
        ("messages", "/v1beta/models/gemini-embedding:embedContent", "embeddings"),
        ("messages", "/v1beta/models/gemini-embedding:batchEmbedContents", "embeddings"),
        ("messages", "/model/anthropic.claude-opus-5/converse-stream", "chat"),
        ("count_tokens", "/v1/messages/count_tokens", "count_tokens"),
        ("other", "/v1/models", "other"),
    ],
)
def test_operations_have_the_conventions_names(kind, path, operation):
    assert operation_of(kind, path) == operation


@pytest.mark.parametrize(
    ("name", "protocol", "conventional"),
    [
        ("anthropic", "anthropic", "anthropic"),
        ("openai", "openai", "openai"),
        ("gemini", "gemini", "gcp.gemini"),
        ("vertex", "vertex", "gcp.vertex_ai"),
        ("vertex-eu", "vertex", "gcp.vertex_ai"),
        ("bedrock", "bedrock", "aws.bedrock"),
        ("azure", "openai", "azure.ai.openai"),
        ("mistral", "openai", "mistral_ai"),
        ("xai", "openai", "x_ai"),
        ("house-models", "openai", "house-models"),
    ],
)
def test_providers_have_the_conventions_names(name, protocol, conventional):
    assert provider_name(name, protocol) == conventional


@pytest.mark.parametrize(
    ("outcome", "reason", "status", "upstream", "error"),
    [
        ("completed", None, 200, None, None),
        ("denied", "budget_exceeded", 402, None, "budget_exceeded"),
        ("failed", None, 529, None, "529"),
        ("failed", "provider_unreachable", 502, None, "provider_unreachable"),
        ("failed", None, 200, "overloaded_error", "overloaded_error"),
        ("failed", None, 200, "ended before its time", "_OTHER"),
        ("failed", None, 200, "x" * 65, "_OTHER"),
        ("failed", None, None, None, "_OTHER"),
        ("cancelled", None, 200, None, "cancelled"),
    ],
)
def test_an_errors_type_is_one_of_few(outcome, reason, status, upstream, error):
    assert error_of({"outcome": outcome, "reason": reason, "status": status}, upstream) == error


NOW = 1_770_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 0 ", 0),
        ("99999", LONGEST_RETRY_AFTER_S),
        ("9" * 400, LONGEST_RETRY_AFTER_S),
        (formatdate(NOW + 90, usegmt=True), 90),
        (formatdate(NOW - 90, usegmt=True), 0),
        (formatdate(NOW + 9e6, usegmt=True), LONGEST_RETRY_AFTER_S),
        ("-3", None),
        ("1.5", None),
        ("²", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_bounded(value, seconds):
    assert retry_after_s(value, NOW) == seconds


@pytest.mark.parametrize(
    ("family", "unit"),
    [
        ("sluicegate_latency_seconds", "s"),
        ("sluicegate_tokens", "{token}"),
        ("sluicegate_cost_usd", "{USD}"),
        ("bifrost_cost", "{USD}"),
        ("team_budget_usage", "{USD}"),
        ("process_resident_memory_bytes", "By"),
        ("sluicegate_reconciliation_drift_ratio", "1"),
        ("sluicegate_calls", ""),
        ("sluicegate_target_error_rate", ""),
    ],
)
def test_units_fit_the_names(family, unit):
    assert unit_of(family) == unit


def test_bounds_of_tokens_are_powers_of_four():
    assert [b / a for a, b in itertools.pairwise(TOKEN_BOUNDS)] == [4] * 13
    assert (TOKEN_BOUNDS[0], TOKEN_BOUNDS[-1]) == (1, 67108864)


def test_the_strict_receiver_takes_what_opentelemetrys_own_sdk_sends():
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing = TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    tracer = tracing.get_tracer("t")
    with (
        tracer.start_as_current_span("above", kind=SpanKind.CLIENT, attributes={"a": 1}),
        tracer.start_as_current_span("below") as below,
    ):
        below.set_attributes({"b": ["x"], "c": 1.5, "d": True})
    for of_resource in encode_spans(spans.get_finished_spans()).resource_spans:
        for span in of_resource.scope_spans[0].spans:
            assert check_span(span, None)
            span.span_id = b"\0" * 8
            with pytest.raises(Refused):
                check_span(span, None)
    meter = MeterProvider(metric_readers=[reader], shutdown_on_exit=False).get_meter("t")
    meter.create_counter("things_total", description="Things.").add(3, {"kind": "a"})
    meter.create_histogram("waits", unit="s", description="Waits.").record(0.2)
    (of_resource,) = encode_metrics(reader.get_metrics_data()).resource_metrics
    for metric in of_resource.scope_metrics[0].metrics:
        assert len(list(points_of(metric))) == 1
        getattr(metric, metric.WhichOneof("data")).aggregation_temporality = 1
        with pytest.raises(Refused):
            list(points_of(metric))
