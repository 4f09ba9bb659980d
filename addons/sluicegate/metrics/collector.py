"""The gateway's metrics: the end of a call costs a few additions, everything else is computed when it is scraped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric

from sluicegate.background import paced
from sluicegate.calls.record import Record
from sluicegate.metrics.aggregates import OTHER_MODELS, CallLabels, CallTotals, Latencies
from sluicegate.metrics.bifrost import bifrost_families
from sluicegate.metrics.cached_answers import cache_counts, cache_families
from sluicegate.metrics.exposition import render_text
from sluicegate.metrics.native import native_families
from sluicegate.metrics.snapshot import PRIVATE_SCOPE_KINDS, MetricsSource, Snapshot, merge_callers
from sluicegate.values import TOKEN_COLUMNS, Outcome

MAX_MODELS = 200
"""Distinct model names that get series of their own; a client can invent names without end."""

MAX_MODEL_CHARS = 100
"""Length of a model's name in a label, for the same reason."""

MAX_CALL_TOTALS = 20_000
"""Number of totals above which those of keys that are no longer in the policy are dropped."""


class Metrics:
    """Counts of this gateway since it started."""

    def __init__(self, services: MetricsSource) -> None:
        self._services = services
        self._process = ProcessCollector(registry=None)
        self._models: set[str] = set()
        self.call_totals: defaultdict[tuple[str, ...], CallTotals] = defaultdict(CallTotals)
        self.timings: defaultdict[tuple[str, str], Latencies] = defaultdict(Latencies)
        self.attempts: dict[tuple[str, str, str], int] = {}
        """Attempts of calls that could have been sent more than once, by provider, model and result."""
        self.refusals: dict[str, int] = {}
        self.declined_websockets = 0
        """Attempts at WebSocket that were answered 426: no calls, and so without a record."""
        self.adjusted_nano = {"up": 0, "down": 0}
        """Nano-dollars that adjustments have added and taken off."""

    def observe(self, record: Record) -> None:
        """Count a finished call."""
        outcome, provider = record["outcome"], record["provider"]
        model = record["model_served"] or record["model_requested"]
        if model not in self._models:
            model = self._model(record["model_requested"], record["model_served"], outcome)
        policy, user, project = self._services.policy, record["user_id"], record["project_id"]
        caller = (
            provider,
            model,
            record["virtual_key_id"] or "",
            # A client chooses what its headers say, so nobody but the policy's entities get series of their own.
            user if user and policy.has_scope("user", user) else "",
            record["team_id"] or "",
            record["customer_id"] or "",
            project if project and policy.has_scope("project", project) else "",
        )
        totals = self.call_totals[caller]
        totals.outcomes[outcome] = totals.outcomes.get(outcome, 0) + 1
        if (cached := record["cache"]) is not None:
            totals.cached[cached] = totals.cached.get(cached, 0) + 1
            totals.saved_nano += record["saved_nano"] or 0
        for attempt in record["attempts"] or ():
            self._count_attempt(attempt, outcome)
        if outcome == "denied" and record["reason"]:
            self.count_refusal(record["reason"])
            return
        if outcome != "completed":
            status = "499" if outcome == Outcome.CANCELLED else str(record["status"] or 0)
            totals.errors[status] = totals.errors.get(status, 0) + 1
        tokens = totals.tokens
        for column in TOKEN_COLUMNS:
            if count := record[column]:
                tokens[column] = tokens.get(column, 0) + count
        totals.cost_nano += record["cost_nano"] or 0
        totals.shadow_nano += record["shadow_nano"] or 0
        if model and cached != "hit":
            # How fast the cache is says nothing about the model.
            self.timings[provider, model].observe(record)

    def _count_attempt(self, attempt: Record, outcome: str) -> None:
        served = attempt["model"] if attempt["result"] == "answered" else None
        name = (attempt["provider"], self._model(attempt["model"], served, outcome), attempt["result"])
        self.attempts[name] = self.attempts.get(name, 0) + 1

    def count_refusal(self, reason: str) -> None:
        """Count a refused call by its reason; called directly for a refusal that gets no record."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def observe_adjustment(self, amount_nano: int) -> None:
        """Count an adjustment."""
        self.adjusted_nano["up" if amount_nano > 0 else "down"] += abs(amount_nano)

    def render(self, public: bool = False) -> bytes:
        """Return the text Prometheus scrapes; ``public`` leaves out whatever belongs to one key or one user.

        With many keys this takes some hundred milliseconds, so call it in a thread.
        """
        return render_text(self.families(public))

    def cache_counts(self) -> dict[str, int]:
        """Return what the caches did since the start, by name."""
        return cache_counts(self._services)

    def families(self, public: bool = False) -> Iterator[Metric]:
        """Yield every metric as it is now."""
        snapshot = self._take_snapshot(public)
        yield from native_families(snapshot)
        yield from cache_families(snapshot)
        yield from bifrost_families(snapshot)
        yield from self._process.collect()

    def _take_snapshot(self, public: bool) -> Snapshot:
        services, policy, now = self._services, self._services.policy, self._services.clock()
        if len(self.call_totals) > MAX_CALL_TOTALS:
            for caller in [c for c in list(self.call_totals) if c[2] and c[2] not in policy.virtual_keys]:
                self.call_totals.pop(caller, None)
        calls = [(CallLabels(*caller), totals) for caller, totals in paced(list(self.call_totals.items()))]
        limits = [x for x in policy.all_limits() if not (public and x.scope_kind in PRIVATE_SCOPE_KINDS)]
        return Snapshot(
            public=public,
            services=services,
            policy=policy,
            now=now,
            calls=merge_callers(calls) if public else calls,
            timings=list(self.timings.items()),
            limits=[(x.at(now), *services.ledger.usage(x, now)[:2]) for x in paced(limits)],
            refusals=dict(self.refusals),
            declined_websockets=self.declined_websockets,
            attempts=dict(self.attempts),
            models=frozenset(self._models),
            adjusted_nano=dict(self.adjusted_nano),
        )

    def _model(self, requested: str | None, served: str | None, outcome: str) -> str:
        """Return the label for a call's model: its name, or OTHER_MODELS once there are too many that clients may invent."""
        model = served or requested
        if model is None or model in self._models:
            return model or ""
        # Names that only clients used get half of the series, so that invented names never crowd out models that are served.
        allowed = MAX_MODELS if served else MAX_MODELS // 2
        if outcome == Outcome.DENIED or len(self._models) >= allowed or len(model) > MAX_MODEL_CHARS or not model.isprintable():
            return OTHER_MODELS
        self._models.add(model)
        return model
