"""Metrics as OTLP has them: the families that ``/metrics`` shows, and the histograms of OpenTelemetry's GenAI conventions.

All are cumulative since the start. Imported only where an export is configured, because the messages come with the extra ``otel``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ScopeMetrics,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from prometheus_client import Metric as Family
from prometheus_client.samples import Sample

from sluicegate import __version__
from sluicegate.background import PAUSE_S
from sluicegate.telemetry.genai_metrics import GenAiMetrics
from sluicegate.telemetry.span_messages import SCOPE, add_attributes

POINTS_PER_REQUEST = 5_000
"""Points of one request, about a megabyte: receivers bound what they read."""

POINTS_PER_PAUSE = 50
"""Points made between two pauses, which takes about a millisecond."""

_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE

_UNITS = (
    ("_seconds", "s"),
    ("_bytes", "By"),
    ("_ratio", "1"),
    ("_usd", "{USD}"),
    ("cost", "{USD}"),
    ("budget_usage", "{USD}"),
    ("budget_limit", "{USD}"),
    ("tokens", "{token}"),
)
"""Units by how a family's name ends. Those without one get none: "1" would become a part of the name in Prometheus."""


class Period(NamedTuple):
    """The time that counters speak of, in epoch milliseconds."""

    start: int
    end: int


class MetricRequests:
    """Makes the requests of one export, each with a bounded number of points."""

    def __init__(self, resource: Resource, period: Period) -> None:
        self.resource = resource
        self._start, self._end = period.start * 1_000_000, max(period.start, period.end) * 1_000_000
        self._request, self._scope = self._new()
        self._points = 0

    def _new(self) -> tuple[ExportMetricsServiceRequest, ScopeMetrics]:
        request = ExportMetricsServiceRequest()
        of_resource = request.resource_metrics.add()
        of_resource.resource.CopyFrom(self.resource)
        of_scope = of_resource.scope_metrics.add()
        of_scope.scope.name, of_scope.scope.version = SCOPE, __version__
        return request, of_scope

    def requests(self, families: Iterable[Family], genai: GenAiMetrics) -> Iterator[ExportMetricsServiceRequest]:
        """Yield the requests; the families are emptied."""
        for family in families:
            for _ in self._histograms(family) if family.type == "histogram" else self._numbers(family):
                if self._is_full():
                    yield self._request
                    self._request, self._scope = self._new()
        for _ in self._of_models(genai):
            if self._is_full():
                yield self._request
                self._request, self._scope = self._new()
        if self._scope.metrics:
            yield self._request

    def _is_full(self) -> bool:
        self._points += 1
        if not self._points % POINTS_PER_PAUSE:
            time.sleep(PAUSE_S)
        return not self._points % POINTS_PER_REQUEST

    def _metric(self, name: str, description: str, unit: str) -> Metric:
        """Return the message of a metric in the request that is being made."""
        last: Metric | None = self._scope.metrics[-1] if self._scope.metrics else None
        if last is None or last.name != name:
            last = self._scope.metrics.add()
            last.name, last.description, last.unit = name, description, unit
        return last

    def _numbers(self, family: Family) -> Iterator[None]:
        """Add a counter's or gauge's series, one at each step."""
        is_counter = family.type == "counter"
        name = f"{family.name}_total" if is_counter else family.name
        for sample in _released(family):
            metric = self._metric(name, family.documentation, unit_of(family.name))
            if is_counter:
                metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, _CUMULATIVE
                point: NumberDataPoint = metric.sum.data_points.add()
                point.start_time_unix_nano = self._start
            else:
                point = metric.gauge.data_points.add()
            point.time_unix_nano, point.as_double = self._end, sample.value
            add_attributes(point.attributes, ((k, v) for k, v in sample.labels.items() if v))
            yield

    def _histograms(self, family: Family) -> Iterator[None]:
        """Add a histogram's series, one at each step; a series' buckets, count and sum follow each other."""
        bounds: list[float] = []
        counts: list[float] = []
        for sample in _released(family):
            if sample.name.endswith("_bucket"):
                bounds.append(float(sample.labels["le"]))
                counts.append(sample.value)
            elif sample.name.endswith("_sum"):
                metric = self._metric(family.name, family.documentation, unit_of(family.name))
                each = [int(b - a) for a, b in zip([0.0, *counts], counts, strict=False)]
                point = self._histogram_point(metric, bounds[:-1], each, sample.value, self._start)
                add_attributes(point.attributes, ((k, v) for k, v in sample.labels.items() if v))
                bounds, counts = [], []
                yield

    def _of_models(self, genai: GenAiMetrics) -> Iterator[None]:
        """Add the histograms of the conventions, one at each step."""
        start = min(genai.since * 1_000_000 if genai.since is not None else self._end, self._end)
        for kind, attributes, counts, total in genai.series():
            metric = self._metric(kind.name, kind.description, kind.unit)
            point = self._histogram_point(metric, kind.bounds, counts, total, start)
            add_attributes(point.attributes, attributes.items())
            yield

    def _histogram_point(
        self, metric: Metric, bounds: Iterable[float], counts: list[int], total: float, start: int
    ) -> HistogramDataPoint:
        metric.histogram.aggregation_temporality = _CUMULATIVE
        point: HistogramDataPoint = metric.histogram.data_points.add()
        point.start_time_unix_nano, point.time_unix_nano = start, self._end
        point.count, point.sum = sum(counts), total
        point.explicit_bounds.extend(bounds)
        point.bucket_counts.extend(counts)
        return point


def unit_of(name: str) -> str:
    """Return the unit of a family by its name."""
    return next((unit for ending, unit in _UNITS if name.endswith(ending)), "")


def _released(family: Family) -> Iterator[Sample]:
    """Yield a family's samples and remove them meanwhile: freeing a hundred thousand at once would itself stall the loop."""
    samples, family.samples = family.samples[::-1], []
    while samples:
        yield samples.pop()
