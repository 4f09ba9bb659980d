"""OTLP's messages as far as clients send them: the number, name and kind of each field.

Sources: the .proto files of https://github.com/open-telemetry/opentelemetry-proto (v1.x), and
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: lowerCamelCase names, ids in hexadecimal, 64-bit numbers as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

Scalar = Literal[
    "string", "bytes", "id", "bool", "uint32", "sint32", "enum", "uint64", "int64", "fixed32", "fixed64", "sfixed64", "double"
]
"""Kinds of values; ``id`` stands for bytes that JSON has in hexadecimal."""


class Field(NamedTuple):
    """One field of a message."""

    name: str
    kind: Scalar | Message
    is_repeated: bool = False


@dataclass
class Message:
    """One message: its fields by number, and those of which only the last one sent counts."""

    fields: dict[int, Field] = field(default_factory=dict)
    one_of: frozenset[str] = frozenset()

    @cached_property
    def by_name(self) -> Mapping[str, Field]:
        """Return the fields by their names in JSON."""
        return {f.name: f for f in self.fields.values()}


def _many(name: str, kind: Scalar | Message) -> Field:
    return Field(name, kind, is_repeated=True)


ANY_VALUE = Message(
    one_of=frozenset(f"{kind}Value" for kind in ("string", "bool", "int", "double", "array", "kvlist", "bytes")),
)
KEY_VALUE = Message({1: Field("key", "string"), 2: Field("value", ANY_VALUE)})
ANY_VALUE.fields = {
    1: Field("stringValue", "string"),
    2: Field("boolValue", "bool"),
    3: Field("intValue", "int64"),
    4: Field("doubleValue", "double"),
    5: Field("arrayValue", Message({1: _many("values", ANY_VALUE)})),
    6: Field("kvlistValue", Message({1: _many("values", KEY_VALUE)})),
    7: Field("bytesValue", "bytes"),
}

_RESOURCE = Message({1: _many("attributes", KEY_VALUE), 2: Field("droppedAttributesCount", "uint32")})
_SCOPE = Message(
    {
        1: Field("name", "string"),
        2: Field("version", "string"),
        3: _many("attributes", KEY_VALUE),
        4: Field("droppedAttributesCount", "uint32"),
    }
)

_TIMES = {2: Field("startTimeUnixNano", "fixed64"), 3: Field("timeUnixNano", "fixed64")}

_NUMBER_POINT = Message(
    {
        7: _many("attributes", KEY_VALUE),
        **_TIMES,
        4: Field("asDouble", "double"),
        6: Field("asInt", "sfixed64"),
        8: Field("flags", "uint32"),
    },
    frozenset(("asDouble", "asInt")),
)
_HISTOGRAM_POINT = Message(
    {
        9: _many("attributes", KEY_VALUE),
        **_TIMES,
        4: Field("count", "fixed64"),
        5: Field("sum", "double"),
        6: _many("bucketCounts", "fixed64"),
        7: _many("explicitBounds", "double"),
        10: Field("flags", "uint32"),
        11: Field("min", "double"),
        12: Field("max", "double"),
    }
)
_BUCKETS = Message({1: Field("offset", "sint32"), 2: _many("bucketCounts", "uint64")})
_EXPONENTIAL_POINT = Message(
    {
        1: _many("attributes", KEY_VALUE),
        **_TIMES,
        4: Field("count", "fixed64"),
        5: Field("sum", "double"),
        6: Field("scale", "sint32"),
        7: Field("zeroCount", "fixed64"),
        8: Field("positive", _BUCKETS),
        9: Field("negative", _BUCKETS),
        10: Field("flags", "uint32"),
        12: Field("min", "double"),
        13: Field("max", "double"),
        14: Field("zeroThreshold", "double"),
    }
)
_QUANTILE = Message({1: Field("quantile", "double"), 2: Field("value", "double")})
_SUMMARY_POINT = Message(
    {
        7: _many("attributes", KEY_VALUE),
        **_TIMES,
        4: Field("count", "fixed64"),
        5: Field("sum", "double"),
        6: _many("quantileValues", _QUANTILE),
        8: Field("flags", "uint32"),
    }
)
_TEMPORALITY = Field("aggregationTemporality", "enum")
_METRIC = Message(
    {
        1: Field("name", "string"),
        2: Field("description", "string"),
        3: Field("unit", "string"),
        5: Field("gauge", Message({1: _many("dataPoints", _NUMBER_POINT)})),
        7: Field("sum", Message({1: _many("dataPoints", _NUMBER_POINT), 2: _TEMPORALITY, 3: Field("isMonotonic", "bool")})),
        9: Field("histogram", Message({1: _many("dataPoints", _HISTOGRAM_POINT), 2: _TEMPORALITY})),
        10: Field("exponentialHistogram", Message({1: _many("dataPoints", _EXPONENTIAL_POINT), 2: _TEMPORALITY})),
        11: Field("summary", Message({1: _many("dataPoints", _SUMMARY_POINT)})),
        12: _many("metadata", KEY_VALUE),
    },
    frozenset(("gauge", "sum", "histogram", "exponentialHistogram", "summary")),
)

_LOG_RECORD = Message(
    {
        1: Field("timeUnixNano", "fixed64"),
        11: Field("observedTimeUnixNano", "fixed64"),
        2: Field("severityNumber", "enum"),
        3: Field("severityText", "string"),
        5: Field("body", ANY_VALUE),
        6: _many("attributes", KEY_VALUE),
        7: Field("droppedAttributesCount", "uint32"),
        8: Field("flags", "fixed32"),
        9: Field("traceId", "id"),
        10: Field("spanId", "id"),
        12: Field("eventName", "string"),
    }
)

_SPAN_EVENT = Message(
    {
        1: Field("timeUnixNano", "fixed64"),
        2: Field("name", "string"),
        3: _many("attributes", KEY_VALUE),
        4: Field("droppedAttributesCount", "uint32"),
    }
)
_SPAN_LINK = Message(
    {
        1: Field("traceId", "id"),
        2: Field("spanId", "id"),
        3: Field("traceState", "string"),
        4: _many("attributes", KEY_VALUE),
        5: Field("droppedAttributesCount", "uint32"),
        6: Field("flags", "fixed32"),
    }
)
_SPAN = Message(
    {
        1: Field("traceId", "id"),
        2: Field("spanId", "id"),
        3: Field("traceState", "string"),
        4: Field("parentSpanId", "id"),
        16: Field("flags", "fixed32"),
        5: Field("name", "string"),
        6: Field("kind", "enum"),
        7: Field("startTimeUnixNano", "fixed64"),
        8: Field("endTimeUnixNano", "fixed64"),
        9: _many("attributes", KEY_VALUE),
        10: Field("droppedAttributesCount", "uint32"),
        11: _many("events", _SPAN_EVENT),
        12: Field("droppedEventsCount", "uint32"),
        13: _many("links", _SPAN_LINK),
        14: Field("droppedLinksCount", "uint32"),
        15: Field("status", Message({2: Field("message", "string"), 3: Field("code", "enum")})),
    }
)


def _request(resources: str, scopes: str, items: str, item: Message) -> Message:
    of_scope = Message({1: Field("scope", _SCOPE), 2: _many(items, item), 3: Field("schemaUrl", "string")})
    of_resource = Message({1: Field("resource", _RESOURCE), 2: _many(scopes, of_scope), 3: Field("schemaUrl", "string")})
    return Message({1: _many(resources, of_resource)})


class Signal(NamedTuple):
    """How the requests of one signal are built, and what their answers call what was not taken."""

    request: Message
    resources: str
    scopes: str
    items: str
    rejected: str


SIGNALS: Mapping[str, Signal] = {
    "metrics": Signal(
        _request("resourceMetrics", "scopeMetrics", "metrics", _METRIC),
        *("resourceMetrics", "scopeMetrics", "metrics", "rejectedDataPoints"),
    ),
    "logs": Signal(
        _request("resourceLogs", "scopeLogs", "logRecords", _LOG_RECORD),
        *("resourceLogs", "scopeLogs", "logRecords", "rejectedLogRecords"),
    ),
    "traces": Signal(
        _request("resourceSpans", "scopeSpans", "spans", _SPAN),
        *("resourceSpans", "scopeSpans", "spans", "rejectedSpans"),
    ),
}
