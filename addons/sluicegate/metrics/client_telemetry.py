"""What clients report of themselves, as families of series. None has a key or a user: a client chooses what it reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sluicegate.metrics.exposition import Labels, add_sample
from sluicegate.metrics.snapshot import Snapshot
from sluicegate.values import NANO

_TOKEN_TYPES = ("input", "output", "cache_read", "cache_write")
"""Token types in the order of a report's figures, which begin with the cost."""

_NAME = "sluicegate_client_telemetry"


def client_telemetry_families(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield the metrics of what clients report, and how it differs from our records."""
    telemetry = snapshot.services.client_telemetry
    requests = CounterMetricFamily(f"{_NAME}_requests", "Requests with clients' own telemetry by what became of them.")
    for (signal, result), count in sorted(telemetry.requests.items()):
        add_sample(requests, Labels({"signal": signal, "result": result}), count)
    forwarded = CounterMetricFamily(f"{_NAME}_forwarded", "The same, by what became of them on the way to the collector.")
    for (signal, result), count in sorted(telemetry.forwarder.counts.items()):
        add_sample(forwarded, Labels({"signal": signal, "result": result}), count)
    reports = CounterMetricFamily(f"{_NAME}_reports", "What clients have reported of calls, by what became of it.")
    for result in ("matched", "unmatched", "repeated", "dropped"):
        add_sample(reports, Labels({"result": result}), getattr(telemetry.comparison, result))
    yield from (requests, forwarded, reports)
    yield from _compared(telemetry.comparison.by_gateway, telemetry.comparison.by_client)


def _compared(
    by_gateway: Mapping[tuple[str, str], tuple[int, ...]], by_client: Mapping[tuple[str, str], tuple[int, ...]]
) -> Iterator[Metric]:
    cost = CounterMetricFamily(f"{_NAME}_cost_usd", "Dollars of sessions that clients report, by whose figures.")
    tokens = CounterMetricFamily(f"{_NAME}_tokens", "Tokens of sessions that clients report, by whose figures.")
    cost_drift = GaugeMetricFamily(f"{_NAME}_drift_usd", "Our dollars less the clients', since the start.")
    token_drift = GaugeMetricFamily(f"{_NAME}_drift_tokens", "Our tokens less the clients', since the start.")
    for (model, source), theirs in sorted(by_client.items()):
        ours = by_gateway.get((model, source), theirs)
        labels = Labels({"model": model, "source": source})
        for who, figures in (("client", theirs), ("gateway", ours)):
            add_sample(cost, labels.with_label("by", who), figures[0] / NANO)
            for token_type, count in zip(_TOKEN_TYPES, figures[1:], strict=True):
                add_sample(tokens, labels.with_label("by", who).with_label("token_type", token_type), count)
        add_sample(cost_drift, labels, (ours[0] - theirs[0]) / NANO)
        for token_type, our, their in zip(_TOKEN_TYPES, ours[1:], theirs[1:], strict=True):
            add_sample(token_drift, labels.with_label("token_type", token_type), our - their)
    yield from (cost, tokens, cost_drift, token_drift)
