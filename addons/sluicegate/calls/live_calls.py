"""Live calls: those running at this moment, and a stream of what begins and ends for each watcher.

Everything runs in the gateway's own event loop. Without watchers a call costs one dictionary entry.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, NamedTuple

from sluicegate.calls.call import Call
from sluicegate.calls.record import Record, record_of

MAX_QUEUED_EVENTS = 1000
"""Events queued for a watcher that reads too slowly; later ones are dropped and reported to it as a count."""


class LiveEvent(NamedTuple):
    """``began`` and ``ended`` carry the call's record, complete only at the end; ``missed`` carries how many were dropped."""

    kind: str
    record: Record


class LiveCalls:
    """The running calls and their watchers. ``running`` maps call id to call, in order of beginning."""

    def __init__(self) -> None:
        self.running: dict[str, Call] = {}
        self.elsewhere: dict[str, Record] = {}
        """Running calls of other workers, by id, as far as these have been asked."""
        self.on_watched: Callable[[bool], None] = lambda _: None
        """Called when the first who watches the calls of all workers comes, and when the last has left."""
        self._watchers: set[_Watcher] = set()
        self._closed = False

    @property
    def watchers(self) -> int:
        """Return the number of open streams."""
        return sum(watcher.of_all for watcher in self._watchers)

    def close(self) -> None:
        """End every stream and refuse new ones, because the gateway stops; other workers hear of its calls to their end."""
        self._closed = True
        for watcher in self._watchers:
            if watcher.of_all:
                watcher.wake()

    def begin(self, call: Call) -> None:
        """Add a call that has been admitted."""
        self.running[call.id] = call
        if self._watchers:
            self._publish(LiveEvent("began", running_record_of(call)))

    def end(self, call: Call, record: Record) -> None:
        """Remove a call that is on record, whether it ran or was refused."""
        self.running.pop(call.id, None)
        if self._watchers:
            self._publish(LiveEvent("ended", record))

    def begin_elsewhere(self, record: Record) -> None:
        """Add a running call of another worker."""
        self.elsewhere[record["id"]] = record
        self._publish(LiveEvent("began", record), is_own=False)

    def end_elsewhere(self, record: Record) -> None:
        """Remove a call of another worker that is on record, or whose worker has disappeared."""
        self.elsewhere.pop(record["id"], None)
        self._publish(LiveEvent("ended", record), is_own=False)

    def _publish(self, event: LiveEvent, *, is_own: bool = True) -> None:
        for watcher in self._watchers:
            if is_own or watcher.of_all:
                watcher.put(event)

    async def watch(
        self, virtual_key_id: str | None = None, heartbeat_s: float = 15.0, *, of_all: bool = True
    ) -> AsyncGenerator[LiveEvent | None]:
        """Yield the running calls, then each event, until the caller stops or ``close``; with a key, only its calls.

        Yields None when nothing has happened for ``heartbeat_s`` seconds; without ``of_all`` only calls of this process.
        """
        watcher = _Watcher(virtual_key_id, of_all)
        for call in self.running.values():
            watcher.put(LiveEvent("began", running_record_of(call)))
        for record in self.elsewhere.values() if of_all else ():
            watcher.put(LiveEvent("began", record))
        self._watchers.add(watcher)
        if of_all and self.watchers == 1:
            self.on_watched(True)
        try:
            while not (self._closed and of_all):
                try:
                    event = await asyncio.wait_for(watcher.next(), heartbeat_s)
                except TimeoutError:
                    event = None
                if not (self._closed and of_all):
                    yield event
        finally:
            self._watchers.discard(watcher)
            if of_all and not self.watchers:
                self.on_watched(False)


def running_record_of(call: Call) -> Record:
    """Return a running call's record as far as it is known: without an end or a cost."""
    unknown: dict[str, Any] = {"latency_ms": None, "status": None, "outcome": None, "cost_usd": None, "cost_nano": None}
    return record_of(call, call.started_at) | unknown


class _Watcher:
    """The bounded queue of one stream."""

    def __init__(self, virtual_key_id: str | None, of_all: bool) -> None:
        self._only_key, self.of_all = virtual_key_id, of_all
        self._queue: asyncio.Queue[LiveEvent | None] = asyncio.Queue(MAX_QUEUED_EVENTS)
        self._missed = 0

    def put(self, event: LiveEvent) -> None:
        """Queue an event if it concerns this watcher; count it as missed if the queue is full."""
        if self._only_key is not None and event.record["virtual_key_id"] != self._only_key:
            return
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self._missed += 1

    def wake(self) -> None:
        """Let a waiting ``next`` return None."""
        if self._queue.empty():
            self._queue.put_nowait(None)

    async def next(self) -> LiveEvent | None:
        """Return the next event; once the queue is read, the count of those that were dropped."""
        if self._missed and self._queue.empty():
            missed, self._missed = self._missed, 0
            return LiveEvent("missed", {"calls": missed})
        return await self._queue.get()
