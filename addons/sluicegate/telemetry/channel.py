"""Channel: the way to the receivers that one policy names, with the batch of spans that is under way.

Imported only where an export is configured, because the messages come with the extra ``otel``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from sluicegate.policy.otlp import OtlpExport
from sluicegate.telemetry.ended_call import EndedCall
from sluicegate.telemetry.genai_metrics import GenAiMetrics
from sluicegate.telemetry.metric_messages import MetricRequests, Period
from sluicegate.telemetry.sender import Sender
from sluicegate.telemetry.span_messages import add_attributes, trace_request

INSTANCE_ID = os.urandom(16).hex()
"""Tells the counters of this process from those of others, and from its own before a restart."""


class Channel:
    """Sends spans and metrics where an export says. Used by one thread."""

    def __init__(self, export: OtlpExport, resource: Mapping[str, str], monotonic: Callable[[], float] = time.monotonic) -> None:
        """``resource`` are the gateway's attributes; ``monotonic`` returns seconds."""
        self._export, self._monotonic = export, monotonic
        self._resource = Resource()
        add_attributes(self._resource.attributes, ({"service.instance.id": INSTANCE_ID} | dict(resource)).items())
        self._traces = Sender("traces", export.traces, ExportTraceServiceResponse, monotonic) if export.traces else None
        self._metrics = Sender("metrics", export.metrics, ExportMetricsServiceResponse, monotonic) if export.metrics else None
        self._batch = b""
        self.pending: Sequence[EndedCall] = ()
        """The calls of the batch that is under way."""
        self._metrics_due_at = monotonic() + export.interval_s
        self._ignores_pauses = False

    def failures(self) -> dict[str, int]:
        """Return how many requests were not accepted, by signal."""
        return {s.signal: s.failures for s in (self._traces, self._metrics) if s is not None}

    def resume(self) -> None:
        """Send from now on whatever the receivers have asked for: it is the last time."""
        self._ignores_pauses = True

    @property
    def takes_spans(self) -> bool:
        """Return whether spans may be sent now."""
        return self._traces is not None and (self._ignores_pauses or not self._traces.is_paused)

    @property
    def metrics_are_due(self) -> bool:
        """Return whether it is time for metrics."""
        return self._metrics is not None and self._monotonic() >= self._metrics_due_at and not self._metrics.is_paused

    def prepare_spans(self, calls: Sequence[EndedCall]) -> None:
        """Make the next batch."""
        if self._traces is not None:
            self._batch, self.pending = self._traces.encoded(trace_request(self._resource, calls)), calls

    def send_spans(self, end: float | None) -> tuple[int, int, int]:
        """Send the batch; return how many of its spans were taken, rejected and dropped: none while it has to be sent again."""
        if self._traces is None or not self.pending:
            return 0, 0, 0
        found = self._traces.send(self._batch, self._left(end))
        if found.state == "again":
            # At the end there is no other time.
            self._ignores_pauses = False
            return 0, 0, 0
        count, self.pending, self._batch = len(self.pending), (), b""
        if found.state == "refused":
            return 0, 0, count
        rejected = min(found.rejected, count)
        return count - rejected, rejected, 0

    def send_metrics(self, services: Any, genai: GenAiMetrics, end: float | None) -> None:
        """Send all metrics as they are now. After a failure the rest is not sent: the next export has what this one lacks."""
        if self._metrics is None:
            return
        self._metrics_due_at = self._monotonic() + self._export.interval_s
        requests = MetricRequests(self._resource, Period(services.opened_at, services.clock()))
        for request in requests.requests(services.metrics.families(), genai):
            if end is not None and self._monotonic() >= end:
                return
            if self._metrics.send(self._metrics.encoded(request), self._left(end)).state == "again":
                # As soon as the pause is over.
                self._metrics_due_at = self._monotonic()
                return

    def _left(self, end: float | None) -> float | None:
        return None if end is None else max(0.1, end - self._monotonic())
