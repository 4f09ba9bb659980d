"""Forwards what clients send to the policy's collector, in a thread: what it does not take in time is dropped and counted."""

from __future__ import annotations

import gzip
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from sluicegate.http_client import exchange
from sluicegate.http_client.errors import UnreachableError
from sluicegate.policy.client_telemetry import TIMEOUT_S, Collector
from sluicegate.policy.client_telemetry_schema import ClientSignal

logger = logging.getLogger("sluicegate")

MAX_QUEUED, MAX_QUEUED_BYTES = 500, 8 << 20
"""Requests that wait to be forwarded, and their bytes."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Pauses after failures, which double."""

MAX_ANSWER_BYTES = 64 << 10

FLUSH_S = 3.0
"""Longest time that the end of the gateway waits for what is left to be forwarded."""

_RETRIED = frozenset({429, 502, 503, 504})
"""Statuses after which OTLP wants a request sent again; what any other refuses would be refused again."""


class Item(NamedTuple):
    """One request to be forwarded."""

    signal: ClientSignal
    body: bytes
    """Its JSON, under the identity that its sender's credential says."""


class Forwarder:
    """Queues requests and posts them, one after another."""

    def __init__(self, collector: Callable[[], Collector | None], monotonic: Callable[[], float] = time.monotonic) -> None:
        """``collector`` returns the collector in force; ``monotonic`` returns seconds."""
        self.counts: dict[tuple[ClientSignal, str], int] = {}
        """Requests by signal and by what became of them: ``sent``, ``refused`` or ``dropped``."""
        self._collector, self._monotonic = collector, monotonic
        self._queue: deque[Item] = deque()
        self._size, self._failures, self._paused_until = 0, 0, 0.0
        self._under_way: Item | None = None
        self._lock, self._wake, self._closing = threading.Lock(), threading.Event(), False
        self._thread: threading.Thread | None = None

    def takes(self, signal: ClientSignal) -> bool:
        """Return whether a signal is forwarded."""
        collector = self._collector()
        return collector is not None and signal in collector.signals

    def add(self, item: Item) -> None:
        """Queue a request. Returns at once."""
        with self._lock:
            if self._closing or len(self._queue) >= MAX_QUEUED or self._size + len(item.body) > MAX_QUEUED_BYTES:
                self._count(item.signal, "dropped")
                return
            self._queue.append(item)
            self._size += len(item.body)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sluicegate-client-telemetry-forward", daemon=True)
                self._thread.start()
        self._wake.set()

    def close(self) -> None:
        """Forward what is left, for at most FLUSH_S, and count the rest as dropped."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(FLUSH_S + 1)
        for item in [*([self._under_way] if self._under_way else []), *self._queue]:
            self._count(item.signal, "dropped")

    def _count(self, signal: ClientSignal, result: str) -> None:
        self.counts[signal, result] = self.counts.get((signal, result), 0) + 1

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(1.0)
            self._wake.clear()
            self.step()
        end = self._monotonic() + FLUSH_S
        self._paused_until = 0.0
        self.step(end)

    def step(self, end: float | None = None) -> None:
        """Forward what is queued, until a failure asks for a pause or the time ``end`` has come. Never raises."""
        while self._under_way or self._queue:
            now = self._monotonic()
            if now < self._paused_until or (end is not None and now >= end):
                return
            try:
                self._forward_next(None if end is None else max(0.1, end - now))
            except Exception:
                logger.exception("What a client has sent cannot be forwarded; calls are not affected")
                self._finish("dropped")

    def _forward_next(self, longest_s: float | None) -> None:
        collector = self._collector()
        if self._under_way is None:
            with self._lock:
                self._under_way = self._queue.popleft()
                self._size -= len(self._under_way.body)
        item, body = self._under_way, self._under_way.body
        if collector is None or item.signal not in collector.signals:
            self._finish("dropped")
            return
        headers = {"content-type": "application/json", **collector.headers}
        if collector.is_compressed:
            body, headers["content-encoding"] = gzip.compress(body, 5), "gzip"
        timeout_s = TIMEOUT_S if longest_s is None else min(TIMEOUT_S, longest_s)
        try:
            answer = exchange.request(
                "POST",
                collector.url(item.signal),
                headers=headers,
                body=body,
                timeout_s=timeout_s,
                max_bytes=MAX_ANSWER_BYTES,
                needs_body=False,
            )
        except UnreachableError as e:
            self._pause(f"it cannot be reached ({e})")
            return
        if answer.status in _RETRIED:
            self._pause(f"it answered {answer.status}")
        elif 200 <= answer.status < 300:
            self._failures = 0
            self._finish("sent")
        else:
            self._warn(f"it answered {answer.status}, and what it was sent is dropped")
            self._finish("refused")

    def _finish(self, result: str) -> None:
        if self._under_way is not None:
            self._count(self._under_way.signal, result)
        self._under_way = None

    def _pause(self, why: str) -> None:
        pause_s = min(FIRST_PAUSE_S * 2 ** min(self._failures, 16), LONGEST_PAUSE_S)
        self._paused_until = self._monotonic() + pause_s * random.uniform(0.5, 1)  # noqa: S311
        self._warn(f"{why}; it will be sent again")

    def _warn(self, why: str) -> None:
        """Log the first of several failures in a row."""
        if not self._failures:
            logger.warning("client_telemetry: the collector did not take what clients have sent: %s", why)
        self._failures += 1
