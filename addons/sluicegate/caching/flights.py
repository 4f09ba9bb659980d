"""Identical calls that are under way at the same time: the first one asks the provider, the others wait for its answer.

A call waits for a bounded time. Where the first one's client leaves, the next takes its place; where its answer cannot be given to
others, each goes on by itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from sluicegate.caching.entry import Entry

Alone = Literal["alone"]
"""Said of an answer that is not for others: each call asks for its own."""

Landed = Entry | Alone | None
"""What came of a flight: an answer, none for others, or nothing because its call ended early."""

MAX_WAIT_S = 120.0
"""How long a call waits for another's answer before it asks for its own."""


@dataclass(eq=False, slots=True)
class Flight:
    """One call that has asked the provider, for whoever waits for its answer."""

    key: bytes
    landed: asyncio.Future[Landed]


class Flights:
    """The flights under way, by key. Used in the event loop only."""

    def __init__(self) -> None:
        self.under_way: dict[bytes, Flight] = {}
        self.max_wait_s = MAX_WAIT_S
        self.waiting = 0
        """Calls that wait for another's answer."""

    def begin(self, key: bytes) -> Flight | None:
        """Return a new flight that the caller leads; None if one with this key is under way."""
        if key in self.under_way:
            return None
        flight = self.under_way[key] = Flight(key, asyncio.get_running_loop().create_future())
        return flight

    async def wait(self, key: bytes, seconds: float) -> Landed:
        """Return what came of the flight with this key: ``alone`` where it takes too long, None where there is none any more."""
        flight = self.under_way.get(key)
        if flight is None:
            return None
        self.waiting += 1
        try:
            # Whoever stops waiting does not end it for the others.
            return await asyncio.wait_for(asyncio.shield(flight.landed), seconds)
        except TimeoutError:
            self._forget(flight)
            return "alone"
        finally:
            self.waiting -= 1

    def land(self, flight: Flight, found: Landed) -> None:
        """End a flight; the first word on it stands."""
        self._forget(flight)
        if not flight.landed.done():
            flight.landed.set_result(found)

    def _forget(self, flight: Flight) -> None:
        if self.under_way.get(flight.key) is flight:
            del self.under_way[flight.key]
