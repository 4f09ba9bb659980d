"""A script for mitmdump: shifts the gateway's clock by the milliseconds in a file."""

from __future__ import annotations

import os
import time
from pathlib import Path

from flow import services

OFFSET = Path(os.environ["SLUICEGATE_TEST_CLOCK"])


def now() -> int:
    """Return epoch milliseconds, shifted by the file's offset."""
    return time.time_ns() // 1_000_000 + int(OFFSET.read_text())


class Clock:
    """An addon loaded after the gateway."""

    def running(self) -> None:
        """Replace the clock once the gateway is up."""
        shared = services()
        shared.clock = now
        shared.policy_watcher.clock = now


addons = [Clock()]
