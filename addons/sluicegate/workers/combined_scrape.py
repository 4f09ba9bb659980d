"""One scrape of all workers: whichever is asked asks the others, and answers with the sum; so with what their caches did.

A worker that has ended takes its counts along. To Prometheus a sum that falls is a restart, and all of it a new increase; so a
file remembers what the last scrape was told of each worker, and what has ended goes on counting. A worker that does not
answer counts as it did then.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from sluicegate.atomic_write import locked, write_private
from sluicegate.background import low_priority, paced
from sluicegate.workers.metric_sums import Counts, counters_of, summed
from sluicegate.workers.sockets import address_of, listener_at, numbers_of
from sluicegate.workers.worker import metrics_memory

logger = logging.getLogger("sluicegate")

SOCKET = "metrics.sock"

TIMEOUT_S = 3.0
"""How long a worker may take to answer another."""

WORK_TIMEOUT_S = 0.5
"""The same for what is under way: a worker that hangs must not hold up a health check."""

PUBLIC, ALL, CACHE, WORK = b"public\n", b"all\n", b"cache\n", b"work\n"
"""What is asked for: metrics without names, metrics with them, what the caches did, or what is under way."""


class Scrape:
    """A worker's part."""

    def __init__(
        self,
        number: int,
        state_dir: Path,
        render: Callable[[bool], bytes],
        cache_counts: Callable[[], Mapping[str, int]],
        work: Callable[[], Mapping[str, Any]],
    ) -> None:
        """``render`` returns the worker's own text; with True without what belongs to one key or user. Blocking.

        ``cache_counts`` returns what its caches did, ``work`` what it has under way.
        """
        self._own_work = work
        self._number, self._state_dir, self._render, self._cache_counts = number, state_dir, render, cache_counts
        self._token = secrets.token_hex(8)
        """Which start of the worker this is."""
        self._listener: socket.socket | None = None

    def start(self) -> None:
        """Answer the other workers from now on, in a thread."""
        if self._listener is not None:
            return
        try:
            listener = listener_at(self._state_dir, self._number, SOCKET)
        except OSError as e:
            # Other workers do without this one's figures; calls do not depend on it.
            logger.warning("The figures of worker %d will be missing from others' metrics: %s", self._number, e)
            return
        listener.listen(8)
        self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), name="sluicegate-scrape", daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        if self._listener is not None:
            self._listener.close()

    def render(self, public: bool = False) -> bytes:
        """Return the text of all workers. Blocking."""
        kind = PUBLIC if public else ALL
        with self._memory(public) as memory:
            # Asked in here: what another scrape notes later was told later, so a worker's end is counted once.
            own = self._render(public)
            others = {n: text for n in self._others() if (text := self._ask(n, kind)) is not None}
            return summed_with_past(memory, (self._number, self._token, own), others)

    def cache_counts(self) -> dict[str, int]:
        """Return what the caches of all workers that run did since each of them started. Blocking."""
        found = dict(self._cache_counts())
        for number in self._others():
            _, text = self._ask(number, CACHE) or ("", b"")
            try:
                answer = orjson.loads(text)
            except ValueError:
                # One that has just ended, or is of a version that knows only metrics.
                continue
            found = {name: count + answer.get(name, 0) for name, count in found.items()}
        return found

    def work(self) -> dict[int, dict[str, Any]]:
        """Return what every worker that answers at once has under way, by its number. Blocking, for a moment."""
        found = {self._number: dict(self._own_work())}
        for number in self._others():
            _, text = self._ask(number, WORK, WORK_TIMEOUT_S) or ("", b"")
            with contextlib.suppress(ValueError):
                found[number] = orjson.loads(text)
        return dict(sorted(found.items()))

    def _others(self) -> list[int]:
        return numbers_of(self._state_dir, SOCKET, except_for=self._number)

    def _ask(self, number: int, kind: bytes, timeout_s: float = TIMEOUT_S) -> tuple[str, bytes] | None:
        """Return another worker's token and text; None where it does not answer."""
        try:
            with (
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as to_worker,
                address_of(self._state_dir, number, SOCKET) as address,
            ):
                to_worker.settimeout(timeout_s)
                to_worker.connect(address)
                to_worker.sendall(kind)
                data = bytearray()
                while piece := to_worker.recv(1 << 20):
                    data += piece
        except OSError:
            return None
        token, _, text = bytes(data).partition(b"\n")
        return (token.decode("ascii", "replace"), text) if text else None

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                asker, _ = listener.accept()
            except OSError:
                return
            with asker:
                try:
                    asker.settimeout(TIMEOUT_S)
                    kind = asker.recv(16)
                    counts = {CACHE: self._cache_counts, WORK: self._own_work}.get(kind)
                    text = self._render(kind == PUBLIC) if counts is None else orjson.dumps(counts())
                    asker.sendall(self._token.encode() + b"\n" + text)
                except OSError:
                    continue
                except Exception:
                    logger.exception("Another worker's scrape was not answered")

    @contextmanager
    def _memory(self, public: bool) -> Iterator[dict[str, Any]]:
        """Provide what scrapes have been told, and write it back; one scrape at a time."""
        file = metrics_memory(self._state_dir)[public]
        with locked(file.with_suffix(".lock")):
            try:
                memory = orjson.loads(file.read_bytes())
            except (OSError, ValueError):
                memory = {}
            yield memory
            try:
                with low_priority():
                    write_private(file, orjson.dumps(memory))
            except OSError as e:
                # A full disk is what the figures are asked for. The next sum may be less by what a worker has counted since.
                logger.warning("What metrics have told cannot be noted in %s: %s", file, e.strerror)


def summed_with_past(memory: dict[str, Any], own: tuple[int, str, bytes], others: Mapping[int, tuple[str, bytes]]) -> bytes:
    """Return the sum of all workers, those that have ended included, and note in ``memory`` what it was told."""
    number, token, text = own
    past: Counts = memory.setdefault("past", {})
    last: dict[str, Any] = memory.setdefault("last", {})
    present = {str(number): (token, text), **{str(n): answer for n, answer in others.items()}}
    for name, (its_token, its_text) in present.items():
        known = last.get(name)
        if known is not None and known[0] != its_token:
            for series, value in paced(known[1].items()):
                past[series] = past.get(series, 0.0) + value
        last[name] = [its_token, counters_of(its_text)]
    silent = [answer[1] for name, answer in last.items() if name not in present]
    return summed(text, [its_text for _, its_text in others.values()], [past, *silent], len(present))
