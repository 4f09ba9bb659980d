"""Calls as the ledger and the store see them."""

from __future__ import annotations

from typing import Any

from sluicegate.calls.record import COLUMNS
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import Limit
from sluicegate.storage.store import Store
from sluicegate.values import NANO
from sluicegate.windows import parse_period

BUDGET = Limit("virtual_key", "vk", "VK", "usd", 50 * NANO, parse_period("1M"), False, "virtual_key/vk/usd/1M")

LIMIT_CHECKS = [
    ["virtual_key", "vk", "usd", "1M", "soft", 50, 40, 5, 2, None, True],
    ["team", "t", "usd", "1M", "soft", 9, 8, 2, 2, 7, False],
]


def record(call_id: str, cost: int = 5, **changes: Any) -> dict[str, Any]:
    """Return a completed call's record."""
    base = dict.fromkeys(COLUMNS) | {
        "id": call_id,
        "outcome": "completed",
        "cost_nano": cost,
        "started_at": "2026-01-01T00:00:00.000Z",
    }
    return (
        base
        | {"input_tokens": 1, "output_tokens": 2, "cache_read_tokens": 0, "cache_write_5m_tokens": 0, "cache_write_1h_tokens": 0}
        | changes
    )


def reserve(store: Store, ledger: Ledger, call_id: str, amount: int = 10) -> None:
    """Reserve a call's money, with its draft, and write it to the store."""
    assert ledger.reserve(call_id, [(BUDGET, amount)], 1000) is None
    ledger.hold_open(call_id, 1000, lambda: record(call_id, amount))
    store.write(ledger.take_changes())
