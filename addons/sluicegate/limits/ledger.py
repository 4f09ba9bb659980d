"""The ledger: what every scope has used, what calls in flight have reserved, and whether a call still fits.

Every limit, be it money, requests, tokens or concurrent calls, is a *counter*; a call holds a *claim* on each counter
it falls under. ``reserve`` admits a call or names the first exhausted limit, ``settle`` charges what the call really used,
``release`` gives everything back. One call's claims are opened, raised and closed here and nowhere else, which is what
makes "settled exactly once" a property of this file and not something every caller must get right.

Decisions are taken on numbers in memory (one gateway owns a state folder). ``take_changes`` hands over what has changed
since the last time, as a value that a store writes in one transaction; ``put_back`` takes it back if that failed.
The arithmetic knows nothing of files, clocks or HTTP.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from sluicegate.limits.changes import Changes
from sluicegate.limits.claims import Claim, Draft, Exhausted, Reservation, admitted_claims, charge_claims
from sluicegate.limits.corrections import WaitingCorrection
from sluicegate.limits.counter import Counter, own_usage
from sluicegate.limits.lease import Lease, SharedCounters
from sluicegate.policy.limit import Limit
from sluicegate.values import ZERO_AMOUNTS, LimitCheck, Unit
from sluicegate.windows import window


class Ledger:
    """Counters and open reservations in memory, and the names of what has changed since it was last written."""

    def __init__(self) -> None:
        self.counters: dict[str, Counter] = {}
        self.open: dict[str, Reservation] = {}
        """By call id."""
        self.charged: set[str] = set()
        """Counters that have grown since the notifier last emptied this set."""
        self._changed_counters: set[str] = set()
        self._changed_reservations: set[str] = set()
        self._uncommitted: set[str] = set()
        """Calls among those that may not leave before what they hold is on file."""
        self._closed: set[int] = set()
        self._new_windows: set[str] = set()
        self._partly_settled: set[str] = set()
        self._last_number = 0
        self.shared: SharedCounters | None = None
        """What several gateways share of their counters; None where all limits are this gateway's own."""

    @property
    def has_changes(self) -> bool:
        """Whether ``take_changes`` would hand over anything."""
        has_corrections = self.shared is not None and self.shared.corrections.has_changes
        return bool(self._changed_reservations or self._changed_counters or self._closed or has_corrections)

    @property
    def needs_full_write(self) -> bool:
        """Whether open reservations may be written only in one transaction with all other changes.

        A reservation found after a crash must find its counter and its window; and one that has been charged for some of
        its claims must not be on file without the charge.
        """
        return bool(self._new_windows or self._partly_settled)

    def take_changes(self) -> Changes:
        """Hand over everything that has changed since the last time."""
        counters = [self.counters[name].row for name in self._changed_counters]
        corrections = self.shared.corrections.take_changes() if self.shared is not None else ((), _NONE)
        reservations = [self.open[call_id].row for call_id in self._changed_reservations]
        changes = Changes(counters, reservations, self._closed, self._new_windows, self._partly_settled, *corrections)
        self._changed_reservations, self._uncommitted = set(), set()
        self._changed_counters, self._closed, self._new_windows, self._partly_settled = set(), set(), set(), set()
        return changes

    def take_reservations(self) -> Changes:
        """Hand over what calls wait for, in a quick write; only where ``needs_full_write`` is false. What was raised can wait."""
        taken, self._uncommitted = self._uncommitted, set()
        self._changed_reservations -= taken
        return Changes((), [self.open[call_id].row for call_id in taken], _NONE, _NONE, _NONE)

    def put_back(self, changes: Changes) -> None:
        """Take back changes that could not be written. What has changed since keeps its newer value.

        Only names are kept: the next ``take_changes`` hands over what they stand for then.
        """
        self._changed_counters.update(row[0] for row in changes.counters)
        self._new_windows |= changes.new_windows
        self._closed |= changes.closed
        if self.shared is not None:
            self.shared.corrections.put_back(changes.corrections, changes.confirmed)
        for row in changes.reservations:
            # The call may have ended since, and its row must not come back.
            current = self.open.get(row.call_id)
            if current is not None and current.number == row.number:
                self._changed_reservations.add(row.call_id)
                self._uncommitted.add(row.call_id)
                if row.call_id in changes.partly_settled:
                    self._partly_settled.add(row.call_id)

    def counter(self, limit: Limit, now: int) -> Counter:
        """Return the limit's counter, moved into the window that contains ``now``."""
        found = self.counters.get(limit.counter)
        if found is not None and (found.end is None or found.start <= now < found.end):
            return found
        if found is None:
            # A window begins with the first call, so this call's time anchors all later ones.
            found = self.counters[limit.counter] = _new_counter(limit, self.shared, now)
            self._changed_counters.add(found.name)
            self._new_windows.add(found.name)
        elif limit.period is not None and found.end is not None:
            start, end = window(limit.period, found.anchor, now)
            if start > found.start:
                found.previous = (found.start, found.end, found.used)
                self.enter_window(found, start, end, 0)
            elif start < found.start:
                self._return_to_window(found, start, end)
        return found

    def enter_window(self, counter: Counter, start: int, end: int | None, used: int) -> None:
        """Move a counter into another window, of which this much is used."""
        counter.start, counter.end, counter.used = start, end, used
        # Calls still in flight from this window: after the clock was set back, the window may have some already.
        claims = (c for r in self.open.values() for c in r.claims if c.counter == counter.name and c.start == start)
        counter.reserved = sum(c.amount for c in claims)
        self._changed_counters.add(counter.name)
        self._new_windows.add(counter.name)

    def _return_to_window(self, counter: Counter, start: int, end: int | None) -> None:
        """Move a counter to an earlier window, because the clock has been set back.

        What was spent meanwhile counts as spent in the window it returns to. So a clock that runs ahead and is corrected
        neither gives a budget back nor blocks it until the time the clock had shown.
        """
        self.move_claims(counter, start)
        used, counter.previous = counter.used_on_return(start), None
        self.enter_window(counter, start, end, used)

    def move_claims(self, counter: Counter, start: int) -> None:
        """Let what calls in flight hold of a counter's window count in the one with this start."""
        for reservation in self.open.values():
            for claim in reservation.claims:
                if claim.counter == counter.name and claim.start == counter.start:
                    claim.start = start
                    self._changed_reservations.add(reservation.call_id)

    def reserve(
        self,
        call_id: str,
        requested: Iterable[tuple[Limit, int]],
        now: int,
        checks: list[LimitCheck] | None = None,
        *,
        replaces: bool = False,
    ) -> Exhausted | None:
        """Admit the call under every limit and hold its amounts, or hold nothing and return the first exhausted limit.

        A ``soft`` limit admits while used + reserved is below it, so the call that crosses the line passes and
        parallel calls cannot all be the last one. A ``hard`` limit, and any count of calls, admits only what fits.
        The verdict of each limit is added to ``checks``; the limits after one that refuses are not checked. Where the amounts
        are held in place of all that the call holds (``replaces``), that does not count against it.
        """
        held = self.open[call_id].claims if replaces and call_id in self.open else ()
        # Nothing is held before every limit has admitted the call, so a refusal has nothing to undo.
        claims = admitted_claims(requested, self.counters, self.counter, now, held, checks)
        if isinstance(claims, Exhausted):
            return claims
        reservation = self.hold_open(call_id, now)
        for claim in held:
            self._hold(claim, -claim.amount)
        for claim in claims:
            # In the counter's present window, in which it was admitted just now.
            self.counters[claim.counter].reserved += claim.amount
        reservation.claims = claims if replaces else reservation.claims + claims
        return None

    def raise_to(self, call_id: str, amounts: Mapping[Unit, int], draft: Draft | None = None) -> None:
        """Raise the call's claims to what is now known, never lower them, and note its other draft. Nobody waits for the file."""
        reservation = self.open.get(call_id)
        if reservation is None:
            return
        is_changed, counters = draft is not None, self.counters
        for claim in reservation.claims if amounts else ():
            amount = amounts.get(claim.unit)
            if amount is not None and (more := amount - claim.amount) > 0:
                claim.amount, is_changed = amount, True
                if (counter := counters.get(claim.counter)) is not None and counter.start == claim.start:
                    counter.reserved += more
        if draft is not None:
            reservation.draft_by(draft)
        if is_changed:
            self._changed_reservations.add(call_id)

    def settle(self, call_id: str, amounts: Mapping[Unit, int]) -> None:
        """Charge ``amounts`` to the call's claims of those units and close them; a second time does nothing.

        The last claim closes the reservation. One that never had any stays open until ``close``: only its draft would
        tell of the call after a crash.
        """
        reservation = self.open.get(call_id)
        if reservation is None or not reservation.claims:
            return
        left, charged = charge_claims(reservation.claims, self.counters, amounts)
        self._changed_counters.update(charged)
        self.charged.update(charged)
        # Rate limits and budgets settle separately; only when no claim is left is the reservation closed.
        reservation.claims = left
        if left:
            self._changed_reservations.add(call_id)
            if charged:
                self._partly_settled.add(call_id)
        else:
            self.close(call_id)

    def release(self, call_id: str) -> None:
        """Give back everything the call holds: it never reached the provider."""
        self.settle(call_id, ZERO_AMOUNTS)
        self.close(call_id)

    def close(self, call_id: str) -> None:
        """Forget a reservation whose claims are all settled."""
        reservation = self.open.pop(call_id, None)
        if reservation is not None:
            for ids in (self._changed_reservations, self._uncommitted, self._partly_settled):
                ids.discard(call_id)
            self._closed.add(reservation.number)

    def hold_open(self, call_id: str, now: int, draft: Draft | None = None) -> Reservation:
        """Keep a call on file while it is in flight, even without a limit; ``draft`` makes its record should the process die."""
        found = self.open.get(call_id)
        if found is None:
            self._last_number += 1
            found = self.open[call_id] = Reservation(call_id, now, self._last_number)
        if draft is not None:
            found.draft_by(draft)
        self._changed_reservations.add(call_id)
        self._uncommitted.add(call_id)
        return found

    def adjust(self, name: str, end: int | None, amount: int) -> int:
        """Add to what this gateway has used of a counter's window with this end, never below 0; return the change."""
        counter = self.counters.get(name)
        change = counter.adjust(end, amount) if counter is not None else 0
        if change:
            self._changed_counters.add(name)
        if change > 0:
            self.charged.add(name)
        return change

    def note_change(self, name: str) -> None:
        """Note that a counter was changed from outside, so that it is written."""
        self._changed_counters.add(name)

    def restore(self, reservation: Reservation) -> None:
        """Add a reservation that was read from the database."""
        self.open[reservation.call_id] = reservation
        self._last_number = max(self._last_number, reservation.number)
        for claim in reservation.claims:
            self._hold(claim, claim.amount)

    def usage(self, limit: Limit, now: int) -> tuple[int, int, int, int | None]:
        """Return ``(used, reserved, start, end)`` of a limit's window at ``now``. Changes nothing; any thread may call it."""
        found = self.counters.get(limit.counter)
        used, reserved, start, end = own_usage(limit, found, _anchor(limit, self.shared, now), now)
        if self.shared is not None:
            lease = found.lease if found is not None else self.shared.unused.get(limit.counter)
            if lease is not None and (limit.period is None or lease.start == start):
                used, reserved = used + lease.used_elsewhere, reserved + lease.held_elsewhere
        return used, reserved, start, end

    def _hold(self, claim: Claim, amount: int) -> None:
        if (counter := self.counters.get(claim.counter)) is not None:
            counter.hold(claim.start, amount)


