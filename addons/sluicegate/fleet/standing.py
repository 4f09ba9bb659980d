"""How a node stands with the store: what it has told, what it was answered, and what there is to tell now.

Synchronous, without a loop or a connection: ``membership.py`` decides when a message is sent, and by whom it is carried.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from functools import partial

from sluicegate import __version__
from sluicegate.fleet.asks import Ask
from sluicegate.fleet.followed_clock import FollowedClock
from sluicegate.fleet.message import Message, ended_calls, held_in, new_drafts, positions_to_report, room_wanted
from sluicegate.fleet.store.protocol import CONCURRENCY_TTL_MS, FleetStore, Granted, Joined, NodeReport, Position, Reply, Total
from sluicegate.fleet.tracked import Tracked
from sluicegate.limits.lease import Lease, SharedCounters, boot_clock
from sluicegate.limits.ledger import Ledger
from sluicegate.limits.shared_windows import adopt, move_anchor
from sluicegate.policy.limit import unit_of_counter


class Standing:
    """The node's side of the books."""

    def __init__(
        self, node_id: str, name: str, ledger: Ledger, clock: FollowedClock, describe: Callable[[], tuple[str, int]]
    ) -> None:
        """``describe`` returns the policy's revision and how many records have not been delivered."""
        self.id, self.name, self.ledger, self.clock = node_id, name, ledger, clock
        self._describe = describe
        self.shared = ledger.shared = SharedCounters()
        self.tracked: dict[str, Tracked] = {}
        self.messages = 0
        """Messages that the store has answered."""
        self.live = 1
        """Nodes that the store counts as live, as it last said."""
        self.last_answer = self.joined_at = time.monotonic()
        self._epoch = self._number = 0
        self._recalled: set[tuple[str, int]] = set()
        """Windows, not the present ones, of which the store notes more than calls hold: counter and start."""
        self._reported: dict[str, object] = {}
        """Drafts of open calls that the store has, by call id; None where it is not known whether the store has it."""

    def report(self) -> NodeReport:
        """Return what the node says of itself, with the next number."""
        self._number += 1
        revision, lag = self._describe()
        calls = len(self.ledger.open)
        return NodeReport(self.id, self.name, self._epoch, self._number, __version__, revision, calls, lag, self.clock.offset_ms)

    def join(self, store: FleetStore) -> None:
        """Join the fleet, and agree with it on the windows of all counters. Blocking. Raises FleetError."""
        asked_at = self.clock.steady()
        joined = store.join(self.report())
        self.clock.observe(asked_at, self.clock.steady(), joined.now)
        anchors = store.anchors({name: counter.anchor for name, counter in self.ledger.counters.items()})
        self.joined(joined, anchors)
        message = self.message([], everything=True)
        self.answered(message, store.sync(message.report, message.positions, message.holds, message.ended))

    def joined(self, joined: Joined, anchors: dict[str, int]) -> None:
        """Take over the fleet's windows, and what it knows of ours."""
        self._epoch, self._number, self.joined_at = joined.epoch, 0, time.monotonic()
        self._reported.clear()
        self.shared.anchors.update(anchors)
        for name, counter in list(self.ledger.counters.items()):
            move_anchor(self.ledger, name, anchors.get(name, counter.anchor), joined.now)
            counter.lease = Lease(counter.start)
            self.tracked.pop(name, None)
        for known in joined.known:
            adopt(self.ledger, known.counter, known.start, known.end, known.spent)
        for counter in self.ledger.counters.values():
            if counter.lease is None:
                counter.lease = Lease(counter.start)
            if (tracked := Tracked.after_join(counter, self.clock())) is not None:
                self.tracked[counter.name] = tracked
        for known in joined.known:
            # The store may note slack that nobody goes by any more, also where nothing was used.
            self.recall(known.counter, known.start)

    def message(self, asks: Sequence[Ask], *, everything: bool = False) -> Message:
        """Return what is to be told now: what waiting calls need, and whatever has changed; or ``everything`` in use."""
        now = self.clock()
        wanted = room_wanted(asks, self.ledger, self.tracked, now)
        positions = positions_to_report(self.tracked, wanted, now, partial(held_in, self.ledger), everything=everything)
        positions += self._positions_given_back({(p.counter, p.start) for p in positions})
        until = boot_clock() + CONCURRENCY_TTL_MS * 1_000_000
        holds, ended = new_drafts(self.ledger, self._reported), ended_calls(self.ledger, self._reported)
        for call in holds:
            # The store may have it though no answer comes: it must hear of the end.
            self._reported.setdefault(call.call_id, None)
        return Message(self.report(), positions, holds, ended, list(asks), wanted, self.clock.steady(), until)

    def forget(self, name: str) -> None:
        """Say nothing more of a counter that is gone for good."""
        self.tracked.pop(name, None)
        self.shared.anchors.pop(name, None)
        self.shared.unused.pop(name, None)

    def recall(self, name: str, start: int) -> None:
        """Give back with the next message what the store notes of a window beyond what calls hold, in use here or not."""
        counter, tracked = self.ledger.counters.get(name), self.tracked.get(name)
        if counter is None or counter.start != start:
            self._recalled.add((name, start))
            return
        if tracked is None or tracked.counter is not counter:
            tracked = self.tracked[name] = Tracked(counter, None, self.clock())
        tracked.recalled, tracked.reported = True, None

    def _positions_given_back(self, reported: Container[tuple[str, int]]) -> list[Position]:
        """Return what to say of recalled windows that the message does not speak of already."""
        positions = []
        for name, start in sorted(self._recalled):
            counter = self.ledger.counters.get(name)
            if counter is not None and counter.start != start and counter.lease is not None and counter.lease.start == start:
                # Should the clock go back to it, nothing is taken of what is given back now.
                counter.lease = Lease(counter.start)
            if (name, start) not in reported:
                spent = (counter.used_in(start) if counter is not None else None) or 0
                held = held_in(self.ledger, name, start)
                positions.append(Position(name, unit_of_counter(name), start, None, 0, False, spent, held))
        # The store names them again until it has heard.
        self._recalled.clear()
        return positions

    def answered(self, message: Message, reply: Reply) -> dict[str, Granted]:
        """Take over what the store has said; return it by counter."""
        self.clock.observe(message.asked_at, self.clock.steady(), reply.now)
        self.messages += 1
        self.live, self.last_answer = reply.live, time.monotonic()
        for call in message.holds:
            self._reported[call.call_id] = call.draft
        for call_id in message.ended:
            self._reported.pop(call_id, None)
        answers: dict[str, Granted] = {}
        for granted in reply.positions:
            if (tracked := self.tracked.get(granted.counter)) is not None:
                before = tracked.counter.used_by_all
                tracked.answered(granted, message.until)
                if tracked.counter.used_by_all != before:
                    # Any of the nodes may be the first to see that a budget has reached a threshold.
                    self.ledger.charged.add(granted.counter)
                adopt(self.ledger, granted.counter, granted.start, tracked.end_of(granted.start), granted.spent)
                answers[granted.counter] = granted
        return answers

    def learn(self, total: Total) -> None:
        """Note what others have used of a window, for those who look; whether a call fits is decided by leases. From any thread.

        What is taken from the sum is what this node had told by then, not what it has by now: else the others would seem to have
        used less for as long as a charge is not told, and a threshold that was announced could be announced again.
        """
        used, held = total.used - total.own_used, max(0, total.held - total.own_held)
        counter = self.ledger.counters.get(total.counter)
        if counter is None:
            # Windows follow each other from any of their beginnings.
            self.shared.anchors.setdefault(total.counter, total.start)
            known = self.shared.unused.get(total.counter)
            self.shared.unused[total.counter] = Lease(total.start, used_elsewhere=total.used, held_elsewhere=total.held)
            if known is None or (known.start, known.used_elsewhere) != (total.start, total.used):
                self.ledger.charged.add(total.counter)
            return
        lease = counter.lease
        if lease is None or lease.start > total.start:
            return
        if lease.start != total.start:
            lease = counter.lease = Lease(total.start)
        before = lease.used_elsewhere
        lease.used_elsewhere, lease.held_elsewhere = used, held
        if used != before:
            # Any of the nodes may be the first to see that a budget has reached a threshold.
            self.ledger.charged.add(total.counter)

    def is_due(self, now: int) -> bool:
        """Return whether there is something to tell, or slack that others may wait for."""
        if self._recalled or any(one.is_due(now) or one.slack for one in self.tracked.values()):
            return True
        return bool(new_drafts(self.ledger, self._reported) or ended_calls(self.ledger, self._reported))

    @property
    def silence_ms(self) -> int:
        """Return how long ago the store last answered."""
        return round((time.monotonic() - self.last_answer) * 1000)
