"""What a ledger hands over to be written: values, so that its later changes do not show in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

from sluicegate.limits.corrections import WaitingCorrection
from sluicegate.values import Unit

CounterRow = tuple[str, int, int, int | None, int, int | None, int | None, int | None]
"""``(name, anchor, start, end, used)`` of a counter, then ``(start, end, used)`` of its previous window."""


class ReservationRow(NamedTuple):
    """An open reservation as it is stored."""

    number: int
    call_id: str
    at: int
    claims: list[tuple[str, Unit, int, int]]
    """``(counter, unit, start, amount)`` of each claim."""
    draft: Mapping[str, Any] | None
    """The record the call would get if the process died now."""


class Changes(NamedTuple):
    """Everything that has changed since changes were last taken. It must be written in one transaction."""

    counters: Sequence[CounterRow]
    reservations: Sequence[ReservationRow]
    """Reservations that were opened or altered and are still open."""
    closed: Set[int]
    """Numbers of the reservations that are over."""
    new_windows: Set[str]
    """Those of ``counters`` whose present window is not on file yet."""
    partly_settled: Set[str]
    """Calls among ``reservations`` that have been charged for some of their claims, but not on file yet."""
    corrections: Sequence[WaitingCorrection] = ()
    """Corrections that wait for the store which several gateways share."""
    confirmed: frozenset[str] = frozenset()
    """Ids of those that it has, to be removed from the file."""

    @property
    def has_reservations_alone(self) -> bool:
        """Whether nothing but reservations has changed."""
        return not (self.counters or self.closed or self.corrections or self.confirmed)

    def __bool__(self) -> bool:
        """Return whether there is anything to write."""
        return bool(self.reservations) or not self.has_reservations_alone
