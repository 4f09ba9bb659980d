"""Metrics for Prometheus: counters fed once per call, gauges read from the ledger when somebody scrapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sluicegate.call import NANO
from sluicegate.keyring import Keyring
from sluicegate.ledger import Ledger
from sluicegate.policy import Policy
from sluicegate.records import TOKEN_COLUMNS, Record

MOST_MODELS = 200
"""Distinct model names that get a series of their own; a client can invent names, so there must be an end."""

TOKEN_TYPES = tuple((c, c.removesuffix("_tokens")) for c in TOKEN_COLUMNS)

LATENCY = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
FIRST_BYTE = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


class House(Protocol):
    """What is asked when somebody scrapes."""

    ledger: Ledger
    clock: Any
    source: Any
    store_error: str | None
    audit_error: str | None
    hook_time: dict[tuple[str, str], list[int]]
    keyring: Keyring

    @property
    def policy(self) -> Policy:
        """The policy in force."""


class Metrics:
    """This gateway's registry. ``observe`` costs microseconds; ``render`` milliseconds, so call it in a thread."""

    def __init__(self, house: House) -> None:
        self.registry = CollectorRegistry()
        who = ("provider", "model", "virtual_key_id")
        self.calls = Counter("sluicegate_calls", "Calls by how they ended.", (*who, "outcome"), registry=self.registry)
        self.tokens = Counter("sluicegate_tokens", "Tokens by type.", (*who, "token_type"), registry=self.registry)
        self.cost = Counter("sluicegate_cost_usd", "Dollars charged.", who, registry=self.registry)
        self.refusals = Counter("sluicegate_refusals", "Refused calls by reason.", ("reason",), registry=self.registry)
        self.latency = Histogram(
            "sluicegate_latency_seconds",
            "First header to last byte.",
            ("provider", "model"),
            buckets=LATENCY,
            registry=self.registry,
        )
        self.first_byte = Histogram(
            "sluicegate_first_byte_seconds",
            "First header to the answer's first byte.",
            ("provider", "model"),
            buckets=FIRST_BYTE,
            registry=self.registry,
        )
        self.registry.register(_State(house))
        self._models: set[str] = set()
        self._children: dict[tuple[Any, ...], Any] = {}

    def observe(self, record: Record) -> None:
        """Count a finished call."""
        provider = record["provider"]
        model = self._model(record["model_served"] or record["model_requested"], record["outcome"])
        key = record["virtual_key_id"] or ""
        self._child(self.calls, provider, model, key, record["outcome"]).inc()
        if record["reason"]:
            self.refused(record["reason"])
            return
        for column, token_type in TOKEN_TYPES:
            if record[column]:
                self._child(self.tokens, provider, model, key, token_type).inc(record[column])
        if record["cost_nano"]:
            self._child(self.cost, provider, model, key).inc(record["cost_nano"] / NANO)
        if model:
            self._child(self.latency, provider, model).observe(record["latency_ms"] / 1000)
            if record["ttft_ms"] is not None:
                self._child(self.first_byte, provider, model).observe(record["ttft_ms"] / 1000)

    def refused(self, reason: str) -> None:
        """Count a refusal that gets no record of its own."""
        self._child(self.refusals, reason).inc()

    def _child(self, metric: Any, *labels: str) -> Any:
        """The series with these labels, remembered: finding it costs more than counting in it."""
        place = (id(metric), *labels)
        found = self._children.get(place)
        if found is None:
            found = self._children[place] = metric.labels(*labels)
        return found

    def render(self) -> bytes:
        """The text Prometheus scrapes."""
        return generate_latest(self.registry)

    def _model(self, model: str | None, outcome: str) -> str:
        if model is None or model in self._models:
            return model or ""
        # A refused call's model is whatever the client made up.
        if outcome == "denied" or len(self._models) >= MOST_MODELS:
            return "other"
        self._models.add(model)
        return model


class _State(Collector):
    """What is so at the moment of the scrape."""

    def __init__(self, house: House) -> None:
        self._house = house

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        house = self._house
        scope = ["kind", "id", "window"]
        budgets = [
            GaugeMetricFamily(f"sluicegate_budget_{what}_usd", f"Budget {what}, dollars.", labels=scope)
            for what in ("used", "reserved", "limit")
        ]
        rates = [
            GaugeMetricFamily(f"sluicegate_rate_limit_{what}", f"Rate limit {what}.", labels=["kind", "id", "unit"])
            for what in ("used", "limit")
        ]
        now = house.clock()
        for limit in house.policy.all_limits():
            used, reserved, _, _ = house.ledger.usage(limit, now)
            if limit.unit == "usd":
                labels = [limit.scope_kind, limit.scope_id, limit.period.text if limit.period else ""]
                for family, nano in zip(budgets, (used, reserved, limit.maximum), strict=True):
                    family.add_metric(labels, nano / NANO)
            else:
                labels = [limit.scope_kind, limit.scope_id, limit.unit]
                for family, count in zip(rates, (used + reserved, limit.maximum), strict=True):
                    family.add_metric(labels, count)
        yield from (*budgets, *rates)
        yield GaugeMetricFamily("sluicegate_reservations", "Calls in flight with a reservation.", value=len(house.ledger.open))
        yield GaugeMetricFamily(
            "sluicegate_policy_reload_errors",
            "Edits of the policy that were refused since start.",
            value=house.source.reload_errors,
        )
        yield GaugeMetricFamily("sluicegate_policy_ok", "1 while the policy on disk is in force.", value=not house.source.error)
        yield GaugeMetricFamily("sluicegate_ledger_ok", "1 while the ledger can be written.", value=not house.store_error)
        yield GaugeMetricFamily("sluicegate_audit_ok", "1 while records can be written.", value=not house.audit_error)
        keys = GaugeMetricFamily(
            "sluicegate_provider_key_ok", "1 while a provider key has a value and is not set aside.", labels=["provider", "key"]
        )
        for provider in house.policy.providers.values():
            for key in provider.keys:
                keys.add_metric([provider.name, key.name], bool(key.value) and not house.keyring.aside_until(provider, key, now))
        yield keys
        seconds = CounterMetricFamily("sluicegate_hook_seconds", "Time spent in each addon's hooks.", labels=["addon", "hook"])
        times = CounterMetricFamily("sluicegate_hook_calls", "How often each addon's hooks ran.", labels=["addon", "hook"])
        for (addon, hook), (spent, count) in list(house.hook_time.items()):
            seconds.add_metric([addon, hook], spent / 1e9)
            times.add_metric([addon, hook], count)
        yield from (seconds, times)
        info = GaugeMetricFamily("sluicegate_policy_info", "The revision in force.", labels=["revision"])
        info.add_metric([house.policy.revision], 1)
        yield info