def correct(ledger: Ledger, entry: str, name: str, end: int | None, amount: int) -> int:
    """Do what ``Ledger.adjust`` does for an operator's entry with this id; return the change.

    Where several gateways share the limit, their store counts the entry, once by its id, and it is none of what this gateway
    has used.
    """
    counter = ledger.counters.get(name)
    if ledger.shared is None or counter is None:
        return ledger.adjust(name, end, amount)
    change = counter.correct(end, amount)
    if change:
        ledger.shared.corrections.note(WaitingCorrection(f"{entry}/{name}", name, counter.start_of(end), end, change))
    if change > 0:
        ledger.charged.add(name)
    return change


def reset(ledger: Ledger, limit: Limit, now: int) -> int:
    """Set what the limit's present window has used to 0 and return what it was; calls in flight are charged as they end."""
    counter = ledger.counter(limit, now)
    return -correct(ledger, f"reset_{secrets.token_hex(8)}", counter.name, counter.end, -counter.used_by_all)


def forget_counter(ledger: Ledger, name: str) -> None:
    """Forget a counter whose limit is gone for good. No open reservation may hold a claim on it."""
    ledger.counters.pop(name, None)
    for names in (ledger._changed_counters, ledger._new_windows, ledger.charged):
        names.discard(name)


def _anchor(limit: Limit, shared: SharedCounters | None, now: int) -> int:
    """Return the time from which the windows of a limit follow each other that has no counter yet."""
    return now if shared is None else shared.anchors.get(limit.counter, now)


def _new_counter(limit: Limit, shared: SharedCounters | None, now: int) -> Counter:
    anchor = _anchor(limit, shared, now)
    counter = Counter(limit.counter, anchor, anchor, None)
    if limit.period is not None:
        counter.start, counter.end = window(limit.period, anchor, now)
    if shared is not None:
        counter.lease = shared.unused.pop(counter.name, None) or Lease(counter.start)
    return counter


def forget_changes(ledger: Ledger) -> None:
    """Forget what has changed, so that a ledger that is never written does not grow."""
    for names in (ledger._changed_counters, ledger._changed_reservations, ledger._closed, ledger._new_windows):
        names.clear()
    ledger._partly_settled.clear()
    ledger._uncommitted.clear()


_NONE: frozenset[Any] = frozenset()
