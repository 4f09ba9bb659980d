"""The ledger: what every scope has used, what calls in flight have reserved, and the verdict between them.

Every limit, be it money, requests, tokens or concurrent calls, is a *counter*; a call holds a *claim* on each counter
it falls under. ``reserve`` admits a call or names the first exhausted counter, ``settle`` books what it really took,
``release`` gives everything back. One call's claims are opened, raised and closed here and nowhere else, which is what
makes "settled exactly once" a property of this file instead of a hope about its callers.

Decisions are taken on numbers in memory (one gateway owns a state folder), changes are queued for a ``Store`` that
writes them in one transaction. The arithmetic knows no file, no clock and no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sluicegate.policy.model import Limit
from sluicegate.values import LimitCheck, Unit
from sluicegate.windows import window


@dataclass(slots=True)
class Counter:
    """One limit's running numbers in its current window. ``start``/``end`` are epoch ms, ``end`` None never resets."""

    name: str
    anchor: int
    start: int
    end: int | None
    used: int = 0
    reserved: int = 0
    before: tuple[int, int, int] | None = None
    """``(start, end, used)`` of the window before: a clock that ran ahead may come back to it."""


@dataclass(slots=True)
class Claim:
    """One call's hold on one counter, in the window in which it was admitted."""

    counter: str
    unit: Unit
    start: int
    amount: int


