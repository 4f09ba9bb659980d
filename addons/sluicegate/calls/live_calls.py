"""Live: the calls that are running at this moment, for whoever is looking.

Everything happens in the gateway's own loop. Nobody looking costs a call one entry in a dictionary.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

from sluicegate.calls.call import Call
from sluicegate.calls.record import Record, record_of

BACKLOG = 1000
"""Happenings kept for a looker that does not keep up; beyond that it misses some and is told how many."""


class Happening(NamedTuple):
    """``began`` and ``ended`` carry a call's record, complete only at its end; ``missed`` how many were not told."""

    what: str
    record: Record


class Live:
    """Who is calling now. ``running`` is by call id, in order of beginning."""

    def __init__(self) -> None:
        self.running: dict[str, Call] = {}
        self._lookers: set[_Looker] = set()
        self._over = False

    @property
    def lookers(self) -> int:
        """How many are looking."""
        return len(self._lookers)

    def end(self) -> None:
        """Let everybody who looks go, and nobody look any more: the gateway stops."""
        self._over = True
        for looker in self._lookers:
            looker.wake()

    def began(self, call: Call) -> None:
        """A call has been admitted."""
        self.running[call.id] = call
        if self._lookers:
            self._tell(Happening("began", now_of(call)))

    def ended(self, call: Call, record: Record) -> None:
        """A call is on record, whether it ever ran or was refused."""
        self.running.pop(call.id, None)
        if self._lookers:
            self._tell(Happening("ended", record))

    def _tell(self, happening: Happening) -> None:
        for looker in self._lookers:
            looker.tell(happening)

    async def look(self, virtual_key_id: str | None = None, pulse: float = 15.0) -> AsyncGenerator[Happening | None]:
        """What is running, then what happens, until the caller stops asking or ``end``.

        None when nothing has happened for ``pulse`` seconds. With a key, only its calls.
        """
        looker = _Looker(virtual_key_id)
        for call in self.running.values():
            looker.tell(Happening("began", now_of(call)))
        self._lookers.add(looker)
        try:
            while not self._over:
                try:
                    happening = await asyncio.wait_for(looker.next(), pulse)
                except TimeoutError:
                    happening = None
                if not self._over:
                    yield happening
        finally:
            self._lookers.discard(looker)


def now_of(call: Call) -> Record:
    """A running call's record as far as it is known: no end, no cost."""
    unknown: dict[str, Any] = {"latency_ms": None, "status": None, "outcome": None, "cost_usd": None, "cost_nano": None}
    return record_of(call, call.started_at) | unknown


class _Looker:
    def __init__(self, virtual_key_id: str | None) -> None:
        self._only = virtual_key_id
        self._queue: asyncio.Queue[Happening | None] = asyncio.Queue(BACKLOG)
        self._missed = 0

    def tell(self, happening: Happening) -> None:
        if self._only is not None and happening.record["virtual_key_id"] != self._only:
            return
        try:
            self._queue.put_nowait(happening)
        except asyncio.QueueFull:
            self._missed += 1

    def wake(self) -> None:
        """Let ``next`` return, with nothing."""
        if self._queue.empty():
            self._queue.put_nowait(None)

    async def next(self) -> Happening | None:
        if self._missed and self._queue.empty():
            missed, self._missed = self._missed, 0
            return Happening("missed", {"calls": missed})
        return await self._queue.get()
