"""What calls in flight hold on counters: claims, the reservation that joins a call's, and why one is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import astuple

from sluicegate.limits.changes import ReservationRow
from sluicegate.limits.counter import Counter
from sluicegate.policy.limit import Limit
from sluicegate.values import LimitCheck, Unit

Draft = Callable[[], Mapping[str, Any]]
"""Makes the record that a call would get if the process died now."""


class Claim(msgspec.Struct, gc=False):
    """One call's hold on one counter, in the window in which it was admitted."""

    counter: str
    unit: Unit
    start: int
    amount: int


class Reservation(msgspec.Struct):
    """All that one call in flight holds, begun ``at``, epoch milliseconds.

    ``number`` counts reservations up and is their key on file, because rows that are appended are written fastest.
    """

    call_id: str
    at: int
    number: int
    claims: list[Claim] = []
    _make_draft: Draft | None = None
    _draft: Mapping[str, Any] | None = None

    def draft_by(self, make: Draft) -> None:
        """Have the draft made in this way from here on, once somebody asks for it."""
        self._make_draft, self._draft = make, None

    @property
    def draft(self) -> Mapping[str, Any] | None:
        """The record the call would get if the process died now; the ledger only carries it."""
        if self._draft is None and self._make_draft is not None:
            self._draft = self._make_draft()
        return self._draft

    @property
    def row(self) -> ReservationRow:
        """Return it as it is stored."""
        return ReservationRow(self.number, self.call_id, self.at, list(map(astuple, self.claims)), self.draft)


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Why ``reserve`` refused: the limit, what is used including everything in flight, and what was asked for."""

    limit: Limit
    used: int
    asked: int
    resets_at: int | None


def admitted_claims(
    requested: Iterable[tuple[Limit, int]],
    counters: Mapping[str, Counter],
    counter_of: Callable[[Limit, int], Counter],
    now: int,
    held: Iterable[Claim],
    checks: list[LimitCheck] | None,
) -> list[Claim] | Exhausted:
    """Return a call's claims under these limits at a time, or the first limit that does not admit it.

    ``counter_of`` makes the counter of a limit that has none, or moves it into the present window. ``held`` is what the call
    holds already, which does not count against it. The verdict of each limit is added to ``checks``.
    """
    own = {(claim.counter, claim.start): claim.amount for claim in held}
    claims: list[Claim] = []
    # Every limit of every call passes here, so the usual case is written out and takes no call.
    for limit, amount in requested:
        if limit.raises:
            limit = limit.at(now)
        name = limit.counter
        counter = counters.get(name)
        if counter is None or ((end := counter.end) is not None and (now >= end or now < counter.start)):
            counter = counter_of(limit, now)
            end = counter.end
        start, used, reserved = counter.start, counter.used, counter.reserved
        if own:
            reserved -= own.get((name, start), 0)
        taken, may_take = used + reserved, True
        if (lease := counter.lease) is not None:
            may_take = lease.admits(start, taken, amount)
            elsewhere, promised = lease.elsewhere(start)
            used, taken = used + elsewhere, taken + elsewhere
            if not may_take:
                # What others may still take counts too: it is why this call may not.
                reserved, taken = reserved + promised, taken + promised
        admits = may_take and (taken + amount <= limit.maximum if limit.only_what_fits else taken < limit.maximum)
        if checks is not None:
            verdict = used, reserved, amount, end, admits
            checks.append(limit.check_prefix + verdict)
        if not admits:
            return Exhausted(limit, taken, amount, end)
        claims.append(Claim(name, limit.unit, start, amount))
    return claims


def charge_claims(
    claims: Iterable[Claim], counters: Mapping[str, Counter], amounts: Mapping[Unit, int]
) -> tuple[list[Claim], list[str]]:
    """Charge these amounts to the claims of those units; return the other claims, and the names of the counters that have grown."""
    left: list[Claim] = []
    charged: list[str] = []
    for claim in claims:
        charge = amounts.get(claim.unit)
        if charge is None:
            left.append(claim)
            continue
        name = claim.counter
        if (counter := counters.get(name)) is None:
            continue
        if counter.start == claim.start:
            counter.reserved -= claim.amount
            counter.used += charge
        else:
            # The charge belongs to the window the call was admitted in; if that is long over, only the records have it.
            counter.charge(claim.start, charge)
        if charge:
            charged.append(name)
    return left, charged
