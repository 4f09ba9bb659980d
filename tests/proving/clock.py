"""A script for mitmdump: gives the gateway a clock that is off by what a file says, in milliseconds."""

from __future__ import annotations

import os
import time
from pathlib import Path

from flow import services

OFFSET = Path(os.environ["SLUICEGATE_TEST_CLOCK"])


def now() -> int:
    """Epoch milliseconds, off by the file."""
    return time.time_ns() // 1_000_000 + int(OFFSET.read_text())


class Clock:
    """Loaded behind the gateway."""

    def running(self) -> None:
        """mitmproxy: the gateway is up."""
        shared = services()
        shared.clock = now
        shared.policy_watcher.clock = now


addons = [Clock()]
