"""The functions of ``time`` with seconds added: to be imported before what takes them into its own names, and by no test itself.

asyncio asks the module each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

ahead_s = 0


def put_forward(stock: Callable[[], float], unit: int) -> Callable[[], float]:
    """Return a clock that is ``ahead_s`` seconds ahead; ``unit`` are its ticks in a second."""
    return lambda: stock() + ahead_s * unit


for _name, _unit in (("monotonic", 1), ("time", 1), ("monotonic_ns", 10**9), ("time_ns", 10**9)):
    setattr(time, _name, put_forward(getattr(time, _name), _unit))
