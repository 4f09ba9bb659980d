"""Compares what clients report with our records, in a thread: nobody who reports, and no call, waits for it."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from sluicegate.background import PAUSE_S, PeriodicThread
from sluicegate.client_telemetry.report_file import Own, ReportFile
from sluicegate.client_telemetry.reports import NONE, Figures, Report, plus

logger = logging.getLogger("sluicegate")

MAX_QUEUED, MAX_QUEUED_REPORTS = 1_000, 20_000
"""Requests that may wait to be compared, and the reports in them; others are left out and counted."""

INTERVAL_S = 0.5

END_S = 3.0
"""Longest time that the end of the gateway waits for what is left to be compared."""

DELAY_MS = 3_000
"""How long a report waits, for the records that workers pass on to each other; calls that ended after it came don't count."""

MAX_SESSIONS = 20
"""Sessions of one request that are compared: a client reports its own, and that of each window on the machine."""

MAX_MODELS, OTHER_MODELS = 200, "other"
"""Models that have series of their own, and what the others count as. They are models of calls on record."""


class Records(Protocol):
    """Our records."""

    def __call__(self, session_id: str, key_id: str, until: int) -> Own:
        """Return what a key's calls in a session have used and cost, by the model in the client's words. Blocking.

        Counts only calls that had ended by ``until``, epoch milliseconds.
        """


class Batch(NamedTuple):
    """What one request reports, under the key it came with."""

    key_id: str
    digest: bytes
    reports: list[Report]
    at: int
    """When it came, epoch milliseconds."""


class Comparison:
    """Queues what is reported and adds it up; counts since the start."""

    def __init__(
        self,
        file: ReportFile,
        records: Records,
        clock: Callable[[], int],
        spend: Callable[[str, float], None] = lambda _key, _seconds: None,
        cpu_s: Callable[[], float] = time.thread_time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock`` returns epoch milliseconds; ``spend`` takes the processor seconds that a key's report took, by ``cpu_s``.

        ``monotonic`` returns seconds.
        """
        self.file = file
        self.by_client: dict[tuple[str, str], Figures] = {}
        self.by_gateway: dict[tuple[str, str], Figures] = {}
        """By model and source, what clients have reported and what our records say of the same sessions."""
        self.matched = self.unmatched = self.repeated = self.dropped = 0
        """Reports by what became of them: compared, of calls that we have no record of, sent a second time, not compared."""
        self._records, self._clock, self._spend, self._cpu_s, self._monotonic = records, clock, spend, cpu_s, monotonic
        self._queue: deque[Batch] = deque()
        self._queued = 0
        self._lock, self._working = threading.Lock(), threading.Lock()
        self._thread = PeriodicThread("sluicegate-client-telemetry", INTERVAL_S, self.step)
        self._has_failed = False

    def add(self, batch: Batch) -> None:
        """Queue what a request reports."""
        size = len(batch.reports)
        with self._lock:
            if len(self._queue) >= MAX_QUEUED or self._queued + size > MAX_QUEUED_REPORTS:
                self.dropped += size
                return
            self._queue.append(batch)
            self._queued += size
            # Started with the first report, so that a gateway without any has no such thread.
            self._thread.start()

    def step(self, *, is_last: bool = False) -> None:
        """Compare what has waited long enough, or all of it for which there is time. Never raises."""
        with self._working:
            end = self._monotonic() + END_S
            while self._queue and (is_last or self._queue[0].at + DELAY_MS <= self._clock()):
                with self._lock:
                    batch = self._queue.popleft()
                    self._queued -= len(batch.reports)
                if is_last and self._monotonic() >= end:
                    self.dropped += len(batch.reports)
                    continue
                began = self._cpu_s()
                try:
                    self._compare(batch)
                except (sqlite3.Error, OSError, RuntimeError) as e:
                    self._leave_out(batch, e)
                except Exception:
                    logger.exception("A client's report cannot be compared; calls are not affected")
                    self.dropped += len(batch.reports)
                self._spend(batch.key_id, self._cpu_s() - began)

    def _leave_out(self, batch: Batch, error: Exception) -> None:
        self.dropped += len(batch.reports)
        if not self._has_failed:
            logger.warning("What clients report cannot be compared (%s); calls go on", error)
        self._has_failed = True

    def _compare(self, batch: Batch) -> None:
        now = self._clock()
        if not self.file.is_new(batch.digest, now):
            self.repeated += len(batch.reports)
            return
        by_session: dict[str, list[Report]] = {}
        for report in batch.reports:
            by_session.setdefault(report.session_id, []).append(report)
        for number, (session_id, reports) in enumerate(by_session.items()):
            time.sleep(PAUSE_S)
            own = self._records(session_id, batch.key_id, batch.at) if number < MAX_SESSIONS else {}
            known = [report for report in reports if report.model in own]
            self.unmatched += len(reports) - len(known)
            self.matched += len(known)
            for found in self.file.add(batch.key_id, session_id, known, own, now) if known else ():
                self._count(found.model, found.source, found.by_client, found.by_gateway)

    def _count(self, model: str, source: str, by_client: Figures, by_gateway: Figures) -> None:
        name = (model, source)
        if name not in self.by_client and len({m for m, _ in self.by_client}) >= MAX_MODELS:
            name = (OTHER_MODELS, source)
        self.by_client[name] = plus(self.by_client.get(name, NONE), by_client)
        self.by_gateway[name] = plus(self.by_gateway.get(name, NONE), by_gateway)

    def close(self) -> None:
        """Compare what is queued, and close the file."""
        self._thread.stop()
        self.step(is_last=True)
        with self._working:
            self.file.close()
