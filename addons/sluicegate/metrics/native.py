"""Our own metrics, under our own names: what a scrape has seen, as families of series."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from sluicegate.background import paced
from sluicegate.metrics.aggregates import TOKEN_TYPES
from sluicegate.metrics.exposition import Labels, add
from sluicegate.metrics.snapshot import Scrape
from sluicegate.policy.model import Limit
from sluicegate.values import NANO, Reason


def of(seen: Scrape) -> Iterator[Metric]:
    """Every metric that is called ``sluicegate_...``."""
    yield from _calls(seen)
    yield from _timings(seen)
    yield from _limits(seen)
    yield from _health(seen)
    yield from _hooks(seen)
    yield from _alerts(seen)


def _calls(seen: Scrape) -> Iterator[Metric]:
    calls = CounterMetricFamily("sluicegate_calls", "Calls by how they ended.")
    tokens = CounterMetricFamily("sluicegate_tokens", "Tokens by type.")
    cost = CounterMetricFamily("sluicegate_cost_usd", "Dollars charged.")
    for who, tally in paced(seen.calls):
        labels = seen.who(who)
        for outcome, count in list(tally.outcomes.items()):
            add(calls, labels.plus("outcome", outcome), count)
        for column, count in list(tally.tokens.items()):
            add(tokens, labels.plus("token_type", TOKEN_TYPES[column]), count)
        if tally.cost_nano:
            add(cost, labels, tally.cost_nano / NANO)
    yield from (calls, tokens, cost)
    refusals = CounterMetricFamily("sluicegate_refusals", "Refused calls by reason.")
    for reason in Reason:
        # From the start, at 0: Prometheus sees no increase in a series that begins with its first refusal.
        add(refusals, Labels({"reason": reason.value}), seen.refusals.get(reason.value, 0))
    yield refusals


def _timings(seen: Scrape) -> Iterator[Metric]:
    names = ("provider", "model")
    latency = HistogramMetricFamily("sluicegate_latency_seconds", "First header to last byte.", labels=names)
    first = HistogramMetricFamily("sluicegate_first_byte_seconds", "First header to the answer's first byte.", labels=names)
    for model, timing in seen.timings:
        for family, buckets in (
            (latency, timing.ended_well.plus(timing.ended_badly)),
            (first, timing.streamed.plus(timing.plain)),
        ):
            family.add_metric(model, buckets.cumulative(), buckets.total)
    yield from (latency, first)


def _limits(seen: Scrape) -> Iterator[Metric]:
    budgets = [
        GaugeMetricFamily(f"sluicegate_budget_{what}_usd", f"Budget {what}, dollars.") for what in ("used", "reserved", "limit")
    ]
    rates = [GaugeMetricFamily(f"sluicegate_rate_limit_{what}", f"Rate limit {what}.") for what in ("used", "limit")]
    for limit, used, reserved in paced(seen.limits):
        if limit.unit == "usd":
            labels = Labels({"id": limit.scope_id, "kind": limit.scope_kind, "window": window_of(limit)})
            for family, nano in zip(budgets, (used, reserved, limit.maximum), strict=True):
                add(family, labels, nano / NANO)
        else:
            labels = Labels({"id": limit.scope_id, "kind": limit.scope_kind, "unit": limit.unit})
            for family, count in zip(rates, (used + reserved, limit.maximum), strict=True):
                add(family, labels, count)
    yield from (*budgets, *rates)


def window_of(limit: Limit) -> str:
    """A limit's period in a label: ``1M``, or ``1M Europe/Berlin`` where it follows a calendar. One scope may have both."""
    if limit.period is None:
        return ""
    return f"{limit.period.text} {limit.period.timezone}" if limit.period.aligned else limit.period.text


def _health(seen: Scrape) -> Iterator[Metric]:
    services = seen.services
    for name, what, value in (
        ("reservations", "Calls in flight with a reservation.", len(services.ledger.open)),
        ("policy_reload_errors", "Edits of the policy that were refused since start.", services.policy_watcher.reload_errors),
        ("policy_ok", "1 while the policy on disk is in force.", not services.policy_watcher.error),
        ("ledger_ok", "1 while the ledger can be written.", not services.store_error),
        ("audit_ok", "1 while records can be written.", not services.audit_error),
    ):
        yield GaugeMetricFamily(f"sluicegate_{name}", what, value=float(value))
    info = GaugeMetricFamily("sluicegate_policy_info", "The revision in force.")
    add(info, Labels({"revision": seen.policy.revision}), 1)
    yield info
    if not seen.public:
        keys = GaugeMetricFamily(
            "sluicegate_provider_key_ok", "1 while a provider key has a value and is not set aside for everybody."
        )
        rejected = GaugeMetricFamily(
            "sluicegate_provider_key_rejected", "Virtual keys whose calls a provider key is rejected with."
        )
        callers = len(seen.policy.virtual_keys)
        for provider in seen.policy.providers.values():
            for key in provider.keys:
                labels = Labels({"key": key.name, "provider": provider.name})
                add(keys, labels, bool(key.value) and not services.keyring.aside_until(provider, key, callers, seen.now))
                add(rejected, labels, services.keyring.rejected(provider, key, seen.now))
        yield from (keys, rejected)


def _hooks(seen: Scrape) -> Iterator[Metric]:
    seconds = CounterMetricFamily("sluicegate_hook_seconds", "Time spent in each addon's hooks.")
    times = CounterMetricFamily("sluicegate_hook_calls", "How often each addon's hooks ran.")
    for (addon, hook), (spent, count) in list(seen.services.hook_time.items()):
        labels = Labels({"addon": addon, "hook": hook})
        add(seconds, labels, spent / 1e9)
        add(times, labels, count)
    yield from (seconds, times)


def _alerts(seen: Scrape) -> Iterator[Metric]:
    families: tuple[Metric, ...] = (
        CounterMetricFamily("sluicegate_alerts_sent", "Alerts a webhook has taken."),
        CounterMetricFamily("sluicegate_alerts_failed", "Attempts to send an alert that failed."),
        CounterMetricFamily("sluicegate_alerts_dropped", "Alerts given up: their window is over, or a day has passed."),
        GaugeMetricFamily("sluicegate_alerts_pending", "Alerts not taken yet."),
    )
    for webhook, *counts in seen.services.notifier.counts():
        for family, count in zip(families, counts, strict=True):
            add(family, Labels({"webhook": webhook}), count)
    yield from families
