"""A script for mitmdump: counts the CPU time of the gateway's hooks instead of the time that passes in them.

On shared cores a hook that is preempted looks slow by the wall clock. Reading CPU time is a system call, too expensive
for normal operation, so the gateway itself never does it; its cost here is subtracted, because many hooks take less.
"""

from __future__ import annotations

import itertools
import time

from runtime import dispatch as dispatch
from sluicegate.storage import group_commit

_asked = itertools.count()
_own = 0.0


def clock_s() -> float:
    """Return the CPU time of this thread in seconds, without the time these readings have taken."""
    return time.thread_time_ns() / 1e9 - next(_asked) * _own


_own = min(-clock_s() + clock_s() for _ in range(10_000))
for module in (dispatch, group_commit):
    module.__dict__["clock_s"] = clock_s
