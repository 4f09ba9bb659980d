"""What the tests of the storage share."""

from __future__ import annotations

import pytest

from sluicegate.limits.ledger import Ledger
from sluicegate.storage.journal import Journal
from sluicegate.storage.store import Store


@pytest.fixture
def files(tmp_path):
    """Open store, journal and ledger on the same folder, as a start does."""
    opened = []

    def start():
        store, journal, ledger = Store(tmp_path / "sluicegate.db"), Journal(tmp_path / "audit.jsonl"), Ledger()
        store.load(ledger)
        opened.append((store, journal))
        return store, journal, ledger

    yield start
    for store, journal in opened:
        store.close()
        journal.close()
