"""A node's claims on alerts, over the connection on which it watches the others; for one thread, the alerts'."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager

from sluicegate.fleet.store.alert_claims import AlertClaim, AlertClaims, KnownClaim


class NodeAlerts:
    """The claims of one node. Every method blocks, and raises FleetError."""

    def __init__(self, store: AlertClaims, lock: AbstractContextManager[object], node: str) -> None:
        self._store, self._lock, self._node = store, lock, node

    def claim(self, wanted: Sequence[AlertClaim]) -> list[AlertClaim]:
        """Return those that this node is to deliver."""
        with self._lock:
            return self._store.claim_alerts(self._node, wanted)

    def release(self, counter: str, start: int, amounts: Sequence[tuple[int, int]]) -> None:
        """Let thresholds be claimed again that the window has fallen below, each with its amount."""
        with self._lock:
            self._store.release_alerts(counter, start, amounts)

    def mark_delivered(self, messages: Collection[tuple[str, str]]) -> None:
        """Note that messages need no delivery any more."""
        with self._lock:
            self._store.mark_delivered(messages)

    def known(self, ids: Collection[str]) -> list[KnownClaim]:
        """Return this node's undelivered claims, and what there is on these alerts."""
        with self._lock:
            return self._store.known_alerts(self._node, ids)

    def take_abandoned(self) -> list[AlertClaim]:
        """Take over what nodes that are gone have not delivered."""
        with self._lock:
            return self._store.take_abandoned(self._node)
