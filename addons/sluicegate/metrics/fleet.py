"""Metrics of a gateway that shares its limits with others: its name, its messages to the store, and who waited for them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sluicegate.metrics.exposition import Labels, add_sample
from sluicegate.metrics.snapshot import Snapshot


def fleet_families(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield every metric named ``sluicegate_fleet_...``; none for a gateway that is alone."""
    fleet = snapshot.services.fleet
    if fleet is None:
        return
    member, shipping = fleet.membership, fleet.shipping
    node = GaugeMetricFamily("sluicegate_fleet_node_info", "The node's name.")
    add_sample(node, Labels({"node": fleet.name}), 1)
    yield node
    for name, what, gauge in (
        ("store_ok", "1 while the store answers.", not member.error),
        ("live_nodes", "Nodes that the store counts as live.", member.live),
        ("undelivered_records", "Records that the store does not have yet.", shipping.lag),
        ("clock_offset_seconds", "The store's clock less the node's.", fleet.clock.offset_ms / 1000),
    ):
        yield GaugeMetricFamily(f"sluicegate_fleet_{name}", what, value=float(gauge))
    for name, what, count in (
        ("messages", "Messages that the store has answered: each is one round trip, whatever it holds.", member.messages),
        ("waits", "Calls that waited for the store, because no lease had room for them.", member.asks.asked),
        ("store_errors", "Messages that the store did not answer.", fleet.agent.errors),
        ("delivered_records", "Records that the store has taken.", shipping.delivered),
    ):
        yield CounterMetricFamily(f"sluicegate_fleet_{name}", what, value=float(count))
