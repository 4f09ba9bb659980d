"""The names other people's dashboards and alert rules know: Bifrost's metrics and two pairs of budget gauges.

They are the same counts as our own, said again when somebody scrapes; a call does not pay for them. Bifrost counts model
calls only, so these do too: other requests to a provider's host are in ``sluicegate_calls_total`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from sluicegate.background import paced
from sluicegate.metrics.aggregates import TOKEN_TYPES, Who
from sluicegate.metrics.exposition import Labels, add
from sluicegate.metrics.native import window_of
from sluicegate.metrics.snapshot import Scrape
from sluicegate.values import NANO, Outcome


def of(seen: Scrape) -> Iterator[Metric]:
    """Every metric that is not called ``sluicegate_...``."""
    yield from _calls(seen)
    yield from _timings(seen)
    if not seen.public:
        yield from _budgets(seen, "virtual_key", "budget", "Dollars of a virtual key's budget")
    yield from _budgets(seen, "team", "team_budget", "Dollars of a team's budget")
    yield GaugeMetricFamily("bifrost_active_requests", "Model calls in flight.", value=float(len(seen.services.ledger.open)))


def _calls(seen: Scrape) -> Iterator[Metric]:
    requests = CounterMetricFamily("bifrost_requests", "Model calls, refused ones too.")
    upstream = CounterMetricFamily("bifrost_upstream_requests", "Model calls sent to a provider: never refused ones.")
    success = CounterMetricFamily("bifrost_success_requests", "Model calls that were completed.")
    errors = CounterMetricFamily("bifrost_error_requests", "Model calls sent to a provider that did not end well.")
    sent = CounterMetricFamily("bifrost_input_tokens", "Tokens sent, cached ones too.")
    received = CounterMetricFamily("bifrost_output_tokens", "Tokens received.")
    tokens = CounterMetricFamily("bifrost_tokens", "Tokens by type.")
    cost = CounterMetricFamily("bifrost_cost", "Dollars charged.")
    for who, tally in paced(seen.calls):
        if not who.model:
            continue
        labels = _labels(seen, who)
        refused = tally.outcomes.get(Outcome.DENIED, 0)
        completed = tally.outcomes.get(Outcome.COMPLETED, 0)
        failed = dict(tally.errors)
        away = completed + sum(failed.values())
        add(requests, labels, away + refused)
        if not away:
            continue
        add(upstream, labels, away)
        add(success, labels, completed)
        for status, count in failed.items():
            add(errors, labels.plus("status_code", status), count)
        used = dict(tally.tokens)
        output = used.get("output_tokens", 0)
        add(sent, labels, sum(used.values()) - output)
        add(received, labels, output)
        for column, count in used.items():
            add(tokens, labels.plus("token_type", TOKEN_TYPES[column]), count)
        add(cost, labels, tally.cost_nano / NANO)
    yield from (requests, upstream, success, errors, sent, received, tokens, cost)


def _labels(seen: Scrape, who: Who) -> Labels:
    """Bifrost's labels, and the article's ``vk``."""
    of_team = {"provider": who.provider, "model": who.model, "team_id": who.team_id, "customer_id": who.customer_id}
    if seen.public:
        return Labels(of_team)
    return Labels({**_key(seen, who.virtual_key_id), "user_id": who.user_id, **of_team})


def _key(seen: Scrape, key_id: str) -> dict[str, str]:
    key = seen.policy.virtual_keys.get(key_id)
    return {"vk": key_id, "virtual_key_id": key_id, "virtual_key_name": key.name if key else key_id}


def _timings(seen: Scrape) -> Iterator[Metric]:
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
    for model, timing in seen.timings:
        for success, buckets in (("true", timing.ended_well), ("false", timing.ended_badly)):
            latency.add_metric((*model, success), buckets.cumulative(), buckets.total)
        first.add_metric(model, timing.streamed.cumulative(), timing.streamed.total)
        per_token.add_metric(model, timing.per_token.cumulative(), timing.per_token.total)
    yield from (latency, first, per_token)


def _budgets(seen: Scrape, kind: str, name: str, what: str) -> Iterator[Metric]:
    """Usage and limit with the very same labels, so that one can be divided by the other as it stands."""
    usage = GaugeMetricFamily(f"{name}_usage", f"{what} that are spent.")
    most = GaugeMetricFamily(f"{name}_limit", f"{what}, all in all.")
    for limit, used, _ in paced(seen.limits):
        if limit.unit != "usd" or limit.scope_kind != kind:
            continue
        if kind == "team":
            scope = {"team": limit.scope_id, "team_id": limit.scope_id}
        else:
            key = seen.policy.virtual_keys[limit.scope_id]
            scope = {
                **_key(seen, key.id),
                "user_id": key.user_id or "",
                "team_id": key.team_id or "",
                "customer_id": key.customer_id or "",
            }
        labels = Labels(scope | {"window": window_of(limit)})
        add(usage, labels, used / NANO)
        add(most, labels, limit.maximum / NANO)
    yield from (usage, most)
