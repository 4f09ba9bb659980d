"""The peers of a worker: what it asks the others of its host, and tells them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from sluicegate.calls.live_calls import LiveCalls
from sluicegate.limits.ledger import Ledger
from sluicegate.workers.combined_scrape import Scrape
from sluicegate.workers.live import LiveOfWorkers


class Gateway(Protocol):
    """What a worker tells of."""

    live_calls: LiveCalls
    ledger: Ledger
    metrics: Any

    @property
    def node_name(self) -> str | None:
        """The worker's name."""


class Peers:
    """One worker's part in what all of them show."""

    def __init__(self, number: int, state_dir: Path, gateway: Gateway) -> None:
        self._gateway = gateway
        self.scrape = Scrape(number, state_dir, gateway.metrics.render, gateway.metrics.cache_counts, self._work)
        self.live = LiveOfWorkers(number, state_dir, gateway.live_calls)

    def _work(self) -> dict[str, Any]:
        """Return the worker's name, and how many calls it has under way and how many reservations are open."""
        one = self._gateway
        return {"node": one.node_name, "calls": len(one.live_calls.running), "reservations": len(one.ledger.open)}

    def start(self) -> None:
        """Answer the others from now on. In the proxy's loop."""
        self.scrape.start()
        self.live.start()

    def close(self) -> None:
        """Answer no more."""
        self.scrape.close()
        self.live.close()
