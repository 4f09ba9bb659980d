"""A node's membership in its fleet: what it tells the store, and how a call gets room that no lease has yet.

All of it runs in the proxy's loop, where the ledger is; the agent's thread only carries messages. One message is under way at
a time, and whatever has gathered meanwhile goes with the next: calls that wait at the same moment share one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from sluicegate import __version__
from sluicegate.fleet.agent import Agent
from sluicegate.fleet.asks import TIMEOUT_S, Ask, Asks
from sluicegate.fleet.followed_clock import FollowedClock
from sluicegate.fleet.message import Message, ended_calls, held_in, new_drafts, positions_to_tell, room_wanted
from sluicegate.fleet.protocol import (
    CONCURRENCY_TTL_MS,
    FleetError,
    FleetStore,
    Granted,
    Joined,
    NodeReport,
    Reply,
    Superseded,
)
from sluicegate.fleet.tracked import Tracked
from sluicegate.limits.claims import Exhausted
from sluicegate.limits.lease import Lease, SharedCounters, boot_clock
from sluicegate.limits.ledger import Ledger
from sluicegate.limits.shared_windows import adopt, move_anchor
from sluicegate.policy.limit import Limit

logger = logging.getLogger("sluicegate")

TICK_S = 0.2
"""How often what has changed is told, and slack is asked for or given back."""

HEARTBEAT_MS = 1_000
"""How often the store hears of a node that has nothing to tell."""

REJOIN_PAUSE_S = 60.0
"""How long a node that another process has superseded waits before it joins again: two with one folder would take turns."""


class Membership:
    """The loop's side: counters in use, calls that wait, and the message under way."""

    def __init__(
        self, node_id: str, name: str, agent: Agent, ledger: Ledger, clock: FollowedClock, describe: Callable[[], tuple[str, int]]
    ) -> None:
        """``describe`` returns the policy's revision and how many records have not been delivered."""
        self.id, self.name, self.agent, self.ledger, self.clock = node_id, name, agent, ledger, clock
        self._describe = describe
        self.shared = SharedCounters()
        self.tracked: dict[str, Tracked] = {}
        self.asks = Asks()
        self.messages = 0
        """Messages that the store has answered."""
        self.live = 1
        """Nodes that the store counts as live, as it last said."""
        self.last_answer = time.monotonic()
        self.error: str | None = None
        """Why the store has not answered; None while it does."""
        self._epoch = self._number = 0
        self._under_way: Message | None = None
        self._is_busy = False
        self._told: dict[str, object] = {}
        """Drafts of open calls that the store has, by call id."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._joined_at = 0.0
        self._closed = False

    # -- the start and the end -----------------------------------------------------------------------------------------

    def report(self) -> NodeReport:
        """Return what the node says of itself, with the next number."""
        self._number += 1
        revision, lag = self._describe()
        calls = len(self.ledger.open)
        return NodeReport(self.id, self.name, self._epoch, self._number, __version__, revision, calls, lag, self.clock.offset_ms)

    def join(self, store: FleetStore) -> None:
        """Join the fleet, and agree with it on the windows of all counters. Blocking. Raises FleetError."""
        asked_at = self.clock.own()
        joined = store.join(self.report())
        self.clock.observe(asked_at, self.clock.own(), joined.now)
        anchors = store.anchors({name: counter.anchor for name, counter in self.ledger.counters.items()})
        self._joined(joined, anchors)
        message = self._message(self.clock(), everything=True)
        self._answered(message, store.sync(message.report, message.positions, message.holds, message.ended))

    def start(self) -> None:
        """Begin to tell the store what changes. In the proxy's loop."""
        if self._timer is None:
            self._loop = asyncio.get_running_loop()
            self.agent.start()
            self._timer = self._loop.call_later(TICK_S, self._tick)

    def leave(self) -> None:
        """Tell the final numbers and give every lease back. Blocking, where the loop has nothing more to do."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.asks.without_store(float("inf"))
        for tracked in self.tracked.values():
            tracked.recalled = True
        self._is_busy = True
        message = self._message(self.clock(), everything=True)

        def work(store: FleetStore) -> None:
            store.sync(message.report, message.positions, message.holds, message.ended)
            store.leave(self.report())

        self.agent.start()
        self.agent.submit(work, lambda _, error: self._left(error))

    def _left(self, error: FleetError | None) -> None:
        if error is not None:
            logger.warning("The fleet's store was not told that this gateway stops; its leases end by themselves: %s", error)

    def _joined(self, joined: Joined, anchors: dict[str, int]) -> None:
        """Take over the fleet's windows, and what it knows of ours."""
        self._epoch, self._number, self._joined_at = joined.epoch, 0, time.monotonic()
        self._told.clear()
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
            if counter.used or counter.reserved:
                self.tracked[counter.name] = Tracked(counter, None, self.clock())

    # -- calls that need room ------------------------------------------------------------------------------------------

    async def make_room(self, requested: Sequence[tuple[Limit, int]], attempt: Callable[[], Exhausted | None]) -> Exhausted | None:
        """Ask the store for what a call needs, and reserve it by ``attempt`` as soon as that is granted.

        Returns the exhausted limit where the fleet has no room. Raises Away where the store does not answer.
        """
        loop = asyncio.get_running_loop()
        ask = Ask(requested, attempt, loop.time() + TIMEOUT_S, loop.create_future())
        self.asks.waiting.append(ask)
        self.asks.asked += 1
        if self.error is not None and not self._is_busy:
            # Whoever keeps the connection tries again by itself; a call need not wait for a store that is known to be away.
            self.asks.without_store(loop.time())
        else:
            self._pump()
        return await ask.done

    def recall(self, counters: Sequence[str]) -> None:
        """Give back at once what other nodes wait for."""
        for name in counters:
            if (tracked := self.tracked.get(name)) is not None:
                tracked.recalled = True
        self._pump()

    # -- messages ------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        assert self._loop is not None
        self._timer = self._loop.call_later(TICK_S, self._tick)
        self.asks.drop_ended(self._loop.time())
        now = self.clock()
        is_due = self.silence_ms >= HEARTBEAT_MS or any(t.is_due(now) or t.slack for t in self.tracked.values())
        if is_due or self.asks.waiting or new_drafts(self.ledger, self._told) or ended_calls(self.ledger, self._told):
            self._pump()

    def _pump(self) -> None:
        """Send what there is to say, unless a message is under way."""
        if self._is_busy or self._closed or self._loop is None:
            return
        asked = {limit.counter for ask in self.asks.waiting for limit, _ in ask.requested}
        missing = asked - self.shared.anchors.keys()
        self._is_busy = True
        if missing:
            counters = self.ledger.counters
            proposed = {name: counters[name].anchor if name in counters else None for name in missing}
            self.agent.submit(lambda store: store.anchors(proposed), self._posting(self._anchored))
            return
        message = self._under_way = self._message(self.clock())
        self.agent.submit(
            lambda store: store.sync(message.report, message.positions, message.holds, message.ended), self._posting(self._replied)
        )

    def _posting[T](self, then: Callable[[T | None, FleetError | None], None]) -> Callable[[T | None, FleetError | None], None]:
        """Return what hands a result from the agent's thread to the loop."""

        def post(result: T | None, error: FleetError | None) -> None:
            assert self._loop is not None
            try:
                self._loop.call_soon_threadsafe(then, result, error)
            except RuntimeError:
                # The loop has been closed: nobody waits any more.
                return

        return post

    def _anchored(self, anchors: dict[str, int] | None, error: FleetError | None) -> None:
        self._is_busy = False
        if anchors is None:
            self._failed(error)
            return
        self.shared.anchors.update(anchors)
        for name, anchor in anchors.items():
            if name in self.ledger.counters:
                # Made for this call, which cannot have known when the fleet's first one came.
                move_anchor(self.ledger, name, anchor, self.clock())
        self._pump()

    def _message(self, now: int, *, everything: bool = False) -> Message:
        """Return what is to be told now: what waiting calls need, and whatever has changed; or ``everything`` in use."""
        asks = [] if self._loop is None else self.asks.due(self._loop.time())
        wanted = room_wanted(asks, self.ledger, self.tracked, now)
        positions = positions_to_tell(self.tracked, wanted, now, partial(held_in, self.ledger), everything=everything)
        until = boot_clock() + CONCURRENCY_TTL_MS * 1_000_000
        holds, ended = new_drafts(self.ledger, self._told), ended_calls(self.ledger, self._told)
        return Message(self.report(), positions, holds, ended, asks, wanted, self.clock.own(), until)

    def _replied(self, reply: Reply | None, error: FleetError | None) -> None:
        message, self._under_way, self._is_busy = self._under_way, None, False
        if reply is None or message is None:
            self._failed(error)
            return
        answers = self._answered(message, reply)
        assert self._loop is not None
        self.asks.after_answer(message.asks, answers, message.wanted, self._loop.time())
        if reply.recalls:
            self.recall([counter for counter, _ in reply.recalls])
        if self.asks.waiting:
            delay = min(max(0.0, ask.not_before - self._loop.time()) for ask in self.asks.waiting)
            self._loop.call_later(delay, self._pump)

    def _answered(self, message: Message, reply: Reply) -> dict[str, Granted]:
        """Take over what the store has said; return it by counter."""
        self.clock.observe(message.asked_at, self.clock.own(), reply.now)
        self.messages += 1
        self.live, self.last_answer, self.error = reply.live, time.monotonic(), None
        for call in message.holds:
            self._told[call.call_id] = call.draft
        for call_id in message.ended:
            self._told.pop(call_id, None)
        answers: dict[str, Granted] = {}
        for granted in reply.positions:
            if (tracked := self.tracked.get(granted.counter)) is not None:
                tracked.answered(granted, message.until)
                adopt(self.ledger, granted.counter, granted.start, tracked.end_of(granted.start), granted.spent)
                answers[granted.counter] = granted
        return answers

    def _failed(self, error: FleetError | None) -> None:
        self.error = str(error)
        assert self._loop is not None
        self.asks.without_store(self._loop.time())
        if isinstance(error, Superseded):
            self._rejoin()

    def _rejoin(self) -> None:
        """Join again: the fleet had given this node up, or another process goes by its folder."""
        for counter in self.ledger.counters.values():
            counter.lease = Lease(counter.start)
        if self._closed or time.monotonic() - self._joined_at < REJOIN_PAUSE_S:
            logger.error(
                "Another process has joined the fleet as this node: two gateways use copies of one state folder. Delete node.json "
                "in the folder of one of them; this one refuses calls that come under limits"
            )
            return
        self._is_busy = True
        report, names = self.report(), dict.fromkeys(self.shared.anchors)

        def work(store: FleetStore) -> tuple[Joined, dict[str, int]]:
            return store.join(report), store.anchors(names)

        self.agent.submit(work, self._posting(self._rejoined))

    def _rejoined(self, result: tuple[Joined, dict[str, int]] | None, error: FleetError | None) -> None:
        self._is_busy = False
        if result is None:
            self._failed(error)
            return
        logger.warning("This gateway has joined its fleet again")
        self._joined(*result)
        self._pump()

    @property
    def silence_ms(self) -> int:
        """Return how long ago the store last answered."""
        return round((time.monotonic() - self.last_answer) * 1000)
