"""Printer: call lines are made and written in a thread, so that no call waits for whoever reads the gateway's output."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import IO, Any

from sluicegate.console.lines import Format, call_as_json, call_as_text, message_as_json, message_as_text

MAX_WAITING = 10_000
"""Calls whose lines wait to be printed; while the output is not read, those beyond are counted and not printed."""

BATCH_S = 0.05
"""Time for which lines are collected before they are written together: a write costs as much as a line."""

CLOSE_S = 2.0
"""Longest time that the end waits for somebody to read the output."""

WARNING = 30


class Printer:
    """Prints a line for each call, in the format and to the stream that are set. Nothing until ``is_on``."""

    def __init__(self, stream: Callable[[], IO[str]] = lambda: sys.stdout, clock: Callable[[], int] | None = None) -> None:
        """``clock`` returns epoch milliseconds."""
        self.is_on = False
        self.format: Format = "text"
        self._stream = stream
        self._clock = clock or (lambda: time.time_ns() // 1_000_000)
        self._waiting: deque[tuple[int, Mapping[str, Any]]] = deque()
        self._dropped = 0
        self._new = threading.Event()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def call(self, record: Mapping[str, Any]) -> None:
        """Print a call that has ended. Returns at once."""
        if not self.is_on or self._is_closed:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._dropped += 1
            return
        self._waiting.append((self._clock(), record))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="call lines", daemon=True)
            self._thread.start()
        if not self._new.is_set():
            self._new.set()

    def close(self) -> None:
        """Print what waits, then nothing any more."""
        self._is_closed = True
        self._new.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._is_closed:
            self._new.wait()
            if not self._is_closed:
                time.sleep(BATCH_S)
            self._new.clear()
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        """Write what has come, in one piece."""
        as_json, lines = self.format == "json", []
        line_of = call_as_json if as_json else call_as_text
        # Counted before: what comes meanwhile has its own turn.
        for _ in range(len(self._waiting)):
            lines.append(line_of(*self._waiting.popleft()))
        if self._dropped:
            count, self._dropped = self._dropped, 0
            why = f"The lines of {count} calls were not printed, because the output was read too slowly; audit.jsonl has them"
            now = self._clock()
            lines.append(message_as_json(now, WARNING, why) if as_json else message_as_text(now, WARNING, why))
        if lines:
            write_line(self._stream(), "\n".join(lines))


def write_line(stream: IO[str], text: str) -> None:
    """Write text and the end of its line in one piece, since other threads write too. An output that is closed is left alone."""
    with contextlib.suppress(OSError, ValueError):
        stream.write(text + "\n")
        stream.flush()
