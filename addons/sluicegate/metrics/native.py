"""Metrics under our own names, ``sluicegate_...``, as families of series."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from sluicegate.background import paced
from sluicegate.metrics.aggregates import OTHER_MODELS, TOKEN_TYPES
from sluicegate.metrics.client_telemetry import client_telemetry_families
from sluicegate.metrics.exposition import Labels, add_sample
from sluicegate.metrics.fleet import fleet_families
from sluicegate.metrics.snapshot import Snapshot
from sluicegate.policy.limit import Limit
from sluicegate.routing.explanation import route_weights
from sluicegate.routing.health import State
from sluicegate.values import NANO, Outcome, Reason


def native_families(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield every metric named ``sluicegate_...``."""
    yield from _calls(snapshot)
    yield _unlisted_models(snapshot)
    yield from _timings(snapshot)
    yield from _limits(snapshot)
    yield from _targets(snapshot)
    yield from _health(snapshot)
    yield from _hooks(snapshot)
    yield from _streams(snapshot)
    yield from _token_counts(snapshot)
    yield from _alerts(snapshot)
    yield from _exports(snapshot)
    yield from _reconciliations(snapshot)
    yield from _prompt_caches(snapshot)
    yield from client_telemetry_families(snapshot)
    yield from fleet_families(snapshot)


def _calls(snapshot: Snapshot) -> Iterator[Metric]:
    calls = CounterMetricFamily("sluicegate_calls", "Calls by how they ended.")
    tokens = CounterMetricFamily("sluicegate_tokens", "Tokens by type.")
    cost = CounterMetricFamily("sluicegate_cost_usd", "Dollars charged.")
    shadow = CounterMetricFamily("sluicegate_shadow_usd", "Dollars that calls with their client's own login would have cost.")
    for caller, totals in paced(snapshot.calls):
        labels = snapshot.labels_of(caller)
        for outcome, count in list(totals.outcomes.items()):
            add_sample(calls, labels.with_label("outcome", outcome), count)
        for column, count in list(totals.tokens.items()):
            add_sample(tokens, labels.with_label("token_type", TOKEN_TYPES[column]), count)
        if totals.cost_nano:
            add_sample(cost, labels, totals.cost_nano / NANO)
        if totals.shadow_nano:
            add_sample(shadow, labels, totals.shadow_nano / NANO)
    yield from (calls, tokens, cost, shadow)
    adjusted = CounterMetricFamily("sluicegate_adjusted_usd", "Dollars that adjustments have added (up) and taken off (down).")
    for direction, nano in snapshot.adjusted_nano.items():
        add_sample(adjusted, Labels({"direction": direction}), nano / NANO)
    yield adjusted
    refusals = CounterMetricFamily("sluicegate_refusals", "Refused calls by reason.")
    for reason in (r for r in Reason if r is not Reason.PROVIDER_UNREACHABLE):
        # Every reason is there from the start, at 0: Prometheus sees no increase in a series that begins with its first refusal.
        add_sample(refusals, Labels({"reason": reason.value}), snapshot.refusals.get(reason.value, 0))
    yield refusals
    declined = CounterMetricFamily(
        "sluicegate_declined_websockets", "Attempts at WebSocket, answered 426; clients go on over HTTP."
    )
    add_sample(declined, Labels({}), snapshot.declined_websockets)
    yield declined


def _unlisted_models(snapshot: Snapshot) -> Metric:
    """Return the calls of models that no price list has now; those of a model end when a list gets it."""
    counts: dict[tuple[str, str], int] = {}
    for caller, totals in paced(snapshot.calls):
        if caller.model and caller.model != OTHER_MODELS:
            passed = sum(count for outcome, count in list(totals.outcomes.items()) if outcome != Outcome.DENIED)
            sold = caller.provider, caller.model
            counts[sold] = counts.get(sold, 0) + passed
    family = CounterMetricFamily("sluicegate_unlisted_model_calls", "Calls of models without a listed price, by what prices them.")
    found: dict[tuple[str, str], int] = {}
    for (provider, model), count in counts.items():
        rule = snapshot.services.priced_by(snapshot.policy, provider, model, snapshot.now)
        if count and rule != "listed":
            found[model, rule] = found.get((model, rule), 0) + count
    for (model, rule), count in found.items():
        add_sample(family, Labels({"model": model, "priced_by": rule}), count)
    return family


def _timings(snapshot: Snapshot) -> Iterator[Metric]:
    names = ("provider", "model")
    latency = HistogramMetricFamily("sluicegate_latency_seconds", "First header to last byte.", labels=names)
    first = HistogramMetricFamily("sluicegate_first_byte_seconds", "First header to the answer's first byte.", labels=names)
    for model, timing in snapshot.timings:
        for family, buckets in (
            (latency, timing.completed.merged_with(timing.not_completed)),
            (first, timing.first_byte_streamed.merged_with(timing.first_byte_unstreamed)),
        ):
            family.add_metric(model, buckets.cumulative(), buckets.total)
    yield from (latency, first)


