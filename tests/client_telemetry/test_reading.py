"""Bodies as trees: what the official library writes is read alike, and nothing that is sent costs more than its size."""

from __future__ import annotations

import base64
import gzip
import json
import time
import tracemalloc

import pytest
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sluicegate.client_telemetry import reading
from sluicegate.client_telemetry.messages import SIGNALS
from sluicegate.client_telemetry.reading import MalformedError, TooLargeError, decompressed, from_json, from_protobuf
from sluicegate.client_telemetry.reports import reports_of
from support.client_telemetry import events, metrics
from support.hypothesis_profiles import examples

LIBRARY = {"metrics": ExportMetricsServiceRequest, "logs": ExportLogsServiceRequest, "traces": ExportTraceServiceRequest}
FIGURES = {"cost_usd": 0.2, "input_tokens": 200, "cache_write_tokens": 31_890}

TEXT = st.text(max_size=8)
NUMBERS = st.one_of(
    st.floats(width=64, allow_nan=False, allow_infinity=False),
    st.sampled_from(["NaN", "Infinity", "-Infinity"]),
)
VALUES = st.recursive(
    st.one_of(
        st.builds(lambda v: {"stringValue": v}, TEXT),
        st.builds(lambda v: {"boolValue": v}, st.booleans()),
        st.builds(lambda v: {"intValue": str(v)}, st.integers(-(1 << 63), (1 << 63) - 1)),
        st.builds(lambda v: {"doubleValue": v}, NUMBERS),
        st.builds(lambda v: {"bytesValue": base64.b64encode(v).decode()}, st.binary(max_size=5)),
    ),
    lambda inner: st.one_of(
        st.builds(lambda v: {"arrayValue": {"values": v}}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(
            lambda v: {"kvlistValue": {"values": [{"key": "k", "value": x} for x in v]}}, st.lists(inner, min_size=1, max_size=2)
        ),
    ),
    max_leaves=4,
)
ATTRIBUTES = st.lists(st.builds(lambda k, v: {"key": k, "value": v}, TEXT, VALUES), min_size=1, max_size=3)
TIMES = {name: st.integers(1, (1 << 64) - 1).map(str) for name in ("startTimeUnixNano", "timeUnixNano")}
POINTS = st.fixed_dictionaries({"attributes": ATTRIBUTES, "asInt": st.integers(-(1 << 63), (1 << 63) - 1).map(str), **TIMES})
HISTOGRAMS = st.fixed_dictionaries(
    {
        "attributes": ATTRIBUTES,
        "count": st.integers(1, 9).map(str),
        "sum": NUMBERS,
        "bucketCounts": st.lists(st.integers(0, (1 << 64) - 1).map(str), min_size=1, max_size=3),
        "explicitBounds": st.lists(NUMBERS, min_size=1, max_size=3),
    }
)
BUCKETS = st.fixed_dictionaries(
    {"offset": st.integers(-(1 << 31), (1 << 31) - 1), "bucketCounts": st.lists(st.integers(0, 1 << 63).map(str), min_size=1)}
)
EXPONENTIAL = st.fixed_dictionaries({"scale": st.integers(-9, 9), "positive": BUCKETS, "zeroThreshold": NUMBERS})
METRICS = st.one_of(
    st.builds(lambda p: {"name": "a", "gauge": {"dataPoints": p}}, st.lists(POINTS, min_size=1, max_size=2)),
    st.builds(
        lambda p, t: {"name": "b", "unit": "USD", "sum": {"dataPoints": p, "aggregationTemporality": t, "isMonotonic": True}},
        st.lists(POINTS, min_size=1, max_size=2),
        st.integers(1, 2),
    ),
    st.builds(lambda p: {"name": "c", "histogram": {"dataPoints": [p], "aggregationTemporality": 2}}, HISTOGRAMS),
    st.builds(lambda p: {"name": "d", "exponentialHistogram": {"dataPoints": [p]}}, EXPONENTIAL),
)
RECORDS = st.fixed_dictionaries(
    {"body": VALUES, "attributes": ATTRIBUTES, "severityNumber": st.integers(1, 24), "flags": st.integers(1, (1 << 32) - 1)}
    | {"timeUnixNano": TIMES["timeUnixNano"], "eventName": st.text(min_size=1, max_size=8)}
)


def tree_of(signal: str, items: list) -> dict:
    """Return the tree of a request with these items."""
    _, resources, scopes, name, _ = SIGNALS[signal]
    return {resources: [{"resource": {}, scopes: [{"scope": {"name": "s"}, name: items}]}]}


@settings(max_examples=examples(60, ci=20))
@given(st.lists(METRICS, min_size=1, max_size=2), st.lists(RECORDS, min_size=1, max_size=2))
def test_what_the_library_writes_is_read_alike_from_either_encoding(of_metrics, of_records):
    for signal, items in (("metrics", of_metrics), ("logs", of_records)):
        # Without what the library leaves out because it is the default.
        message = json_format.ParseDict(tree_of(signal, items), LIBRARY[signal]())
        shape = SIGNALS[signal].request
        read = from_protobuf(message.SerializeToString(), shape)
        again = json_format.ParseDict(read, LIBRARY[signal]())
        assert again.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)
        written = json.dumps(json_format.MessageToDict(message, use_integers_for_enums=True)).encode()
        assert json_format.ParseDict(from_json(written, shape), LIBRARY[signal]()) == message


