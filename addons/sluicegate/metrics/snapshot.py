"""One scrape's view of the gateway: taken once, so that all metrics of one answer speak of the same numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sluicegate.background import paced
from sluicegate.calls.keyring import Keyring
from sluicegate.limits.ledger import Ledger
from sluicegate.metrics.aggregates import Tally, Timing, Who
from sluicegate.metrics.exposition import Labels
from sluicegate.policy.model import Limit, Policy

PRIVATE = frozenset({"virtual_key", "user", "provider_config"})
"""Kinds of scopes that are one person's or one key's."""


class MetricsSource(Protocol):
    """Who is asked."""

    ledger: Ledger
    clock: Any
    policy_watcher: Any
    store_error: str | None
    audit_error: str | None
    hook_time: dict[tuple[str, str], list[int]]
    keyring: Keyring
    notifier: Any

    @property
    def policy(self) -> Policy:
        """The policy in force."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """What everybody's metrics are worked out of. ``public`` leaves out all that belongs to one key or one user."""

    public: bool
    services: MetricsSource
    policy: Policy
    now: int
    calls: list[tuple[Who, Tally]]
    timings: list[tuple[tuple[str, str], Timing]]
    limits: list[tuple[Limit, int, int]]
    """Each limit with what is used and reserved."""
    refusals: Mapping[str, int]

    def who(self, who: Who) -> Labels:
        """A caller's labels."""
        labels = who._asdict()
        if self.public:
            del labels["virtual_key_id"], labels["user_id"]
        return Labels(labels)


def together(calls: Iterable[tuple[Who, Tally]]) -> list[tuple[Who, Tally]]:
    """The same calls, without saying whose key or which user it was."""
    found: dict[Who, Tally] = {}
    for who, tally in paced(calls):
        found.setdefault(who._replace(virtual_key_id="", user_id=""), Tally()).add(tally)
    return list(found.items())
