"""A strict OTLP receiver on loopback: decodes what comes, and answers 400 to what a receiver need not understand.

Unknown fields, names and attributes are refused as missing ones are, so that each is a decision and not an accident.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf import json_format, unknown_fields
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_service
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

SPAN_ATTRIBUTES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(
        (
            "gen_ai.operation.name",
            "gen_ai.provider.name",
            "gen_ai.request.model",
            "gen_ai.response.model",
            "gen_ai.conversation.id",
        ),
        str,
    ),
    **dict.fromkeys(("server.address", "error.type", "user_agent.original", "client.address"), str),
    **dict.fromkeys(("server.port", "http.response.status_code", "gen_ai.request.max_tokens"), int),
    "gen_ai.request.stream": bool,
    "gen_ai.response.finish_reasons": list,
    "gen_ai.response.time_to_first_chunk": float,
    **dict.fromkeys(("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"), int),
    **dict.fromkeys(("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens"), int),
    **{f"sluicegate.{name}_id": str for name in ("call", "virtual_key", "user", "team", "customer", "project", "agent")},
    **dict.fromkeys(
        ("sluicegate.provider", "sluicegate.reason", "sluicegate.decision", "sluicegate.route", "sluicegate.policy_revision"), str
    ),
    "sluicegate.asked_model": str,
    "sluicegate.attempts": list,
    "sluicegate.cost_nano": int,
    "sluicegate.cost_usd": float,
    "sluicegate.shadow_usd": float,
    "sluicegate.estimated": bool,
}

_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
_FIRST = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
_TOKENS: list[float] = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]

GENAI: dict[str, tuple[str, list[float], set[str]]] = {
    "gen_ai.client.operation.duration": ("s", _SECONDS, {"error.type"}),
    "gen_ai.client.operation.time_to_first_chunk": ("s", _SECONDS, set()),
    "gen_ai.server.time_to_first_token": ("s", _FIRST, set()),
    "gen_ai.client.token.usage": ("{token}", _TOKENS, {"gen_ai.token.type"}),
}
"""Unit, bounds and further attributes of the conventions' histograms, typed from their pages."""

_NEEDED = {"gen_ai.operation.name", "gen_ai.provider.name"}
_COMMON = _NEEDED | {"gen_ai.request.model", "gen_ai.response.model", "server.address", "server.port"}


class Refused(Exception):
    """What was sent breaks a rule."""


def require(holds: object, why: str) -> None:
    if not holds:
        raise Refused(why)


def value_of(any_value: Any) -> Any:
    """Return the Python value of an attribute; refuse an unset one."""
    which = any_value.WhichOneof("value")
    require(which in ("string_value", "bool_value", "int_value", "double_value", "array_value"), f"an attribute's value is {which}")
    if which == "array_value":
        return [value_of(item) for item in any_value.array_value.values]
    return getattr(any_value, which)