@dataclass(slots=True)
class Reservation:
    """All that one call in flight holds. ``number`` counts reservations up: a file takes what is appended fastest."""

    call_id: str
    at: int
    number: int
    claims: list[Claim] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Why ``reserve`` said no: the limit, what is used with everything in flight, and what was asked for."""

    limit: Limit
    used: int
    asked: int
    resets_at: int | None


class Ledger:
    """Counters and open reservations in memory; the sets of names tell the store what to write next."""

    def __init__(self) -> None:
        self.counters: dict[str, Counter] = {}
        self.open: dict[str, Reservation] = {}
        self.dirty_counters: set[str] = set()
        self.dirty_open: set[str] = set()
        self.closed: dict[str, int] = {}
        """Call id to number of the reservations that are over."""
        self.begun: set[str] = set()
        """Counters whose present window is not on file yet."""
        self._number = 0
        self.charged: set[str] = set()
        """Counters that have grown since somebody last looked."""

    def counter(self, limit: Limit, now: int) -> Counter:
        """The limit's counter, rolled into the window that contains ``now``."""
        found = self.counters.get(limit.counter)
        if found is None:
            found = self.counters[limit.counter] = Counter(limit.counter, now, now, None)
            if limit.period is not None:
                found.start, found.end = window(limit.period, now, now)
            # On file before its first charge: a reservation found after a crash must find its counter and its window.
            self.dirty_counters.add(found.name)
            self.begun.add(found.name)
        elif limit.period is not None and found.end is not None and not found.start <= now < found.end:
            start, end = window(limit.period, found.anchor, now)
            if start > found.start:
                found.before = (found.start, found.end, found.used)
                self._turn(found, start, end, 0)
            elif start < found.start:
                self._turn_back(found, start, end)
        return found

    def _turn(self, counter: Counter, start: int, end: int | None, used: int) -> None:
        """Put a counter into another window."""
        counter.start, counter.end, counter.used = start, end, used
        claims = (c for r in self.open.values() for c in r.claims if c.counter == counter.name and c.start == start)
        counter.reserved = sum(c.amount for c in claims)
        self.dirty_counters.add(counter.name)
        self.begun.add(counter.name)

    def _turn_back(self, counter: Counter, start: int, end: int | None) -> None:
        """The clock has been set back. What was spent meanwhile was spent in the window it comes back to.

        So a clock that runs ahead and is corrected neither gives a budget back nor shuts it until the time it showed.
        """
        for reservation in self.open.values():
            for claim in reservation.claims:
                if claim.counter == counter.name and claim.start == counter.start:
                    claim.start = start
                    self.dirty_open.add(reservation.call_id)
        used, counter.before = _back_at(counter, start), None
        self._turn(counter, start, end, used)

    def reserve(
        self, call_id: str, asks: Iterable[tuple[Limit, int]], now: int, noted: list[LimitCheck] | None = None
    ) -> Exhausted | None:
        """Admit the call under every limit and hold its amounts, or hold nothing and name the first exhausted one.

        A ``soft`` limit admits while used + reserved is below it, so the call that crosses the line passes and
        parallel calls cannot all be the last one. A ``hard`` limit, and any count of calls, admits only what fits.
        What each limit that was asked said is added to ``noted``; behind one that refuses none is asked.
        """
        held: list[tuple[Counter, Claim]] = []
        for limit, amount in asks:
            counter = self.counter(limit, now)
            taken = counter.used + counter.reserved
            full = taken + amount > limit.maximum if limit.hard or limit.unit in _COUNTED else taken >= limit.maximum
            if noted is not None:
                noted.append((*limit.verdict_prefix, counter.used, counter.reserved, amount, counter.end, not full))
            if full:
                return Exhausted(limit, taken, amount, counter.end)
            held.append((counter, Claim(counter.name, limit.unit, counter.start, amount)))
        reservation = self.hold_open(call_id, now)
        for counter, claim in held:
            counter.reserved += claim.amount
            reservation.claims.append(claim)
        return None

    def raise_to(self, call_id: str, amounts: Mapping[Unit, int]) -> None:
        """Lift the call's claims to what is now known; a claim is never lowered before it is settled."""
        reservation = self.open.get(call_id)
        for claim in reservation.claims if reservation else ():
            more = amounts.get(claim.unit, 0) - claim.amount
            if more > 0:
                claim.amount += more
                self._hold(claim, more)
                self.dirty_open.add(call_id)

    def settle(self, call_id: str, amounts: Mapping[Unit, int]) -> None:
        """Book ``amounts`` on the call's claims of those units and close them; a second time finds nothing to do."""
        reservation = self.open.get(call_id)
        if reservation is None:
            return
        left: list[Claim] = []
        for claim in reservation.claims:
            if claim.unit not in amounts:
                left.append(claim)
                continue
            self._hold(claim, -claim.amount)
            charge = amounts[claim.unit]
            counter = self.counters.get(claim.counter)
            # The charge belongs to the window the call was admitted in; if that is over, it lives on in the records.
            if charge and counter is not None:
                if counter.start == claim.start:
                    counter.used += charge
                elif counter.before is not None and counter.before[0] == claim.start:
                    counter.before = (*counter.before[:2], counter.before[2] + charge)
                self.dirty_counters.add(counter.name)
                self.charged.add(counter.name)
        reservation.claims = left
        if left:
            self.dirty_open.add(call_id)
        else:
            self.close(call_id)

    def release(self, call_id: str) -> None:
        """Give back everything the call holds: it never reached the provider."""
        self.settle(call_id, _NOTHING)
        self.close(call_id)

    def close(self, call_id: str) -> None:
        """Forget a reservation whose claims are all settled."""
        reservation = self.open.pop(call_id, None)
        if reservation is not None:
            self.dirty_open.discard(call_id)
            self.closed[call_id] = reservation.number

    def hold_open(self, call_id: str, now: int) -> Reservation:
        """Keep a call on file while it is out, even if no limit applies to it."""
        found = self.open.get(call_id)
        if found is None:
            self._number += 1
            found = self.open[call_id] = Reservation(call_id, now, self._number)
        self.dirty_open.add(call_id)
        return found

    def reset(self, limit: Limit, now: int) -> int:
        """Forget what the limit's present window has used; returns it. What calls in flight hold is charged as they end."""
        counter = self.counter(limit, now)
        used, counter.used = counter.used, 0
        self.dirty_counters.add(counter.name)
        return used

    def restore(self, reservation: Reservation) -> None:
        """Take back a reservation as it was on file."""
        self.open[reservation.call_id] = reservation
        self._number = max(self._number, reservation.number)
        for claim in reservation.claims:
            self._hold(claim, claim.amount)

    def usage(self, limit: Limit, now: int) -> tuple[int, int, int, int | None]:
        """``(used, reserved, start, end)`` of a limit's window at ``now``. Changes nothing, so any thread may ask."""
        found = self.counters.get(limit.counter)
        start, end = window(limit.period, found.anchor if found else now, now) if limit.period else (now, None)
        if found is None:
            return 0, 0, start, end
        if limit.period is None or start == found.start:
            return found.used, found.reserved, found.start, found.end
        if start < found.start:
            return _back_at(found, start), found.reserved, start, end
        return 0, 0, start, end

    def _hold(self, claim: Claim, amount: int) -> None:
        counter = self.counters.get(claim.counter)
        if counter is not None and counter.start == claim.start:
            counter.reserved += amount


def _back_at(counter: Counter, start: int) -> int:
    """What a counter has used once the clock has come back to the window beginning at ``start``."""
    return counter.used + (counter.before[2] if counter.before is not None and counter.before[0] == start else 0)


_COUNTED = frozenset({"requests", "concurrent"})
"""Units of which a call takes exactly one: there is no "last one that may overshoot"."""

_NOTHING: Mapping[Unit, int] = {"usd": 0, "requests": 0, "tokens": 0, "concurrent": 0}
