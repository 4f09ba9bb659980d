"""The numbers one scrape is computed from, read once so that all metrics of an answer agree with each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sluicegate.background import paced
from sluicegate.caching.answer_cache import AnswerCache
from sluicegate.caching.semantic.worker import SemanticWorker
from sluicegate.calls.keyring import Keyring
from sluicegate.limits.ledger import Ledger
from sluicegate.metrics.aggregates import CallLabels, CallTotals, Latencies
from sluicegate.metrics.exposition import Labels
from sluicegate.policy.limit import Limit
from sluicegate.policy.model import Policy
from sluicegate.routing.router import Router
from sluicegate.storage.writer import Writer
from sluicegate.tokenizers.counter import TokenCounter

PRIVATE_SCOPE_KINDS = frozenset({"virtual_key", "user", "provider_config"})
"""Kinds of scopes that belong to one person or one key; never shown without a token."""


class MetricsSource(Protocol):
    """The services that metrics are read from."""

    ledger: Ledger
    answers: AnswerCache
    semantic: SemanticWorker
    clock: Any
    policy_watcher: Any
    price_watcher: Any
    writer: Writer
    hook_time: dict[tuple[str, str], list[float]]
    streams: Counter[tuple[str, str]]
    stream_reads: Counter[str]
    request_ways: Counter[tuple[str, str]]
    keyring: Keyring
    notifier: Any
    telemetry: Any
    reconciliations: Any
    prompt_watch: Any
    client_telemetry: Any
    tokens: TokenCounter
    router: Router
    fleet: Any

    def priced_by(self, policy: Policy, provider: str, model: str, at: int) -> str:
        """Return the rule by which a provider's calls of a model are priced."""

    @property
    def policy(self) -> Policy:
        """The policy in force."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What every metric is computed from; ``public`` leaves out whatever belongs to one key or one user."""

    public: bool
    services: MetricsSource
    policy: Policy
    now: int
    calls: list[tuple[CallLabels, CallTotals]]
    timings: list[tuple[tuple[str, str], Latencies]]
    limits: list[tuple[Limit, int, int]]
    """Each limit with the amounts used and reserved."""
    refusals: Mapping[str, int]
    declined_websockets: int
    attempts: Mapping[tuple[str, str, str], int]
    """Attempts by provider, model and result."""
    models: frozenset[str]
    """Models that have series of their own."""
    adjusted_nano: Mapping[str, int]
    """What adjustments have added (``up``) and taken off (``down``)."""

    def labels_of(self, caller: CallLabels) -> Labels:
        """Return a caller's labels, without key and user in a public answer."""
        labels = caller._asdict()
        if self.public:
            del labels["virtual_key_id"], labels["user_id"]
        return Labels(labels)


def merge_callers(calls: Iterable[tuple[CallLabels, CallTotals]]) -> list[tuple[CallLabels, CallTotals]]:
    """Return the same totals merged over virtual keys and users."""
    merged: dict[CallLabels, CallTotals] = {}
    for caller, totals in paced(calls):
        merged.setdefault(caller._replace(virtual_key_id="", user_id=""), CallTotals()).add(totals)
    return list(merged.items())