def _limits(snapshot: Snapshot) -> Iterator[Metric]:
    budgets = [
        GaugeMetricFamily(f"sluicegate_budget_{what}_usd", f"Budget {what}, dollars.") for what in ("used", "reserved", "limit")
    ]
    rates = [GaugeMetricFamily(f"sluicegate_rate_limit_{what}", f"Rate limit {what}.") for what in ("used", "limit")]
    for limit, used, reserved in paced(snapshot.limits):
        if limit.unit == "usd":
            labels = Labels({"id": limit.scope_id, "kind": limit.scope_kind, "window": window_of(limit)})
            for family, nano in zip(budgets, (used, reserved, limit.maximum), strict=True):
                add_sample(family, labels, nano / NANO)
        else:
            labels = Labels({"id": limit.scope_id, "kind": limit.scope_kind, "unit": limit.unit})
            for family, count in zip(rates, (used + reserved, limit.maximum), strict=True):
                add_sample(family, labels, count)
    yield from (*budgets, *rates)


def _targets(snapshot: Snapshot) -> Iterator[Metric]:
    attempts = CounterMetricFamily("sluicegate_attempts", "Attempts at calls that may have more than one, by what came of them.")
    for (provider, model, result), count in snapshot.attempts.items():
        add_sample(attempts, Labels({"provider": provider, "model": model, "result": result}), count)
    breaker = GaugeMetricFamily("sluicegate_target_breaker", "1 for the state that a target's circuit breaker is in.")
    errors = GaugeMetricFamily("sluicegate_target_error_rate", "Share of a target's last attempts that failed.")
    latency = GaugeMetricFamily("sluicegate_target_latency_seconds", "Mean of a target's last attempts to the first byte.")
    headroom = GaugeMetricFamily("sluicegate_target_headroom", "Share of its rate limits that a provider says is left.")
    weight = GaugeMetricFamily("sluicegate_target_weight", "A target's weight in a route, by its health.")
    router, policy, now = snapshot.services.router, snapshot.policy, snapshot.now
    named = {(t.provider, t.model) for route in policy.routes for t in route.targets}
    for (provider, model), health in list(router.health.items()):
        # Callers name models; only those that have series of their own, or that a route names, get one here.
        if model in snapshot.models or (provider, model) in named:
            labels = Labels({"provider": provider, "model": model})
            for state in get_args(State):
                add_sample(breaker, labels.with_label("state", state), health.state(now) == state)
            add_sample(errors, labels, health.recent_errors(now))
            add_sample(headroom, labels, health.headroom)
            if health.latency_ms:
                add_sample(latency, labels, health.latency_ms / 1000)
    for part in route_weights(router, policy, now):
        target = part.target
        if target.model in snapshot.models or (target.provider, target.model) in named:
            labels = Labels({"route": part.route, "provider": target.provider, "model": target.model})
            add_sample(weight, labels, part.effective_weight)
    yield from (attempts, breaker, errors, latency, headroom, weight)


def window_of(limit: Limit) -> str:
    """Return a limit's period as a label: ``1M``, or ``1M Europe/Berlin`` if it follows the calendar. A scope may have both."""
    if limit.period is None:
        return ""
    return f"{limit.period.text} {limit.period.timezone}" if limit.period.aligned else limit.period.text


def _health(snapshot: Snapshot) -> Iterator[Metric]:
    services = snapshot.services
    for name, what, value in (
        ("reservations", "Calls in flight with a reservation.", len(services.ledger.open)),
        ("policy_reload_errors", "Edits of the policy that were refused since start.", services.policy_watcher.reload_errors),
        ("policy_ok", "1 while the policy on disk is in force.", not services.policy_watcher.error),
        ("prices_ok", "1 while the operator's prices.yaml on disk is in force.", not services.price_watcher.error),
        ("ledger_ok", "1 while the ledger can be written.", not services.writer.store_error),
        ("audit_ok", "1 while records can be written.", not services.writer.journal_error),
    ):
        yield GaugeMetricFamily(f"sluicegate_{name}", what, value=float(value))
    info = GaugeMetricFamily("sluicegate_policy_info", "The revision in force.")
    add_sample(info, Labels({"revision": snapshot.policy.revision}), 1)
    yield info
    if not snapshot.public:
        keys = GaugeMetricFamily(
            "sluicegate_provider_key_ok", "1 while a provider key has a value and is not set aside for everybody."
        )
        rejected = GaugeMetricFamily(
            "sluicegate_provider_key_rejected", "Virtual keys whose calls a provider key is rejected with."
        )
        callers = len(snapshot.policy.virtual_keys)
        for provider in snapshot.policy.providers.values():
            for key in provider.keys:
                labels = Labels({"key": key.name, "provider": provider.name})
                add_sample(
                    keys, labels, key.is_usable and not services.keyring.set_aside_until(provider, key, callers, snapshot.now)
                )
                add_sample(rejected, labels, services.keyring.rejection_count(provider, key, snapshot.now))
        yield from (keys, rejected)


