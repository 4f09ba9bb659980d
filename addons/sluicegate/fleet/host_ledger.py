"""What has been used of every limit as the files of a state folder say, whether workers have shared it or not."""

from __future__ import annotations

from pathlib import Path

from sluicegate.fleet.reaching import has_workers
from sluicegate.fleet.store.protocol import FleetError, Total
from sluicegate.fleet.store.sqlite import FILENAME as STORE
from sluicegate.fleet.store.sqlite import SqliteStore
from sluicegate.limits.counter import Counter
from sluicegate.limits.ledger import Ledger
from sluicegate.storage.errors import StoreError
from sluicegate.storage.store import FILENAME, read_ledger


def read_host_ledger(state_dir: Path) -> Ledger:
    """Return the ledger, with what all workers have used where there are any. Raises sqlite3.Error or StoreError."""
    ledger = read_ledger(state_dir / FILENAME)
    if has_workers(state_dir):
        # Nothing is asked that depends on the time.
        store = SqliteStore(state_dir / STORE, lambda: 0)
        try:
            for total in store.totals().rows:
                _learn(ledger, total)
        except FleetError as e:
            raise StoreError(str(e)) from e
        finally:
            store.close()
    return ledger


def _learn(ledger: Ledger, total: Total) -> None:
    counter = ledger.counters.get(total.counter)
    if counter is None or total.start > counter.start:
        ledger.counters[total.counter] = Counter(total.counter, total.start, total.start, total.end, total.used)
    elif total.start == counter.start:
        counter.used = total.used
