"""What waits to be forwarded has few bytes, and what has been forwarded makes room."""

from __future__ import annotations

from sluicegate.client_telemetry import forwarder
from sluicegate.client_telemetry.forwarder import Forwarder, Item


def test_the_bytes_that_wait_are_bounded(monkeypatch):
    monkeypatch.setattr(forwarder, "MAX_QUEUED_BYTES", 10)
    # Without a collector everything is dropped when its turn comes.
    sender = Forwarder(lambda: None, lambda: 0.0)
    monkeypatch.setattr(sender, "_run", lambda: None)
    for dropped in (1, 3):
        sender.add(Item("logs", b"x" * 10))
        sender.add(Item("metrics", b"x"))
        assert sender.counts[("metrics", "dropped")] == (dropped + 1) // 2
        sender.step()
    assert sender.counts == {("metrics", "dropped"): 2, ("logs", "dropped"): 2}
