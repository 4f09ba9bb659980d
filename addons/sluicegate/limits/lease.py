"""A lease: the part of one counter's window that this gateway may take without asking, where several share the limit."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sluicegate.limits.corrections import Corrections

NOTHING_KNOWN = -1
"""What is granted before the store has said anything: not even a call that costs nothing is admitted."""


def boot_clock() -> int:
    """Return nanoseconds that go on while a machine sleeps and that nobody sets: a paused gateway must know its leases ended."""
    return time.clock_gettime_ns(_BOOT_CLOCK)


def boot_clock_ms() -> int:
    """Return the same in milliseconds. Asked for a dozen times a call."""
    return time.clock_gettime_ns(_BOOT_CLOCK) // 1_000_000


_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(slots=True)
class Lease:
    """What the fleet's store has granted this gateway, and what it last said of the other gateways."""

    start: int
    """Start of the window that it is for, epoch milliseconds; in any other window it grants nothing."""
    granted: int = NOTHING_KNOWN
    """What this gateway has used and holds may come to this much."""
    used_elsewhere: int = 0
    """What other gateways have used, and corrections."""
    held_elsewhere: int = 0
    """What calls in flight on other gateways hold."""
    slack_elsewhere: int = 0
    """What other gateways may still take by their own leases."""
    until: int | None = None
    """When it ends by ``boot_clock``; None where others wait for this gateway's report however long that takes."""

    def admits(self, start: int, taken: int, amount: int) -> bool:
        """Return whether a call may take this amount more in the window with this start, beside what is taken here."""
        if self.until is not None and boot_clock() >= self.until:
            return False
        return self.start == start and taken + amount <= self.granted

    def elsewhere(self, start: int) -> tuple[int, int]:
        """Return what other gateways have used and may still take in the window with this start, as far as is known."""
        return (self.used_elsewhere, self.held_elsewhere + self.slack_elsewhere) if self.start == start else (0, 0)


@dataclass(slots=True)
class SharedCounters:
    """What several gateways share of their counters, beside the leases of those that are in use here."""

    anchors: dict[str, int] = field(default_factory=dict)
    """By counter: the time from which its windows follow each other on every gateway, epoch milliseconds."""
    unused: dict[str, Lease] = field(default_factory=dict)
    """What is known of counters that no call of this gateway has come under yet."""
    corrections: Corrections = field(default_factory=Corrections)
    """What operators have changed and the store may not know yet."""