def test_spans_have_their_ids_in_hexadecimal():
    message = ExportTraceServiceRequest()
    span = message.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name, span.kind, span.start_time_unix_nano = b"\xab" * 16, b"\x01" * 8, "a call", 3, 7
    span.status.code = 2
    span.events.add().name, span.links.add().trace_id = "e", b"\x02" * 16
    (read,) = from_protobuf(message.SerializeToString(), SIGNALS["traces"].request)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert read == {
        "traceId": "ab" * 16,
        "spanId": "01" * 8,
        "name": "a call",
        "kind": 3,
        "startTimeUnixNano": "7",
        "status": {"code": 2},
        "events": [{"name": "e"}],
        "links": [{"traceId": "02" * 16}],
    }
    sent = json.dumps(tree_of("traces", [read | {"unknown": {"x": [1]}, "parentSpanId": None}])).encode()
    assert from_json(sent, SIGNALS["traces"].request)["resourceSpans"][0]["scopeSpans"][0]["spans"] == [read]


@settings(max_examples=examples(200, ci=60))
@given(st.sampled_from(sorted(LIBRARY)), st.one_of(st.binary(max_size=60), st.integers(0, 2_000)), st.data())
def test_any_bytes_are_read_or_refused_as_the_library_does(signal, raw, data):
    if isinstance(raw, int):
        # A valid body with one byte changed, or cut off.
        body = metrics(FIGURES).SerializeToString() if signal == "metrics" else events([FIGURES]).SerializeToString()
        at = raw % len(body)
        raw = body[:at] if data.draw(st.booleans()) else body[:at] + bytes([data.draw(st.integers(0, 255))]) + body[at + 1 :]
    try:
        tree = from_protobuf(raw, SIGNALS[signal].request)
    except MalformedError:
        return
    # What it makes of them is something that the next steps can take, and json can carry.
    reports_of(signal, tree)
    json.dumps(tree)
    with_library = LIBRARY[signal]()
    try:
        with_library.ParseFromString(raw)
    except DecodeError:
        # It is stricter with text that is no UTF-8, and with field numbers.
        return
    assert len(tree.get(SIGNALS[signal].resources, ())) == len(getattr(with_library, with_library.DESCRIPTOR.fields[0].name))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "resourceMetrics",
                    "scopeMetrics",
                    "metrics",
                    "sum",
                    "name",
                    "dataPoints",
                    "attributes",
                    "key",
                    "value",
                    "stringValue",
                    "asDouble",
                    "asInt",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=examples(200, ci=60))
@given(JSON)
def test_any_json_is_read_or_refused(value):
    try:
        reports_of("metrics", from_json(json.dumps(value).encode(), SIGNALS["metrics"].request))
    except MalformedError:
        pass


def deep(depth: int) -> bytes:
    """Return a request whose log record's body is an array in an array, so many times."""
    message = ExportLogsServiceRequest()
    value = message.resource_logs.add().scope_logs.add().log_records.add().body
    for _ in range(depth):
        value = value.array_value.values.add()
    value.string_value = "x"
    return message.SerializeToString()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"\x0a\x05ab", MalformedError),
        (b"\xff" * 11, MalformedError),
        (b"\x0b", MalformedError),
        (b"\x0a", MalformedError),
        (b"\x0d\x01", MalformedError),
        (deep(40), MalformedError),
        # Each two bytes are a message of its own.
        (b"\x0a\x00" * (1 << 20), TooLargeError),
    ],
)
def test_what_is_no_message_or_too_much_of_one_is_refused(body, error):
    with pytest.raises(error):
        from_protobuf(body, SIGNALS["logs"].request)


def test_what_is_not_too_deep_is_read():
    assert from_protobuf(deep(8), SIGNALS["logs"].request)


def test_json_that_is_deep_long_or_of_other_types_is_refused():
    shape = SIGNALS["metrics"].request
    for body in (b"", b"[]", b"{", b'{"resourceMetrics": {}}', b'{"resourceMetrics": [1]}', b"[" * 100_000):
        with pytest.raises(MalformedError):
            from_json(body, shape)
    value = {"stringValue": "x"}
    for _ in range(200):
        value = {"arrayValue": {"values": [value]}}
    record = {"body": value}
    with pytest.raises(MalformedError, match="nested"):
        from_json(json.dumps(tree_of("logs", [record])).encode(), SIGNALS["logs"].request)
    with pytest.raises(TooLargeError):
        from_json(b'{"resourceMetrics": [' + b"{}," * reading.MAX_NODES + b"{}]}", shape)
    wrong = {"asDouble": True, "asInt": "1e3", "startTimeUnixNano": -1, "timeUnixNano": "x", "flags": 1 << 40, "attributes": {}}
    for name, content in wrong.items():
        point = {"sum": {"dataPoints": [{name: content}]}}
        with pytest.raises(MalformedError, match=name):
            from_json(json.dumps(tree_of("metrics", [point])).encode(), shape)


def test_a_bomb_is_not_unpacked():
    bomb = gzip.compress(bytes(16 << 20), 9)
    tracemalloc.start()
    with pytest.raises(TooLargeError):
        decompressed(bomb, "gzip")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * reading.MAX_BYTES
    assert decompressed(gzip.compress(b"abc"), "gzip") == b"abc"
    twice = gzip.compress(b"abc") * 2
    for body, encoding in ((b"abc", "gzip"), (gzip.compress(b"abc")[:-9], "gzip"), (twice, "gzip"), (b"abc", "br")):
        with pytest.raises(MalformedError):
            decompressed(body, encoding)


def test_work_is_proportional_to_what_was_sent():
    """A reader that copies what is left at each field takes sixteen times as long for four times as many."""

    def seconds(count: int) -> float:
        body = events([FIGURES] * count).SerializeToString()
        began = time.process_time()
        from_protobuf(body, SIGNALS["logs"].request)
        return time.process_time() - began

    seconds(20)
    small, large = min(seconds(60) for _ in range(3)), seconds(480)
    assert large < 8 * small * 4
