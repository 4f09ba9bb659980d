"""Exporter: hands ended calls and metrics to their receivers, in a thread of its own.

No call waits for it or fails because of it: the end of a call costs a few additions and a place in a queue. While a receiver does
not take spans, those beyond the queue are dropped, counted and said.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sluicegate import __version__
from sluicegate.calls.call import Call
from sluicegate.calls.record import Record
from sluicegate.metrics.collector import Metrics
from sluicegate.policy.model import Policy
from sluicegate.policy.otlp import OtlpExport
from sluicegate.telemetry.ended_call import EndedCall, ended_call
from sluicegate.telemetry.genai_metrics import GenAiMetrics

if TYPE_CHECKING:
    from sluicegate.telemetry.channel import Channel

logger = logging.getLogger("sluicegate")

MAX_WAITING_SPANS = 5_000
"""Ended calls that wait for their spans to be sent, some 15 MB at most; while the queue is full, others get none."""

SPANS_PER_REQUEST = 512

ROUND_S = 1.0
"""Time between two rounds, for which spans are collected."""

FLUSH_S = 5.0
"""Longest time that the end of the gateway waits for what is left to be sent."""

REPORT_DROPPED_S = 60.0
"""Shortest time between two lines about spans that were dropped."""


class TelemetrySource(Protocol):
    """The services that are exported."""

    clock: Any
    metrics: Metrics
    opened_at: int

    @property
    def policy(self) -> Policy:
        """The policy in force."""


class Counts(NamedTuple):
    """Spans by what came of them, and requests that failed by what they held, since the start."""

    sent: int
    rejected: int
    dropped: int
    failed_traces: int
    failed_metrics: int


class Telemetry:
    """Collects ended calls and exports them, with the metrics, where the policy in force says so."""

    def __init__(self, services: TelemetrySource, monotonic: Callable[[], float] = time.monotonic) -> None:
        """``monotonic`` returns seconds."""
        self._services, self._monotonic = services, monotonic
        self.genai = GenAiMetrics()
        self._waiting: deque[EndedCall] = deque()
        self.sent = self.rejected = self.dropped = 0
        self._failed = {"traces": 0, "metrics": 0}
        """Requests that failed, of channels that are no longer in use."""
        self._channel: Channel | None = None
        self._export: OtlpExport | None = None
        self._unreported = 0
        self._reported_at = float("-inf")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def call_ended(self, call: Call, record: Record) -> None:
        """Count a call that has ended with this record, and keep it until its span is sent. Returns at once."""
        export = self._services.policy.otlp
        if export is None:
            return
        ended = ended_call(call, record)
        if export.metrics is not None:
            self.genai.observe(ended, self._services.clock())
        if export.traces is None:
            return
        if len(self._waiting) >= MAX_WAITING_SPANS or self._stop.is_set():
            self._drop(1)
        else:
            self._waiting.append(ended)

    def counts(self) -> Counts:
        """Return what has become of spans and requests."""
        failed = dict(self._failed)
        if (channel := self._channel) is not None:
            for signal, count in channel.failures().items():
                failed[signal] += count
        return Counts(self.sent, self.rejected, self.dropped, failed["traces"], failed["metrics"])

    def start(self) -> None:
        """Start the thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sluicegate-otlp", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Send what is left, for at most FLUSH_S, then nothing any more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(FLUSH_S + 1)
        left = len(self._waiting) + (len(self._channel.pending) if self._channel is not None else 0)
        if left:
            self._drop(left)
            logger.warning("OTLP: %d spans were not sent before the end; records have the calls", left)

    def _run(self) -> None:
        while not self._stop.wait(ROUND_S):
            self.step()
        self._flush()

    def step(self) -> None:
        """Send what is due. Never raises."""
        try:
            channel = self._channel_in_force()
            if channel is None:
                self._waiting.clear()
                return
            self._send_spans(channel, None)
            if channel.metrics_are_due:
                channel.send_metrics(self._services, self.genai, None)
            self._report_dropped()
        except Exception:
            logger.exception("OTLP: an export failed; calls are not affected")

    def _flush(self) -> None:
        """Send all that is left once, as far as there is time."""
        end = self._monotonic() + FLUSH_S
        try:
            channel = self._channel_in_force()
            if channel is not None:
                channel.resume()
                self._send_spans(channel, end)
                channel.send_metrics(self._services, self.genai, end)
        except Exception:
            logger.exception("OTLP: the last export failed")

    def _channel_in_force(self) -> Channel | None:
        """Return what sends to where the policy in force says; what the one before had not sent goes to the new place."""
        export = self._services.policy.otlp
        if export != self._export:
            if self._channel is not None:
                for signal, count in self._channel.failures().items():
                    self._failed[signal] += count
                self._waiting.extendleft(reversed(self._channel.pending))
            # The messages are 5 MB and a tenth of a second to import: only for those who export.
            from sluicegate.telemetry.channel import Channel

            resource = {"service.name": "sluicegate", "service.version": __version__} | dict(export.resource if export else {})
            self._channel = Channel(export, resource, self._monotonic) if export is not None else None
            self._export = export
        return self._channel

    def _send_spans(self, channel: Channel, end: float | None) -> None:
        """Send spans until none waits or the receiver wants a pause."""
        while channel.takes_spans and (end is None or self._monotonic() < end):
            if not channel.pending:
                batch = list(self._batch())
                if not batch:
                    return
                try:
                    channel.prepare_spans(batch)
                except Exception:
                    self._drop(len(batch))
                    raise
            sent, rejected, dropped = channel.send_spans(end)
            self.sent += sent
            self.rejected += rejected
            self._drop(dropped)

    def _batch(self) -> Iterator[EndedCall]:
        for _ in range(min(len(self._waiting), SPANS_PER_REQUEST)):
            yield self._waiting.popleft()

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._unreported += count

    def _report_dropped(self) -> None:
        now = self._monotonic()
        if self._unreported and now - self._reported_at >= REPORT_DROPPED_S:
            count, self._unreported, self._reported_at = self._unreported, 0, now
            logger.warning("OTLP: %d spans were dropped, because their receiver did not take them; records have the calls", count)