def attributes_of(pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        require(pair.key and pair.key not in found, f"the attribute '{pair.key}' is empty or there twice")
        found[pair.key] = value_of(pair.value)
    return found


def check_known(message: Any) -> None:
    """Refuse fields that the messages of the installed version do not have, at any depth."""
    require(not len(unknown_fields.UnknownFieldSet(message)), f"{message.DESCRIPTOR.name} has unknown fields")
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else (value,):
                check_known(item)


def check_resource(resource: Any, scope: Any) -> dict[str, Any]:
    found = attributes_of(resource.attributes)
    require(
        found.get("service.name") and found.get("service.instance.id"), "the resource has no service.name or service.instance.id"
    )
    require(scope.name, "the scope has no name")
    return found


def check_span(span: Any, names: dict[str, Any] | None = SPAN_ATTRIBUTES) -> dict[str, Any]:
    """Return a span's attributes; ``names`` None for spans that are not ours."""
    require(len(span.trace_id) == 16 and any(span.trace_id), "trace_id is not 16 bytes, or all zero")
    require(len(span.span_id) == 8 and any(span.span_id), "span_id is not 8 bytes, or all zero")
    require(
        span.parent_span_id == b"" or (len(span.parent_span_id) == 8 and any(span.parent_span_id)), "parent_span_id is not an id"
    )
    require(0 < span.start_time_unix_nano <= span.end_time_unix_nano, "a span ends before it begins")
    require(span.name and span.kind, "a span has no name or kind")
    require(span.flags & 0x100, "the flags do not say whether the parent is remote")
    require(bool(span.flags & 0x200) <= bool(span.parent_span_id), "without a parent none is remote")
    found = attributes_of(span.attributes)
    if names is None:
        return found
    require(span.kind == trace_pb2.Span.SPAN_KIND_CLIENT, "a call's span is of another kind than CLIENT")
    require(found.keys() >= _NEEDED, f"{_NEEDED - found.keys()} is missing")
    require(("server.address" in found) == ("server.port" in found), "server.address and server.port come together")
    for name, value in found.items():
        kind = str if name.startswith("sluicegate.labels.") else names.get(name)
        require(kind is not None and type(value) is kind, f"{name} is unknown or of another type: {value!r}")
    is_error = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    require(is_error == ("error.type" in found), "error.type and the status disagree")
    named = found["gen_ai.operation.name"] + (f" {found['gen_ai.request.model']}" if "gen_ai.request.model" in found else "")
    require(span.name == named, f"the span of {named} is called {span.name}")
    return found


def points_of(metric: Any, strict: bool = True) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield a metric's points with their attributes, once they are as they should be."""
    require(re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]{0,254}", metric.name), f"'{metric.name}' is not a metric's name")
    require(not strict or metric.description, f"{metric.name} has no description")
    kind = metric.WhichOneof("data")
    require(kind in ("sum", "gauge", "histogram"), f"{metric.name} is a {kind}")
    data = getattr(metric, kind)
    require(len(data.data_points), f"{metric.name} has no points")
    if kind != "gauge":
        cumulative = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
        require(data.aggregation_temporality == cumulative, f"{metric.name} is not cumulative")
    require(
        kind != "sum" or not strict or (data.is_monotonic and metric.name.endswith("_total")), f"{metric.name} is not a counter"
    )
    for point in data.data_points:
        found = attributes_of(point.attributes)
        if kind != "gauge":
            require(0 < point.start_time_unix_nano <= point.time_unix_nano, f"{metric.name} has no start")
        require(point.time_unix_nano, f"{metric.name} has no time")
        if kind == "histogram":
            check_histogram(metric, point, found)
        else:
            require(point.WhichOneof("value"), f"{metric.name} has no value")
            require(kind == "gauge" or point.as_double >= 0, f"{metric.name} is negative")
        yield found, point


def check_histogram(metric: Any, point: Any, found: dict[str, Any]) -> None:
    bounds = list(point.explicit_bounds)
    require(len(point.bucket_counts) == len(bounds) + 1, f"{metric.name}: {len(point.bucket_counts)} buckets, {len(bounds)} bounds")
    require(bounds == sorted(set(bounds)), f"{metric.name}: its bounds do not rise")
    require(sum(point.bucket_counts) == point.count, f"{metric.name}: its buckets and its count disagree")
    require(point.HasField("sum"), f"{metric.name}: no sum")
    if metric.name.startswith("gen_ai."):
        unit, wanted, more = GENAI[metric.name]
        require((metric.unit, bounds) == (unit, wanted), f"{metric.name}: {metric.unit}, {bounds}")
        require(_NEEDED <= found.keys() <= _COMMON | more, f"{metric.name}: {sorted(found)}")
        require(
            ("gen_ai.token.type" in more) == (found.get("gen_ai.token.type") in ("input", "output")),
            f"{metric.name}: its token type",
        )


class OtlpReceiver:
    """Presets in ``answers`` (status, headers, body) are given first, then success; ``gate`` is waited for before each answer."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.faults: list[str] = []
        self.spans: list[tuple[Any, dict[str, Any]]] = []
        """Spans that were accepted, with their attributes."""
        self.resources: list[dict[str, Any]] = []
        self.exports: dict[int, dict[tuple[str, frozenset[tuple[str, Any]]], Any]] = {}
        """By the time that the points name: each series with its metric and point."""
        self.asked: list[tuple[str, dict[str, str]]] = []
        """Path and headers of every request, with lower-case names."""
        self.answered = 0
        self.gate = threading.Event()
        self.gate.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {k.lower(): v for k, v in self.headers.items()}
                receiver.asked.append((self.path, headers))
                receiver.gate.wait(60)
                status, more, answer = receiver.answer(self.path, headers, body)
                self.send_response(status)
                for name, value in (more | {"content-length": str(len(answer))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)
                receiver.answered += 1

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            # The handshake is made in the connection's own thread.
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)

    def __enter__(self) -> OtlpReceiver:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        preset = self.answers.pop(0) if self.answers else None
        if preset is not None and preset[0] != 200:
            return preset
        try:
            self.take(path, headers, body)
        except Exception as e:
            self.faults.append(repr(e))
            return 400, {}, b""
        return preset or (200, {"content-type": headers["content-type"]}, b"{}" if "json" in headers["content-type"] else b"")

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """Decode a request and keep what it holds. Raises Refused and what decoders raise."""
        messages: dict[str, Any] = {
            "/v1/traces": trace_service.ExportTraceServiceRequest,
            "/v1/metrics": metrics_service.ExportMetricsServiceRequest,
        }
        require(path in messages, f"there is no {path}")
        message = decode(messages[path](), headers, body)
        if path == "/v1/traces":
            for of_resource in message.resource_spans:
                for of_scope in of_resource.scope_spans:
                    self.resources.append(check_resource(of_resource.resource, of_scope.scope))
                    self.spans += [(span, check_span(span)) for span in of_scope.spans]
            return
        for of_resource in message.resource_metrics:
            for of_scope in of_resource.scope_metrics:
                self.resources.append(check_resource(of_resource.resource, of_scope.scope))
                for metric in of_scope.metrics:
                    for found, point in points_of(metric):
                        export = self.exports.setdefault(point.time_unix_nano, {})
                        key = (metric.name, frozenset(found.items()))
                        require(key not in export, f"{metric.name} has a series twice: {found}")
                        export[key] = (metric, point)

    def total(self, name: str, **labels: str) -> float:
        """Sum the last export's series of a counter, gauge or histogram whose attributes include these; ``_`` stands for a dot."""
        last = self.exports[max(self.exports)]
        wanted = {k.replace("__", "."): v for k, v in labels.items()}
        found = [point for (named, pairs), (_, point) in last.items() if named == name and wanted.items() <= dict(pairs).items()]
        return sum(p.sum if isinstance(p, metrics_pb2.HistogramDataPoint) else p.as_double for p in found)

    def count(self, name: str) -> int:
        """Return how many values the last export's histograms of a name have counted."""
        return sum(point.count for (named, _), (_, point) in self.exports[max(self.exports)].items() if named == name)


def decode(message: Any, headers: dict[str, str], body: bytes) -> Any:
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    if headers["content-type"] == "application/json":
        read = json.loads(body)
        for of_resource in read.get("resourceSpans", ()):
            for of_scope in of_resource["scopeSpans"]:
                for span in of_scope["spans"]:
                    require(type(span["kind"]) is int and re.fullmatch(r"[0-9]+", span["startTimeUnixNano"]), "enums are numbers")
                    for name, digits in (("traceId", 32), ("spanId", 16), ("parentSpanId", 16)):
                        if name in span:
                            require(re.fullmatch(f"[0-9a-f]{{{digits}}}", span[name]), f"{name} is not hexadecimal")
                            span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
        return json_format.ParseDict(read, message)
    require(headers["content-type"] == "application/x-protobuf", f"the content type is {headers['content-type']}")
    message.ParseFromString(body)
    check_known(message)
    return message
