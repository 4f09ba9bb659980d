"""Metrics for Prometheus: a call's end costs a few additions, everything else is worked out when somebody scrapes."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric

from sluicegate.background import paced
from sluicegate.calls.record import TOKEN_COLUMNS, Record
from sluicegate.metrics import bifrost as aliases
from sluicegate.metrics import native as families
from sluicegate.metrics.aggregates import Tally, Timing, Who
from sluicegate.metrics.exposition import text
from sluicegate.metrics.snapshot import PRIVATE, MetricsSource, Scrape, together
from sluicegate.values import Outcome

MOST_MODELS = 200
"""Distinct model names that get a series of their own; a client can invent names, so there must be an end."""

LONGEST_MODEL = 100
"""Characters of a model's name, for the same reason."""

MOST_TALLIES = 20_000
"""Beyond this, what was counted of keys that the policy no longer has is dropped."""


class Metrics:
    """What this gateway has counted since it started."""

    def __init__(self, services: MetricsSource) -> None:
        self._services = services
        self._process = ProcessCollector(registry=None)
        self._models: set[str] = set()
        self.tallies: dict[tuple[str, ...], Tally] = {}
        self.timings: dict[tuple[str, str], Timing] = {}
        self.refusals: dict[str, int] = {}

    def observe(self, record: Record) -> None:
        """Count a finished call."""
        outcome, provider = record["outcome"], record["provider"]
        model = self._model(record["model_requested"], record["model_served"], outcome)
        user = record["user_id"] or ""
        if user and not self._services.policy.has_scope("user", user):
            # A header may name whom it likes; only people the policy knows get series.
            user = ""
        key, team, customer = record["virtual_key_id"] or "", record["team_id"] or "", record["customer_id"] or ""
        who = (provider, model, key, user, team, customer, record["project_id"] or "")
        tally = self.tallies.get(who)
        if tally is None:
            tally = self.tallies[who] = Tally()
        tally.outcomes[outcome] = tally.outcomes.get(outcome, 0) + 1
        if record["reason"]:
            self.refused(record["reason"])
            return
        if outcome != Outcome.COMPLETED:
            status = "499" if outcome == Outcome.CANCELLED else str(record["status"] or 0)
            tally.errors[status] = tally.errors.get(status, 0) + 1
        for column in TOKEN_COLUMNS:
            if record[column]:
                tally.tokens[column] = tally.tokens.get(column, 0) + record[column]
        tally.cost_nano += record["cost_nano"] or 0
        if model:
            timing = self.timings.get((provider, model))
            if timing is None:
                timing = self.timings[provider, model] = Timing()
            timing.observe(record)

    def refused(self, reason: str) -> None:
        """Count a refusal that gets no record of its own."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def render(self, public: bool = False) -> bytes:
        """The text Prometheus scrapes; ``public`` leaves out all that belongs to one key or one user.

        Takes up to some hundred milliseconds where there are many keys, so call it in a thread.
        """
        return text(self.families(public))

    def families(self, public: bool = False) -> Iterator[Metric]:
        """Everything there is to say now."""
        seen = self._scrape(public)
        yield from families.of(seen)
        yield from aliases.of(seen)
        yield from self._process.collect()

    def _scrape(self, public: bool) -> Scrape:
        services, policy, now = self._services, self._services.policy, self._services.clock()
        if len(self.tallies) > MOST_TALLIES:
            for gone in [w for w in list(self.tallies) if w[2] and w[2] not in policy.virtual_keys]:
                self.tallies.pop(gone, None)
        calls = [(Who(*who), tally) for who, tally in paced(list(self.tallies.items()))]
        limits = [x for x in policy.all_limits() if not (public and x.scope_kind in PRIVATE)]
        return Scrape(
            public=public,
            services=services,
            policy=policy,
            now=now,
            calls=together(calls) if public else calls,
            timings=list(self.timings.items()),
            limits=[(x, *services.ledger.usage(x, now)[:2]) for x in paced(limits)],
            refusals=dict(self.refusals),
        )

    def _model(self, asked: str | None, served: str | None, outcome: str) -> str:
        """The label for a call's model: its name, or ``other`` where a client could have made it up without end."""
        model = served or asked
        if model is None or model in self._models:
            return model or ""
        # Names that only clients have said get half of the places, so that nonsense never crowds out what is served.
        places = MOST_MODELS if served else MOST_MODELS // 2
        if outcome == Outcome.DENIED or len(self._models) >= places or len(model) > LONGEST_MODEL or not model.isprintable():
            return "other"
        self._models.add(model)
        return model
