"""A script for mitmdump: counts the CPU time of the gateway's hooks instead of the time that passes in them.

On shared cores a hook that is put aside looks slow by the clock on the wall. Asking for CPU time is a system call and
costs too much for every day, so the gateway itself never does; and what it costs here is left out of what it says, for
many a hook takes less.
"""

from __future__ import annotations

import itertools
import time

from runtime import dispatch as dispatch
from sluicegate.storage import group_commit

_asked = itertools.count()
_own = 0


def clock_ns() -> int:
    """CPU time of this thread in nanoseconds, without what asking for it has taken."""
    return time.thread_time_ns() - next(_asked) * _own


_own = min(-clock_ns() + clock_ns() for _ in range(10_000))
for module in (dispatch, group_commit):
    module.__dict__["clock_ns"] = clock_ns
