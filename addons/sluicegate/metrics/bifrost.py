"""Metrics under the names that existing dashboards and alert rules use: Bifrost's, and two pairs of budget gauges.

They repeat our own counts and are computed on a scrape, so a call does not pay for them. Bifrost counts model calls only,
so these do too: other requests to a provider's host are in ``sluicegate_calls_total`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from sluicegate.background import paced
from sluicegate.metrics.aggregates import TOKEN_TYPES, CallLabels
from sluicegate.metrics.exposition import Labels, add_sample
from sluicegate.metrics.native import window_of
from sluicegate.metrics.snapshot import Snapshot
from sluicegate.values import NANO, Outcome


def bifrost_families(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield every metric that is not named ``sluicegate_...``."""
    yield from _calls(snapshot)
    yield from _timings(snapshot)
    if not snapshot.public:
        yield from _budgets(snapshot, "virtual_key", "budget", "Dollars of a virtual key's budget")
    yield from _budgets(snapshot, "team", "team_budget", "Dollars of a team's budget")
    yield GaugeMetricFamily("bifrost_active_requests", "Model calls in flight.", value=float(len(snapshot.services.ledger.open)))


def _calls(snapshot: Snapshot) -> Iterator[Metric]:
    requests = CounterMetricFamily("bifrost_requests", "Model calls, refused ones included.")
    upstream = CounterMetricFamily(
        "bifrost_upstream_requests", "Model calls sent to a provider; refused ones and cache hits never are."
    )
    success = CounterMetricFamily("bifrost_success_requests", "Model calls that were completed.")
    errors = CounterMetricFamily("bifrost_error_requests", "Model calls sent to a provider that were not completed.")
    sent = CounterMetricFamily("bifrost_input_tokens", "Tokens sent, cached ones included.")
    received = CounterMetricFamily("bifrost_output_tokens", "Tokens received.")
    tokens = CounterMetricFamily("bifrost_tokens", "Tokens by type.")
    cost = CounterMetricFamily("bifrost_cost", "Dollars charged.")
    cached = CounterMetricFamily("bifrost_cache_hits", "Model calls answered from the cache.")
    for caller, totals in paced(snapshot.calls):
        if not caller.model:
            continue
        labels = _labels(snapshot, caller)
        refused = totals.outcomes.get(Outcome.DENIED, 0)
        completed = totals.outcomes.get(Outcome.COMPLETED, 0)
        failed = dict(totals.errors)
        forwarded = completed + sum(failed.values())
        add_sample(requests, labels, forwarded + refused)
        if not forwarded:
            continue
        hits = totals.cached.get("hit", 0)
        add_sample(upstream, labels, forwarded - hits)
        if hits:
            add_sample(cached, labels.with_label("cache_type", "direct"), hits)
        add_sample(success, labels, completed)
        for status, count in failed.items():
            add_sample(errors, labels.with_label("status_code", status), count)
        used = dict(totals.tokens)
        output = used.get("output_tokens", 0)
        add_sample(sent, labels, sum(used.values()) - output)
        add_sample(received, labels, output)
        for column, count in used.items():
            add_sample(tokens, labels.with_label("token_type", TOKEN_TYPES[column]), count)
        add_sample(cost, labels, totals.cost_nano / NANO)
    yield from (requests, upstream, success, errors, sent, received, tokens, cost, cached)


def _labels(snapshot: Snapshot, caller: CallLabels) -> Labels:
    """Return Bifrost's labels, and ``vk`` for the virtual key."""
    of_team = {"provider": caller.provider, "model": caller.model, "team_id": caller.team_id, "customer_id": caller.customer_id}
    if snapshot.public:
        return Labels(of_team)
    return Labels({**_key(snapshot, caller.virtual_key_id), "user_id": caller.user_id, **of_team})


def _key(snapshot: Snapshot, key_id: str) -> dict[str, str]:
    key = snapshot.policy.virtual_keys.get(key_id)
    return {"vk": key_id, "virtual_key_id": key_id, "virtual_key_name": key.name if key else key_id}


def _timings(snapshot: Snapshot) -> Iterator[Metric]:
    names = ("provider", "model")
    latency = HistogramMetricFamily(
        "bifrost_upstream_latency_seconds", "First header to last byte of model calls.", labels=(*names, "is_success")
    )
    first = HistogramMetricFamily(
        "bifrost_stream_first_token_latency_seconds", "First header to the first byte of a streamed answer.", labels=names
    )
    per_token = HistogramMetricFamily(
        "bifrost_stream_inter_token_latency_seconds", "Seconds per token of a streamed answer, one mean per call.", labels=names
    )
    for model, timing in snapshot.timings:
        for success, buckets in (("true", timing.completed), ("false", timing.not_completed)):
            latency.add_metric((*model, success), buckets.cumulative(), buckets.total)
        first.add_metric(model, timing.first_byte_streamed.cumulative(), timing.first_byte_streamed.total)
        per_token.add_metric(model, timing.per_token.cumulative(), timing.per_token.total)
    yield from (latency, first, per_token)


def _budgets(snapshot: Snapshot, kind: str, name: str, what: str) -> Iterator[Metric]:
    """Yield usage and limit with identical labels, so that PromQL can divide one by the other."""
    usage = GaugeMetricFamily(f"{name}_usage", f"{what} spent.")
    maximum = GaugeMetricFamily(f"{name}_limit", f"{what}, in total.")
    for limit, used, _ in paced(snapshot.limits):
        if limit.unit != "usd" or limit.scope_kind != kind:
            continue
        if kind == "team":
            scope = {"team": limit.scope_id, "team_id": limit.scope_id}
        else:
            key = snapshot.policy.virtual_keys[limit.scope_id]
            scope = {
                **_key(snapshot, key.id),
                "user_id": key.user_id or "",
                "team_id": key.team_id or "",
                "customer_id": key.customer_id or "",
            }
        labels = Labels(scope | {"window": window_of(limit)})
        add_sample(usage, labels, used / NANO)
        add_sample(maximum, labels, limit.maximum / NANO)
    yield from (usage, maximum)
