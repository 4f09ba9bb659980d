"""Watching the operator's ``prices.yaml``: a valid edit takes effect within two seconds, an invalid one never does."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from sluicegate import atomic_write
from sluicegate.background import PeriodicThread
from sluicegate.paths import price_file
from sluicegate.pricing.price_file import PriceError
from sluicegate.pricing.prices import Prices

logger = logging.getLogger("sluicegate.pricing")

POLL_INTERVAL_S = 1.0
"""Seconds between two looks at the file; each is a few stats."""


class PriceWatcher:
    """Keeps ``current`` up to date. It is replaced whole by one assignment, so readers need no lock."""

    def __init__(self, policy_path: Path) -> None:
        """Load the prices beside this policy. Raises PriceError or OSError."""
        self._policy_path = policy_path
        self.path = price_file(policy_path)
        self.error: str | None = None
        """What is wrong with the file on disk; None while it is in force."""
        self._fingerprint = self._look()
        self.current = Prices.load(self.path if self._fingerprint is not None else None)
        self._lock = threading.Lock()
        self._thread = PeriodicThread("sluicegate-prices", POLL_INTERVAL_S, self._watch)

    def start(self) -> None:
        """Start watching in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._thread.stop()

    def check(self, *, unchanged: bool = False) -> bool:
        """Read the file again if it has changed, or ``unchanged`` too; return whether prices were read."""
        with self._lock:
            return self._check(unchanged)

    def _check(self, unchanged: bool) -> bool:
        fingerprint = self._look()
        if fingerprint == self._fingerprint and not unchanged:
            return False
        # After an invalid edit too: it is reported once, not at every look.
        self._fingerprint = fingerprint
        try:
            prices = Prices.load(self.path if fingerprint is not None else None)
        except (PriceError, OSError) as e:
            self.error = str(e)
            logger.error("Prices cannot be read; still using those from before:\n%s", e)
            return False
        if self.current.is_loaded:
            # Calls need it, so none of them is to wait for it again.
            prices.load_bundled()
        self.current, self.error = prices, None
        logger.warning("New prices are in force: %s", self.path if fingerprint is not None else "the gateway's own")
        return True

    def _look(self) -> tuple[str, int, int, int] | None:
        self.path = price_file(self._policy_path)
        try:
            return self.path.name, *atomic_write.fingerprint(self.path.stat())
        except OSError:
            return None

    def _watch(self) -> None:
        try:
            self.check()
        except Exception:
            logger.exception("The price file cannot be watched; still using the prices from before")
