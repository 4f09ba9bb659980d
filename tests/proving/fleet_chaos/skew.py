"""A script for mitmdump: the time of day that a gateway's process sees, all of it, is wrong by the milliseconds in a file.

Only the time of day, in every module of the process: what measures how long something takes goes on, as it does on a machine
whose clock is set. The chain asks the module ``time`` at each call, so this may come after its import.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

FILE = Path(os.environ["SLUICEGATE_TEST_SKEW"])
INTERVAL_S = 0.1

_time, _time_ns = time.time, time.time_ns
_skew_ms = int(FILE.read_text())


def _follow() -> None:
    global _skew_ms
    while True:
        _skew_ms = int(FILE.read_text())
        time.sleep(INTERVAL_S)


time.time = lambda: _time() + _skew_ms / 1000
time.time_ns = lambda: _time_ns() + _skew_ms * 1_000_000
threading.Thread(target=_follow, daemon=True).start()

addons: list[object] = []
