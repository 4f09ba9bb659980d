"""Count tokens while calls run: in a child process, started by the first text and ended when none has come for a while.

A thread would not do: building an encoding takes some 300 ms in which it does not give back Python's global lock, so every
call in flight would wait. The child also keeps the 90 MB of an encoding out of the gateway, and a text that breaks the
encoder breaks only the child.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from sluicegate.tokenizers.encodings import with_whole_characters

logger = logging.getLogger("sluicegate")

DEADLINE_S = 10.0
"""Seconds a count may take, with the child's start and the texts before it; the call's end waits for it."""

IDLE_S = 300.0
"""Seconds without a text after which the child ends."""

RETRY_AFTER_S = 60.0
"""Seconds after a failure in which no count is tried."""

MAX_WAITING_CHARS = 64 << 20
"""Characters that may wait to be counted, all texts together."""

_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
"""What the child gets of our environment: provider keys may be in the rest of it."""

_RUN = "import sys; sys.path[:] = sys.argv[1:]; from sluicegate.tokenizers.worker import main; main()"


def child_command() -> list[str]:
    """Return the command of a child process that imports what this process can import, and nothing else."""
    return [sys.executable, "-I", "-c", _RUN, *sys.path]


class _Job(NamedTuple):
    text: str
    encoding: str
    answer: Future[int]


class _ChildError(Exception):
    """The child could not be started, ended early, or could not count a text."""


class TokenCounter:
    """Counts texts one after the other in a child process that a thread of its own talks to. Safe in one event loop."""

    def __init__(
        self,
        command: Callable[[], Sequence[str]] = child_command,
        *,
        idle_s: float = IDLE_S,
        deadline_s: float = DEADLINE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``command`` starts the child; ``clock`` returns seconds."""
        self.counted = self.failed = 0
        """Texts that have been counted, and texts that could not be."""
        self._command, self._clock = command, clock
        self._idle_s, self._deadline_s = idle_s, deadline_s
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._waiting_chars = 0
        self._retry_at = 0.0
        self._closed = False

    @property
    def is_busy(self) -> bool:
        """Return whether a text is being counted or waits for it."""
        return self._waiting_chars > 0

    async def count(self, text: str, encoding: str) -> int | None:
        """Return how many tokens a text is; None if that cannot be found out in time, which is logged once."""
        if not text:
            return 0
        if self._closed or self._clock() < self._retry_at or self._waiting_chars + len(text) > MAX_WAITING_CHARS:
            self.failed += 1
            return None
        job = _Job(text, encoding, Future())
        self._waiting_chars += len(text)
        try:
            self._submit(job)
            counted = await asyncio.wait_for(asyncio.wrap_future(job.answer), self._deadline_s)
        except (TimeoutError, _ChildError) as e:
            if isinstance(e, TimeoutError) and not job.answer.cancelled():
                self._kill_child()
            self._failed(e if isinstance(e, _ChildError) else f"it took longer than {self._deadline_s:g} s")
            return None
        finally:
            self._waiting_chars -= len(text)
        self.counted += 1
        self._retry_at = 0.0
        return counted

    def close(self) -> None:
        """End the child; texts that wait are not counted."""
        self._closed = True
        self._jobs.put(None)
        self._kill_child()
        if (thread := self._thread) is not None:
            thread.join(2.0)

    def _failed(self, why: object) -> None:
        self.failed += 1
        if self._retry_at == 0.0:
            logger.warning("Tokens cannot be counted (%s); output without reported usage is estimated by its characters", why)
        self._retry_at = self._clock() + RETRY_AFTER_S

    def _submit(self, job: _Job) -> None:
        with self._lock:
            self._jobs.put(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sluicegate-tokens", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        """Count one text after the other until none has come for a while."""
        while True:
            try:
                job = self._jobs.get(timeout=self._idle_s)
            except queue.Empty:
                with self._lock:
                    if not self._jobs.empty():
                        continue
                    self._thread = None
                    child, self._child = self._child, None
                break
            if job is None:
                child, self._child = self._child, None
                break
            if job.answer.set_running_or_notify_cancel():
                try:
                    job.answer.set_result(self._ask(job))
                except (_ChildError, OSError, ValueError) as e:
                    self._kill_child()
                    child, self._child = self._child, None
                    if child is not None:
                        _end(child)
                    job.answer.set_exception(_ChildError(str(e) or type(e).__name__))
        if child is not None:
            _end(child)

    def _ask(self, job: _Job) -> int:
        child = self._child
        if child is None or child.poll() is not None:
            child = self._child = self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        data = with_whole_characters(job.text).encode()
        child.stdin.write(b"%b %d\n" % (job.encoding.encode(), len(data)))
        child.stdin.write(data)
        child.stdin.flush()
        answer = child.stdout.readline().decode("utf-8", "replace").strip()
        if not answer.isdigit():
            raise _ChildError(answer.removeprefix("error ") or "the process that counts has ended")
        return int(answer)

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {name: value for name in _ENVIRONMENT if (value := os.environ.get(name)) is not None}
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        # In a session of its own: Ctrl-C in the gateway's terminal is for the gateway, which lets its calls end first.
        return subprocess.Popen(
            self._command(), stdin=pipe, stdout=pipe, stderr=nowhere, env=environment, cwd="/", start_new_session=True
        )

    def _kill_child(self) -> None:
        child = self._child
        if child is not None:
            child.kill()


def _end(child: subprocess.Popen[bytes]) -> None:
    """Let a child end by itself, which it does at the end of its input, and reap it."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                pass
    try:
        child.wait(2.0)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
