"""Metrics of a gateway that shares its limits with others: its name, its messages to the store, and who waited for them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sluicegate.metrics.exposition import Labels, add_sample
from sluicegate.metrics.snapshot import Snapshot

_GAUGES = {
    "store_ok": "1 while the store answers.",
    "live_nodes": "Nodes that the store counts as live.",
    "undelivered_records": "Records that the store does not have yet.",
    "clock_offset_seconds": "The store's clock less the node's.",
    "unreadable_erasures": "Erasures in the store that no gateway has written so, and that are not carried out.",
}
_COUNTERS = {
    "messages": "Messages that the store has answered: each is one round trip, whatever it holds.",
    "waits": "Calls that waited for the store, because no lease had room for them.",
    "store_errors": "Messages that the store did not answer.",
    "delivered_records": "Records that the store has taken.",
    "policy_set_back": "How often the policy in the store has gone back to an earlier version, as in a restored backup.",
}


def fleet_families(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield every metric named ``sluicegate_fleet_...``, without a sample for a gateway that is alone."""
    fleet = snapshot.services.fleet
    node = GaugeMetricFamily("sluicegate_fleet_node_info", "The node's name.")
    values: dict[str, float] = {}
    if fleet is not None:
        add_sample(node, Labels({"node": fleet.name}), 1)
        standing, shipping = fleet.standing, fleet.shipping
        values = {
            "store_ok": not fleet.membership.error,
            "live_nodes": standing.live,
            "undelivered_records": shipping.lag,
            "clock_offset_seconds": fleet.clock.offset_ms / 1000,
            "messages": standing.messages,
            "waits": fleet.membership.asks.asked,
            "store_errors": fleet.agent.errors,
            "delivered_records": shipping.delivered,
            "unreadable_erasures": 0 if shipping.asked is None else len(shipping.asked.erasures.unreadable),
            "policy_set_back": 0 if fleet.policy is None else fleet.policy.set_back,
        }
    yield node
    for kind, described in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
        for name, what in described.items():
            family = kind(f"sluicegate_fleet_{name}", what)
            if name in values:
                add_sample(family, Labels({}), values[name])
            yield family
