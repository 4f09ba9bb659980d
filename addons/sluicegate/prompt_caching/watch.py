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

MAX_QUEUED_BYTES = 64 << 20
"""Bytes of bodies that may wait to be examined."""

INTERVAL_S = 0.5
"""How long a call may wait to be examined. Waking a thread for each would cost a call more than all the rest of its hook."""

TRIM_CALLS = 200
"""Examined calls after which old prompts are deleted."""


class PromptWatch:
    """Queues calls for an examiner: ``see`` returns at once, a thread examines what has come every half second."""

    def __init__(self, file: CacheFile) -> None:
        self.file = file
        self.dropped = 0
        """Calls that were not examined, because too many were waiting or the file could not be used."""
        self.lost: dict[str, tuple[int, int]] = {cause: (0, 0) for cause in get_args(Cause)}
        """By cause the calls that paid again since the start, and what that has cost, nano-dollars."""
        self._examiner: Examiner | None = None
        self._queue: deque[Seen] = deque()
        self._size = 0
        self._counting, self._working = threading.Lock(), threading.Lock()
        self._thread = PeriodicThread("sluicegate-prompt-caching", INTERVAL_S, self.wait)
        self._closed, self._has_failed = False, False
        self._examined = 0

    def see(self, seen: Seen) -> None:
        """Queue an ended call."""
        with self._counting:
            if self._closed or self._size + len(seen.body) > MAX_QUEUED_BYTES:
                self.dropped += 1
                return
            self._queue.append(seen)
            self._size += len(seen.body)
        self._thread.start()

    def wait(self) -> None:
        """Examine what is queued, and write what is known by then."""
        with self._working:
            while self._queue:
                seen = self._queue.popleft()
                with self._counting:
                    self._size -= len(seen.body)
                self._guarded(partial(self._examine, seen))
                # Otherwise the calls of a busy second would hold the interpreter for as long as all of them take.
                time.sleep(PAUSE_S)
            self._guarded(self.file.flush)

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
        with self._counting:
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

    def _examine(self, seen: Seen) -> None:
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
        self.dropped += 1
        if not self._has_failed:
            logger.warning("Prompt caching cannot be examined (%s); calls go on", error)
        self._has_failed = True
