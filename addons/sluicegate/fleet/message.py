"""A message to the store while its answer is awaited, and what one says of calls in flight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sluicegate.calls.settlement import recorded_amounts
from sluicegate.fleet.asks import Ask, room_of
from sluicegate.fleet.store.protocol import Correction, FleetStore, HeldCall, NodeReport, Position
from sluicegate.fleet.tracked import Tracked, Wanted
from sluicegate.limits.corrections import WaitingCorrection
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import ALIGNED


class Message(NamedTuple):
    """One message to the store, and what is remembered of it until its answer."""

    report: NodeReport
    positions: list[Position]
    holds: list[HeldCall]
    ended: list[str]
    asks: list[Ask]
    wanted: dict[str, Wanted]
    asked_at: int
    """By the steady clock, milliseconds."""
    until: int
    """When places in flight that it gets are others' again, by the boot clock."""


def room_wanted(asks: Sequence[Ask], ledger: Ledger, tracked: dict[str, Tracked], now: int) -> dict[str, Wanted]:
    """Return by counter what waiting calls need, and have their counters in use."""
    wanted: dict[str, Wanted] = {}
    for ask in asks:
        for limit, amount in ask.requested:
            counter = ledger.counter(limit, now)
            found = tracked.get(counter.name)
            if found is None or found.counter is not counter:
                found = tracked[counter.name] = Tracked(counter, limit, now)
            found.follow(limit.at(now))
            found.note_call(amount, now)
            room = room_of(ask, counter.name)
            if (others := wanted.get(counter.name)) is None:
                wanted[counter.name] = Wanted(room)
            else:
                others.more += room
    return wanted


def positions_to_report(
    tracked: dict[str, Tracked],
    wanted: Mapping[str, Wanted],
    now: int,
    held_before: Callable[[str, int], int],
    *,
    everything: bool,
) -> list[Position]:
    """Return what to say of the counters in use, or of ``everything``; forget those that have nothing to tell any more."""
    positions: list[Position] = []
    # In one order on every node, so that two never wait for each other's rows.
    for name in sorted(tracked):
        one = tracked[name]
        if everything or name in wanted or one.is_due(now) or one.draining is not None:
            positions += one.positions(now, wanted.get(name), held_before)
        elif one.is_idle(now):
            del tracked[name]
    return positions


def held_in(ledger: Ledger, counter: str, start: int) -> int:
    """Return what calls in flight hold of the window with this start."""
    claims = (c for r in ledger.open.values() for c in r.claims if c.counter == counter and c.start == start)
    return sum(claim.amount for claim in claims)


def new_drafts(ledger: Ledger, reported: Mapping[str, object]) -> list[HeldCall]:
    """Return the open calls whose records, should the node disappear, the store does not have yet; ``told`` has those it has."""
    found = []
    for call_id, reservation in ledger.open.items():
        draft = reservation.draft
        if draft is not None and reported.get(call_id) is not draft:
            amounts = recorded_amounts(dict(draft))
            charges = tuple((c.counter, c.start, amounts[c.unit]) for c in reservation.claims)
            found.append(HeldCall(call_id, charges, draft))
    return found


def correct(store: FleetStore, made: Sequence[WaitingCorrection]) -> None:
    """Tell the store what operators have changed, in the windows that it has of these counters. In the agent's thread.

    Windows follow each other from any of their beginnings, so one of ours is proposed where the store knows none.
    """
    known = store.anchors({c.counter: c.start for c in made})
    for correction_id, name, start, end, amount in made:
        anchor = known[name]
        if end is None:
            start = anchor
        elif ALIGNED not in name:
            size = end - start
            start = anchor + (start - anchor) // size * size
            end = start + size
        store.adjust(Correction(correction_id, name, start, end, amount))


def ended_calls(ledger: Ledger, reported: Mapping[str, object]) -> list[str]:
    """Return the calls that the store has and that are over."""
    return [call_id for call_id in reported if call_id not in ledger.open]
