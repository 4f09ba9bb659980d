"""What calls in flight hold on counters: claims, the reservation that joins a call's, and why one is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sluicegate.policy.model import Limit
from sluicegate.values import Unit


@dataclass(slots=True)
class Claim:
    """One call's hold on one counter, in the window in which it was admitted."""

    counter: str
    unit: Unit
    start: int
    amount: int


@dataclass(slots=True)
class Reservation:
    """All that one call in flight holds, begun ``at``, epoch milliseconds.

    ``number`` counts reservations up and is their key on file, because rows that are appended are written fastest.
    """

    call_id: str
    at: int
    number: int
    claims: list[Claim] = field(default_factory=list)
    draft: Mapping[str, Any] | None = None
    """The record the call would get if the process died now; the ledger only carries it."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Why ``reserve`` refused: the limit, what is used including everything in flight, and what was asked for."""

    limit: Limit
    used: int
    asked: int
    resets_at: int | None
