"""Long work in a thread beside live calls: the loop gets the interpreter within half a millisecond, not within five."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

PAUSE_S = 0.0001
"""Seconds that others get, now and then, while we compute."""

ITEMS_PER_PAUSE = 400
"""How many items are worked on between two pauses; about a millisecond's worth."""

_lock = threading.Lock()
_working = 0
_usual: tuple[float, tuple[int, int, int]] = (0.005, (700, 10, 10))


@contextmanager
def low_priority() -> Iterator[None]:
    """For work that makes a hundred thousand objects, such as reading a policy of ten thousand keys.

    Python lets a thread compute for 5 ms before another one gets its turn, and a call needs some ten turns. The
    collector would go through all that is being built again and again, each time stopping everybody for up to half a
    second: until the work is done it looks at what is young only.
    """
    global _working, _usual
    with _lock:
        if _working == 0:
            _usual = sys.getswitchinterval(), gc.get_threshold()
            sys.setswitchinterval(0.0005)
            gc.set_threshold(max(10_000, _usual[1][0]), 10_000, 10_000)
        _working += 1
    try:
        yield
    finally:
        with _lock:
            _working -= 1
            if _working == 0:
                sys.setswitchinterval(_usual[0])
                gc.set_threshold(*_usual[1])


def release_gradually(items: list[Any]) -> None:
    """Empty a list of a hundred thousand things in steps: Python frees them all without letting anybody else run."""
    while items:
        del items[-500:]


def paced[T](items: Iterable[T]) -> Iterator[T]:
    """The items, with a short pause now and then.

    A thread that computes keeps the interpreter for 5 ms at a time, and the proxy's loop would wait that long each time
    it wakes up; so whoever walks through thousands of things lets go of it by itself.
    """
    for i, item in enumerate(items, 1):
        yield item
        if not i % ITEMS_PER_PAUSE:
            time.sleep(PAUSE_S)