def _hooks(snapshot: Snapshot) -> Iterator[Metric]:
    seconds = CounterMetricFamily("sluicegate_hook_seconds", "Time spent in each addon's hooks.")
    times = CounterMetricFamily("sluicegate_hook_calls", "How often each addon's hooks ran.")
    for (addon, hook), (spent, count) in list(snapshot.services.hook_time.items()):
        labels = Labels({"addon": addon, "hook": hook})
        add_sample(seconds, labels, spent)
        add_sample(times, labels, count)
    yield from (seconds, times)


def _streams(snapshot: Snapshot) -> Iterator[Metric]:
    answers = CounterMetricFamily("sluicegate_streams", "Streamed answers by the way they took, and why they took the general one.")
    for (way, reason), count in sorted(snapshot.services.streams.items()):
        add_sample(answers, Labels({"way": way, "reason": reason}), count)
    reads = CounterMetricFamily("sluicegate_stream_reads", "Reads of answers on the short way, and what became of them.")
    for result, count in sorted(snapshot.services.stream_reads.items()):
        add_sample(reads, Labels({"result": result}), count)
    requests = CounterMetricFamily(
        "sluicegate_request_ways", "HTTP/1 requests by the way they took, and why they took the general one."
    )
    for (way, reason), count in sorted(snapshot.services.request_ways.items()):
        add_sample(requests, Labels({"way": way, "reason": reason}), count)
    yield from (answers, reads, requests)


def _token_counts(snapshot: Snapshot) -> Iterator[Metric]:
    family = CounterMetricFamily("sluicegate_token_counts", "Answers whose output was to be counted by their model's tokenizer.")
    tokens = snapshot.services.tokens
    for result, count in (("counted", tokens.counted), ("failed", tokens.failed)):
        add_sample(family, Labels({"result": result}), count)
    yield family


def _alerts(snapshot: Snapshot) -> Iterator[Metric]:
    families: tuple[Metric, ...] = (
        CounterMetricFamily("sluicegate_alerts_sent", "Alerts a webhook has accepted."),
        CounterMetricFamily("sluicegate_alerts_failed", "Attempts to send an alert that failed."),
        CounterMetricFamily(
            "sluicegate_alerts_dropped", "Alerts given up: their window has ended, the webhook is gone, or 30 days have passed."
        ),
        GaugeMetricFamily("sluicegate_alerts_pending", "Alerts not accepted yet."),
    )
    for webhook, *counts in snapshot.services.notifier.counts():
        for family, count in zip(families, counts, strict=True):
            add_sample(family, Labels({"webhook": webhook}), count)
    yield from families


def _exports(snapshot: Snapshot) -> Iterator[Metric]:
    spans = CounterMetricFamily("sluicegate_otlp_spans", "Spans of calls by what came of them.")
    failures = CounterMetricFamily("sluicegate_otlp_failures", "Requests that an OTLP receiver did not accept.")
    counts = snapshot.services.telemetry.counts()
    for result in ("sent", "rejected", "dropped"):
        add_sample(spans, Labels({"result": result}), getattr(counts, result))
    for signal in ("traces", "metrics"):
        add_sample(failures, Labels({"signal": signal}), getattr(counts, f"failed_{signal}"))
    yield from (spans, failures)


def _reconciliations(snapshot: Snapshot) -> Iterator[Metric]:
    at = GaugeMetricFamily(
        "sluicegate_reconciliation_timestamp_seconds", "When a provider's bill was last compared with our records."
    )
    drift = GaugeMetricFamily("sluicegate_reconciliation_drift_usd", "The provider's bill less our records, dollars.")
    share = GaugeMetricFamily("sluicegate_reconciliation_drift_ratio", "Drifts of all days and models, as a share of the bill.")
    for provider, last in snapshot.services.reconciliations.latest().items():
        add_sample(at, Labels({"provider": provider}), last["at"] / 1000)
        add_sample(drift, Labels({"provider": provider}), float(last["drift_usd"]))
        for unit, name in (("usd", "cost_drift_share"), ("tokens", "token_drift_share")):
            add_sample(share, Labels({"provider": provider, "unit": unit}), last[name])
    yield from (at, drift, share)


def _prompt_caches(snapshot: Snapshot) -> Iterator[Metric]:
    breaks = CounterMetricFamily("sluicegate_prompt_cache_breaks", "Calls that paid again for what their provider had cached.")
    lost = CounterMetricFamily("sluicegate_prompt_cache_lost_usd", "Dollars that reading it from the cache would have saved.")
    for cause, (count, nano) in list(snapshot.services.prompt_watch.lost.items()):
        add_sample(breaks, Labels({"cause": cause}), count)
        add_sample(lost, Labels({"cause": cause}), nano / NANO)
    left_out = CounterMetricFamily("sluicegate_prompt_cache_unexamined", "Calls that were not compared with the one before.")
    add_sample(left_out, Labels({}), snapshot.services.prompt_watch.dropped)
    yield from (breaks, lost, left_out)
