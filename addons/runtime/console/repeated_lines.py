"""Repeated lines: a warning or error that recurs is counted, not printed each time, so that nobody can fill the disk with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import ClassVar

from flow import Addon

SHOWN = 3
"""How often the same line is printed in one window."""

WINDOW_S = 10.0
"""Seconds after which the count of a line is printed and it counts as new."""

MAX_LINES = 1000
"""Different lines that are remembered; whoever makes more of them has them printed."""

Key = tuple[str, int, str, str]


class RepeatedLines(logging.Filter):
    """Lets each line pass a few times in a window, and says later how often it came besides."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self.seen: dict[Key, list[float]] = {}
        """By line: when it came first, and how often."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is printed; what is not a warning always is."""
        if record.levelno < logging.WARNING or getattr(record, "is_count", False):
            return True
        error = record.exc_info[1] if record.exc_info else None
        key = (record.name, record.levelno, record.getMessage(), repr(error) if error else "")
        found = self.seen.get(key)
        if found is None:
            if len(self.seen) < MAX_LINES:
                self.seen[key] = [self.clock(), 1]
            return True
        found[1] += 1
        return found[1] <= SHOWN

    def log_counts(self) -> None:
        """Print the counts of the windows that are over."""
        now = self.clock()
        for key, (since, count) in list(self.seen.items()):
            if now - since < WINDOW_S:
                continue
            del self.seen[key]
            name, level, message, error = key
            if count > SHOWN:
                line = f"{message} {error}".strip() + f" (repeated {count - SHOWN} times in {now - since:.0f} s)"
                logging.getLogger(name).log(level, "%s", line, extra={"is_count": True})


class CountedLog(Addon):
    """Puts the filter before whatever prints the log."""

    name = "counted_log"

    lines: ClassVar[RepeatedLines] = RepeatedLines()
    task: ClassVar[asyncio.Task[None] | None] = None

    def running(self) -> None:
        """Filter what is printed from now on."""
        super().running()
        for handler in logging.getLogger().handlers:
            if self.lines not in handler.filters:
                handler.addFilter(self.lines)
        if CountedLog.task is None:
            CountedLog.task = asyncio.get_running_loop().create_task(self.log_counts())

    async def log_counts(self) -> None:
        """Print counts, again and again."""
        while True:
            await asyncio.sleep(WINDOW_S / 4)
            self.lines.log_counts()


addons = [CountedLog()]
