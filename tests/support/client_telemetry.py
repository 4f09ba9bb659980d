"""What Claude Code sends of itself, as 2.1.332 does: delta sums for its metrics, an event for each answered call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

SESSION = "a40c2112-71f4-4a40-9b7d-838536fbb8e1"
MODEL = "claude-opus-4-7"
DELTA, CUMULATIVE = 1, 2
AT = 1_795_830_714_614_000_000

CLAIMED = {
    "user.id": "mallory@acme.example",
    "user.email": "mallory@acme.example",
    "user.groups": "board",
    "identity.source": "gateway-oidc",
}
"""What a client says of its user."""

TYPES = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_tokens": "cacheRead",
    "cache_write_tokens": "cacheCreation",
}
"""Our names of tokens, and the metric's."""


def add(pairs: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        pair = pairs.add()
        pair.key = name
        kind = {bool: "bool_value", int: "int_value", float: "double_value"}.get(type(value), "string_value")
        setattr(pair.value, kind, value)


def metrics(
    figures: Mapping[str, float],
    *,
    session: str = SESSION,
    model: str = MODEL,
    temporality: int = DELTA,
    began: int = AT,
    **attributes: Any,
) -> ExportMetricsServiceRequest:
    """Return a request with these dollars (``cost_usd``) and tokens."""
    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    add(of_resource.resource.attributes, CLAIMED | {"service.name": "claude-code"})
    of_scope = of_resource.scope_metrics.add()
    of_scope.scope.name = "com.anthropic.claude_code"
    count = of_scope.metrics.add()
    count.name, count.sum.aggregation_temporality, count.sum.is_monotonic = "claude_code.session.count", DELTA, True
    count.sum.data_points.add().as_double = 1
    cost, tokens = of_scope.metrics.add(), of_scope.metrics.add()
    cost.name, cost.unit, tokens.name, tokens.unit = "claude_code.cost.usage", "USD", "claude_code.token.usage", "tokens"
    said = CLAIMED | {"session.id": session, "model": model, "query_source": "main", "effort": "high"} | attributes
    for name, value in figures.items():
        metric = cost if name == "cost_usd" else tokens
        metric.sum.aggregation_temporality, metric.sum.is_monotonic = temporality, True
        point = metric.sum.data_points.add()
        point.as_double, point.start_time_unix_nano, point.time_unix_nano = value, began, began + 60_000_000_000
        add(point.attributes, said if name == "cost_usd" else said | {"type": TYPES[name]})
    return request


def events(calls: Iterable[Mapping[str, float]], *, session: str = SESSION, model: str = MODEL) -> ExportLogsServiceRequest:
    """Return a request with an event for each call, and one of another kind."""
    request = ExportLogsServiceRequest()
    of_resource = request.resource_logs.add()
    add(of_resource.resource.attributes, CLAIMED | {"service.name": "claude-code"})
    of_scope = of_resource.scope_logs.add()
    other = of_scope.log_records.add()
    other.body.string_value = "claude_code.user_prompt"
    add(other.attributes, CLAIMED | {"session.id": session, "prompt": "<REDACTED>", "prompt_length": 6})
    for number, figures in enumerate(calls):
        record = of_scope.log_records.add()
        record.time_unix_nano = AT + number
        record.body.string_value = "claude_code.api_request"
        said = {"session.id": session, "model": model, "event.name": "api_request", "event.sequence": number}
        renamed = {"cache_creation_tokens" if n == "cache_write_tokens" else n: v for n, v in figures.items()}
        add(record.attributes, CLAIMED | said | renamed | {"duration_ms": 32, "speed": "normal"})
    return request
