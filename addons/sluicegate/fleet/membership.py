"""A node's membership in its fleet: what it tells the store, and how a call gets room that no lease has yet.

All of it runs in the proxy's loop, where the ledger is; the agent's thread only carries messages. One message is under way at
a time, and whatever has gathered meanwhile goes with the next: calls that wait at the same moment share one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from sluicegate.fleet.agent import Agent
from sluicegate.fleet.asks import TIMEOUT_S, Ask, Asks
from sluicegate.fleet.message import Message, correct
from sluicegate.fleet.standing import Standing
from sluicegate.fleet.store.protocol import (
    FleetError,
    FleetStore,
    Joined,
    Reply,
    Superseded,
)
from sluicegate.limits.claims import Exhausted
from sluicegate.limits.lease import Lease, SharedCounters
from sluicegate.limits.ledger import Ledger
from sluicegate.limits.shared_windows import move_anchor
from sluicegate.policy.limit import Limit

logger = logging.getLogger("sluicegate")

TICK_S = 0.2
"""How often what has changed is told, and slack is asked for or given back."""

HEARTBEAT_MS = 1_000
"""How often the store hears of a node that has nothing to tell."""

CORRECTION_PAUSE_S = 2.0
"""Pause after corrections that could not be told."""

REJOIN_PAUSE_S = 60.0
"""How long a node that another process has superseded waits before it joins again: two with one folder would take turns."""


class Membership:
    """The loop's side: counters in use, calls that wait, and the message under way."""

    def __init__(self, standing: Standing, agent: Agent) -> None:
        self.standing, self.agent = standing, agent
        self.asks = Asks()
        self.error: str | None = None
        """Why the store has not answered; None while it does."""
        self.policy_here: Callable[[], int | None] = lambda: None
        """Returns the number of the policy that this node has from the store; None where it is not kept there."""
        self.on_policy: Callable[[], None] = lambda: None
        """Called where the store has another."""
        self._under_way: Message | None = None
        self._is_busy = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._correct_at = 0.0
        """When corrections are told again, by the loop's clock."""

    @property
    def ledger(self) -> Ledger:
        """Return what this gateway has used and holds."""
        return self.standing.ledger

    @property
    def shared(self) -> SharedCounters:
        """Return what is shared of the ledger's counters."""
        return self.standing.shared

    # -- the start and the end -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tell the store what changes. In the proxy's loop."""
        if self._timer is None:
            self._loop = asyncio.get_running_loop()
            self.agent.start()
            self._timer = self._loop.call_later(TICK_S, self._tick)

    def join_later(self) -> None:
        """Join with the first message that the store answers."""
        self.standing.joined_at = float("-inf")
        for counter in self.ledger.counters.values():
            counter.lease = Lease(counter.start)

    def leave(self) -> None:
        """Tell the final numbers and give every lease back. Blocking, where the loop has nothing more to do."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.asks.without_store(float("inf"))
        for tracked in self.standing.tracked.values():
            tracked.recalled = True
        self._is_busy = True
        message, made = self.standing.message([], everything=True), list(self.shared.corrections.waiting)

        def work(store: FleetStore) -> None:
            store.sync(message.report, message.positions, message.holds, message.ended)
            store.leave(self.standing.report())
            if made:
                # Those that cannot be told wait in the file.
                correct(store, made)
                self.shared.corrections.confirm(made)

        self.agent.start()
        self.agent.submit(work, lambda _, error: self._left(error))

    def _left(self, error: FleetError | None) -> None:
        if error is not None:
            logger.warning("The fleet's store was not told that this gateway stops; its leases end by themselves: %s", error)

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

    def recall(self, windows: Sequence[tuple[str, int]]) -> None:
        """Give back at once what other nodes wait for."""
        for name, start in windows:
            self.standing.recall(name, start)
        self._pump()

    def hint(self) -> None:
        """Send a message now: its answer will say what others wait for. From any thread, returns at once."""
        if self._loop is not None:
            with suppress(RuntimeError):
                # The loop may have been closed: nobody waits any more.
                self._loop.call_soon_threadsafe(self._pump)

    # -- messages ------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        assert self._loop is not None
        self._timer = self._loop.call_later(TICK_S, self._tick)
        self.asks.drop_ended(self._loop.time())
        now = self.standing.clock()
        is_due = self.standing.silence_ms >= HEARTBEAT_MS or self.standing.is_due(now)
        if is_due or self.asks.waiting or self.shared.corrections.waiting:
            self._pump()

    def _pump(self) -> None:
        """Send what there is to say, unless a message is under way."""
        if self._is_busy or self._closed or self._loop is None:
            return
        if self.shared.corrections.waiting and self._loop.time() >= self._correct_at:
            self._is_busy = True
            self._correct()
            return
        asked = {limit.counter for ask in self.asks.waiting for limit, _ in ask.requested}
        missing = asked - self.shared.anchors.keys()
        self._is_busy = True
        if missing:
            counters = self.ledger.counters
            proposed = {name: counters[name].anchor if name in counters else None for name in missing}
            self.agent.submit(lambda store: store.anchors(proposed), self._posting(self._anchored))
            return
        message = self._under_way = self.standing.message(self.asks.due(self._loop.time()))
        self.agent.submit(
            lambda store: store.sync(message.report, message.positions, message.holds, message.ended), self._posting(self._replied)
        )

    def _correct(self) -> None:
        """Tell the store what operators have changed, until it is known to have it: a second one with the same id does nothing."""
        made = list(self.shared.corrections.waiting)

        def posted(_: None, error: FleetError | None) -> None:
            self._is_busy = False
            if error is not None:
                assert self._loop is not None
                # One that the store does not take must not keep everything else from it.
                self._correct_at = self._loop.time() + CORRECTION_PAUSE_S
                self._failed(error)
            else:
                self.shared.corrections.confirm(made)
                self._pump()

        self.agent.submit(lambda store: correct(store, made), self._posting(posted))

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
                move_anchor(self.ledger, name, anchor, self.standing.clock())
        self._pump()

    def _replied(self, reply: Reply | None, error: FleetError | None) -> None:
        message, self._under_way, self._is_busy = self._under_way, None, False
        if reply is None or message is None:
            self._failed(error)
            return
        self.error = None
        answers = self.standing.answered(message, reply)
        assert self._loop is not None
        self.asks.after_answer(message.asks, answers, message.wanted, self.ledger.counters, self._loop.time())
        if self.policy_here() not in (None, reply.policy):
            self.on_policy()
        if reply.recalls:
            self.recall(reply.recalls)
        if self.asks.waiting:
            delay = min(max(0.0, ask.not_before - self._loop.time()) for ask in self.asks.waiting)
            self._loop.call_later(delay, self._pump)

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
        if self._closed or time.monotonic() - self.standing.joined_at < REJOIN_PAUSE_S:
            logger.error(
                "Another process has joined the fleet as this node: two gateways use copies of one state folder. Delete node.json "
                "in the folder of one of them; this one refuses calls that come under limits"
            )
            return
        self._is_busy = True
        report, names = self.standing.report(), dict.fromkeys(self.shared.anchors)

        def work(store: FleetStore) -> tuple[Joined, dict[str, int]]:
            return store.join(report), store.anchors(names)

        self.agent.submit(work, self._posting(self._rejoined))

    def _rejoined(self, result: tuple[Joined, dict[str, int]] | None, error: FleetError | None) -> None:
        self._is_busy = False
        if result is None:
            self._failed(error)
            return
        logger.warning("This gateway has joined its fleet again")
        self.standing.joined(*result)
        self._pump()
