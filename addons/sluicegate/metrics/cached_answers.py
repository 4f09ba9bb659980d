"""Metrics of the cache: how often it answered and what that saved, by caller, and what it holds; and its counts alone."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sluicegate.background import paced
from sluicegate.metrics.exposition import Labels, add_sample
from sluicegate.metrics.snapshot import MetricsSource, Snapshot
from sluicegate.values import NANO


def cache_families(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield every metric named ``sluicegate_cache_...``."""
    calls = CounterMetricFamily("sluicegate_cache_calls", "Calls by what the cache did: hit, miss or bypass.")
    saved = CounterMetricFamily("sluicegate_cache_saved_usd", "Dollars that calls answered from the cache would have cost.")
    for caller, totals in paced(snapshot.calls):
        labels = snapshot.labels_of(caller)
        for what, count in list(totals.cached.items()):
            add_sample(calls, labels.with_label("result", what), count)
        if totals.saved_nano:
            add_sample(saved, labels, totals.saved_nano / NANO)
    yield from (calls, saved)
    answers = snapshot.services.answers
    counters = (
        ("stores", "Answers that were kept.", answers.stores),
        ("evictions", "Answers that made room for others.", answers.file.evicted),
        ("dropped", "Answers that came in faster than they could be written.", answers.dropped),
    )
    for name, text, count in counters:
        counter = CounterMetricFamily(f"sluicegate_cache_{name}", text)
        add_sample(counter, Labels({}), count)
        yield counter
    gauges = (("answers", "Answers kept.", answers.file.count), ("bytes", "Bytes on disk of kept answers.", answers.file.size))
    for name, text, amount in gauges:
        gauge = GaugeMetricFamily(f"sluicegate_cache_{name}", text)
        add_sample(gauge, Labels({}), amount)
        yield gauge


def cache_counts(services: MetricsSource) -> dict[str, int]:
    """Return what the caches of one process did since it started, without what is in their file. Money is in nano-dollars."""
    answers, similar = services.answers, services.semantic
    return {
        "hits": answers.hits,
        "misses": answers.misses,
        "stores": answers.stores,
        "evictions": answers.file.evicted,
        "dropped": answers.dropped,
        "waiting": answers.pending.waiting,
        "saved_nano": answers.saved_nano,
        "similar_hits": similar.hits,
        "similar_misses": similar.misses,
        "similar_saved_nano": similar.saved_nano,
        "questions": similar.count,
        "agreed": similar.agreed,
        "disagreed": similar.disagreed,
    }
