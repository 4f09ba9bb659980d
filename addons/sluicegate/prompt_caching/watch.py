"""Examine calls after they have ended, in a thread: a call waits for nothing, and what comes too fast is left out and counted."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import get_args

from sluicegate.background import PAUSE_S, PeriodicThread
from sluicegate.prompt_caching.examination import Examiner
from sluicegate.prompt_caching.finding import Cause, Finding
from sluicegate.prompt_caching.seen import Seen
from sluicegate.prompt_caching.store import ROWS_PER_STEP, CacheFile, Observation

logger = logging.getLogger("sluicegate")

MAX_QUEUED, MAX_QUEUED_BYTES = 2_000, 32 << 20
"""Calls that may wait to be examined, and the bytes of their bodies; those that have waited longest are left out."""

CPU_SHARE, MAX_BURST_S = 0.05, 0.25
"""Share of one core's time that the thread may take, and seconds that it may save up for a burst of calls.

It holds the interpreter's lock while it reads, so whatever it takes, calls wait for.
"""

INTERVAL_S = 0.5
"""How long a call may wait to be examined. Waking a thread for each would cost a call more than all the rest of its hook."""

TRIM_CALLS = 200
"""Examined calls after which old prompts are deleted."""


class PromptWatch:
    """Queues calls for an examiner: ``see`` returns at once, a thread examines what has come every half second."""

    def __init__(self, file: CacheFile, cpu_s: Callable[[], float] = time.thread_time) -> None:
        """``cpu_s`` returns the processor seconds that the present thread has taken."""
        self.file = file
        self.lost: dict[str, tuple[int, int]] = {cause: (0, 0) for cause in get_args(Cause)}
        """By cause the calls that paid again since the start, and what that has cost, nano-dollars."""
        self._cpu_s, self._left_s = cpu_s, MAX_BURST_S
        self._examiner: Examiner | None = None
        self._queue: deque[tuple[int, Callable[[], Seen | None]]] = deque()
        # Each is written by one thread alone, so that a call's hook needs no lock.
        self._size_in, self._size_out, self._left_out, self._failed = 0, 0, 0, 0
        self._working = threading.Lock()
        self._thread = PeriodicThread("sluicegate-prompt-caching", INTERVAL_S, self.step)
        self._is_running, self._closed, self._has_failed = False, False, False
        self._examined = 0

    @property
    def dropped(self) -> int:
        """Return how many calls were not examined, because too many were waiting or the file could not be used."""
        return self._left_out + self._failed

    def see(self, size: int, read: Callable[[], Seen | None]) -> None:
        """Queue an ended call with a body of so many bytes; ``read`` returns it, in the thread. Only for the proxy's thread."""
        if self._closed or size > MAX_QUEUED_BYTES:
            self._left_out += 1
            return
        queue = self._queue
        queue.append((size, read))
        self._size_in += size
        while len(queue) > MAX_QUEUED or self._size_in - self._size_out > MAX_QUEUED_BYTES:
            self._leave_out()
        if not self._is_running:
            self._is_running = True
            self._thread.start()

    def step(self) -> None:
        """Examine what is queued, as far as the thread's share of the processor goes, and write what is known by then."""
        with self._working:
            self._left_s = min(MAX_BURST_S, self._left_s + INTERVAL_S * CPU_SHARE)
            while self._left_s > 0 and self._queue:
                began = self._cpu_s()
                self._examine_next()
                self._left_s -= self._cpu_s() - began
                # Otherwise the calls of a busy second would hold the interpreter for as long as all of them take.
                time.sleep(PAUSE_S)
            if self.file.has_unwritten:
                began = self._cpu_s()
                self._guarded(self.file.flush)
                self._left_s -= self._cpu_s() - began

    def wait(self) -> None:
        """Examine all that is queued, and write it."""
        with self._working:
            while self._queue:
                self._examine_next()
                time.sleep(PAUSE_S)
            self._guarded(self.file.flush)

    def _leave_out(self) -> None:
        """Take the oldest call out of the queue, which leaves an older one of its conversation to compare with."""
        try:
            size, _ = self._queue.popleft()
        except IndexError:
            return
        self._size_in -= size
        self._left_out += 1

    def _examine_next(self) -> None:
        try:
            size, read = self._queue.popleft()
        except IndexError:
            # The hook has left it out.
            return
        self._size_out += size
        self._guarded(partial(self._examine, read))

    def delete_before(self, at: int) -> None:
        """Delete findings and sums from before a time, epoch milliseconds, some at a time."""
        try:
            while self.file.delete_before(at) >= ROWS_PER_STEP:
                pass
        except (sqlite3.Error, OSError) as e:
            logger.warning("Old findings about prompt caching cannot be deleted: %s", e)

    def erase(self, user_id: str, pseudonym: str, keys: Mapping[str, str]) -> None:
        """Take a person out of what is kept. Raises OSError or sqlite3.Error."""
        self.wait()
        with self._working:
            self.file.erase(user_id, pseudonym, keys)
            if self._examiner is not None:
                self._examiner.forget()

    def close(self) -> None:
        """Examine what is waiting, write it and close the file."""
        self._closed = True
        self._thread.stop()
        self.wait()
        with self._working:
            self._guarded(self.file.close)

    def _guarded(self, work: Callable[[], object]) -> None:
        """Do some work whose failure no call and no other work may suffer from."""
        try:
            work()
        except (sqlite3.Error, OSError) as e:
            self._fail(e)
        except Exception:
            logger.exception("A call's prompt cannot be examined")

    def _examine(self, read: Callable[[], Seen | None]) -> None:
        seen = read()
        if seen is None:
            return
        if self._examiner is None:
            self._examiner = Examiner(self.file.key(), self.file)
        finding = self._examiner.examine(seen)
        usage = seen.usage
        written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
        self.file.observe(Observation(seen.started_at, seen.session, usage.input_tokens, usage.cache_read_tokens, written, finding))
        if finding is not None:
            self._count(finding)
        self._examined += 1
        if not self._examined % TRIM_CALLS:
            self.file.flush()
            self.file.trim(seen.started_at)

    def _count(self, finding: Finding) -> None:
        calls, nano = self.lost[finding.found.cause]
        self.lost[finding.found.cause] = calls + 1, nano + finding.lost_nano

    def _fail(self, error: Exception) -> None:
        self._failed += 1
        if not self._has_failed:
            logger.warning("Prompt caching cannot be examined (%s); calls go on", error)
        self._has_failed = True
