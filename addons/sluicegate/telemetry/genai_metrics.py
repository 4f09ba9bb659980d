"""OpenTelemetry's own metrics of model calls: histograms of tokens and durations, counted as calls end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sluicegate.calls.record import Record
from sluicegate.metrics.aggregates import OTHER_MODELS, Histogram
from sluicegate.telemetry.conventions import DURATION_BOUNDS_S, FIRST_TOKEN_BOUNDS_S, TOKEN_BOUNDS
from sluicegate.telemetry.ended_call import EndedCall
from sluicegate.values import TOKEN_COLUMNS, Outcome

MAX_LABELS = 500
"""Combinations of labels that get histograms of their own; clients invent models without end."""

MAX_ERRORS, OTHER_ERROR = 20, "_OTHER"
"""Errors of calls with the same labels that are told apart, and the name of all others."""

MAX_MODEL_CHARS = 100


@dataclass(frozen=True, eq=False, slots=True)
class HistogramKind:
    """One of the metrics; compared by what it is, not by its values, which is quicker."""

    name: str
    unit: str
    description: str
    bounds: tuple[float, ...]


DURATION = HistogramKind("gen_ai.client.operation.duration", "s", "GenAI operation duration.", DURATION_BOUNDS_S)
TOKENS = HistogramKind("gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.", TOKEN_BOUNDS)
FIRST_CHUNK = HistogramKind(
    "gen_ai.client.operation.time_to_first_chunk",
    "s",
    "Time to receive the first chunk, measured from when the client issues the generation request to when the first chunk "
    "is received in the response stream.",
    DURATION_BOUNDS_S,
)
FIRST_TOKEN = HistogramKind(
    "gen_ai.server.time_to_first_token", "s", "Time to generate first token for successful responses.", FIRST_TOKEN_BOUNDS_S
)
KINDS = (DURATION, TOKENS, FIRST_CHUNK, FIRST_TOKEN)


class Labels(NamedTuple):
    """What all histograms of some calls have in common; "" or 0 where one does not apply."""

    operation: str
    provider: str
    requested: str
    served: str
    address: str
    port: int

    @property
    def attributes(self) -> dict[str, str | int]:
        """Return them by their names."""
        found: dict[str, str | int] = {
            "gen_ai.operation.name": self.operation,
            "gen_ai.provider.name": self.provider,
            "gen_ai.request.model": self.requested,
            "gen_ai.response.model": self.served,
            "server.address": self.address,
            "server.port": self.port,
        }
        return {name: value for name, value in found.items() if value}


class Series(NamedTuple):
    """One series as it is now."""

    kind: HistogramKind
    attributes: dict[str, str | int]
    counts: list[int]
    """How many values each bucket has."""
    total: float


class _Histograms:
    """The histograms of calls with the same labels."""

    __slots__ = ("durations", "first_chunk", "first_token", "received", "sent")

    def __init__(self) -> None:
        self.durations: dict[str, Histogram] = {}
        """By error; "" for completed calls."""
        self.sent, self.received = Histogram(TOKENS.bounds), Histogram(TOKENS.bounds)
        self.first_chunk, self.first_token = Histogram(FIRST_CHUNK.bounds), Histogram(FIRST_TOKEN.bounds)

    def observe(self, record: Record, error: str | None) -> None:
        """Count a call."""
        name = error or ""
        duration = self.durations.get(name)
        if duration is None:
            # A provider words its errors as it likes.
            name = name if len(self.durations) < MAX_ERRORS else OTHER_ERROR
            duration = self.durations.setdefault(name, Histogram(DURATION.bounds))
        duration.observe(record["latency_ms"] / 1000)
        received = record["output_tokens"]
        if sent := sum([record[column] for column in TOKEN_COLUMNS]) - received:
            self.sent.observe(sent)
        if received:
            self.received.observe(received)
        if error is None and record["ttft_ms"] is not None:
            seconds = record["ttft_ms"] / 1000
            self.first_token.observe(seconds)
            if record["stream"]:
                self.first_chunk.observe(seconds)

    def all(self) -> Iterator[tuple[HistogramKind, dict[str, str | int], Histogram]]:
        """Yield each histogram with its kind and the attributes that it alone has."""
        for error, duration in list(self.durations.items()):
            yield DURATION, {"error.type": error} if error else {}, duration
        yield TOKENS, {"gen_ai.token.type": "input"}, self.sent
        yield TOKENS, {"gen_ai.token.type": "output"}, self.received
        yield FIRST_CHUNK, {}, self.first_chunk
        yield FIRST_TOKEN, {}, self.first_token


class GenAiMetrics:
    """Histograms of the model calls that were sent to a provider, since the first one that was observed."""

    def __init__(self) -> None:
        self.since: int | None = None
        """When counting began, epoch milliseconds."""
        self._calls: dict[Labels, _Histograms] = {}

    def observe(self, ended: EndedCall, now: int) -> None:
        """Count a call that has ended; a refused one took no provider's time or tokens."""
        record = ended.record
        if self.since is None:
            self.since = now
        if ended.kind != "messages" or record["outcome"] == Outcome.DENIED:
            return
        requested, served = record["model_requested"] or "", record["model_served"] or ""
        labels = Labels(ended.operation, ended.provider_name, requested, served, ended.server_address, ended.server_port)
        found = self._calls.get(labels)
        if found is None:
            found = self._begin(labels)
        found.observe(record, ended.error)

    def _begin(self, labels: Labels) -> _Histograms:
        """Return histograms for labels that have none: those of other models where there are too many."""
        # Names that only clients used get half of the room, so that invented ones never crowd out models that are served.
        allowed = MAX_LABELS if labels.served else MAX_LABELS // 2
        if len(self._calls) >= allowed or not _is_label(labels.requested) or not _is_label(labels.served):
            labels = labels._replace(requested=OTHER_MODELS, served=OTHER_MODELS)
        return self._calls.setdefault(labels, _Histograms())

    def series(self) -> list[Series]:
        """Return all series that have values, those of a metric after each other."""
        found = []
        for labels, histograms in list(self._calls.items()):
            common = labels.attributes
            for kind, own, histogram in histograms.all():
                counts = list(histogram.counts)
                if any(counts):
                    found.append(Series(kind, common | own, counts, histogram.total))
        return sorted(found, key=lambda series: series.kind.name)


def _is_label(model: str) -> bool:
    return len(model) <= MAX_MODEL_CHARS and (model.isprintable() or not model)
