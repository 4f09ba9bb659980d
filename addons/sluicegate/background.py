"""Long work in a thread while calls run: the proxy's loop gets the interpreter within half a millisecond, not five."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

PAUSE_S = 0.0001
"""Pause in which other threads run while one computes."""

ITEMS_PER_PAUSE = 400
"""Items processed between two pauses, which takes about a millisecond."""

_lock = threading.Lock()
_active = 0
_defaults: tuple[float, tuple[int, int, int]] = (0.005, (700, 10, 10))


@contextmanager
def low_priority() -> Iterator[None]:
    """Let other threads go first during work that makes a hundred thousand objects, such as reading a very large policy.

    Python lets a thread compute for 5 ms before another one gets its turn, and a call needs some ten turns. The garbage
    collector would traverse all that is being built again and again, each time stopping every thread for up to half a
    second: until the work is done it looks only at young objects.
    """
    global _active, _defaults
    with _lock:
        if _active == 0:
            _defaults = sys.getswitchinterval(), gc.get_threshold()
            sys.setswitchinterval(0.0005)
            gc.set_threshold(max(10_000, _defaults[1][0]), 10_000, 10_000)
        _active += 1
    try:
        yield
    finally:
        with _lock:
            _active -= 1
            if _active == 0:
                sys.setswitchinterval(_defaults[0])
                gc.set_threshold(*_defaults[1])


def release_gradually(items: list[Any]) -> None:
    """Empty a list of a hundred thousand objects in steps: freeing them at once would block every other thread."""
    while items:
        del items[-500:]


def paced[T](items: Iterable[T]) -> Iterator[T]:
    """Yield the items, with short pauses between them.

    A thread that computes keeps the interpreter for 5 ms at a time, and the proxy's loop would wait that long each time
    it wakes up; so a loop over thousands of items must release it by itself.
    """
    for i, item in enumerate(items, 1):
        yield item
        if not i % ITEMS_PER_PAUSE:
            time.sleep(PAUSE_S)


class PeriodicThread:
    """A thread that takes a step every so many seconds. A step handles its own errors: one that raises ends the thread."""

    def __init__(self, name: str, interval_s: float, step: Callable[[], object]) -> None:
        self._interval_s, self._step = interval_s, step
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start, if it has not been started yet."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Take no further step. Does not wait for the one under way."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._step()
