"""Members for the simulation of a fleet: gateways' own ledger, membership, asks and messages, on the simulation's clock.

Everything between a call that needs room and the store's answer is the product's; what is simulated is around it: the event
loop, the clocks, the thread that carries messages, the disk, and calls that come and end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import Context
from functools import partial
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

from proving.fleet_simulation import RULES, TIMEOUT_MS, Call, Key, Node, Rule, Violation, World
from sluicegate.fleet.agent import FIRST_PAUSE_S, LONGEST_PAUSE_S, Agent
from sluicegate.fleet.asks import Away
from sluicegate.fleet.followed_clock import FollowedClock
from sluicegate.fleet.membership import Membership
from sluicegate.fleet.message import held_in
from sluicegate.fleet.standing import Standing
from sluicegate.fleet.store.protocol import FleetError, FleetStore, Joined, NodeReport
from sluicegate.limits.claims import Claim, Exhausted, Reservation
from sluicegate.limits.counter import Counter
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import Limit
from sluicegate.windows import parse_period

RETRY_MS = 1_000
"""Pause after a start that did not reach the store."""

RATES = tuple(rule for rule in RULES if rule.unit != "usd")
BUDGETS = tuple(rule for rule in RULES if rule.unit == "usd")


class Loop(asyncio.AbstractEventLoop):
    """A node's event loop, on the simulation's events: they stop with the node, and are gone when it is killed."""

    def __init__(self, node: Member) -> None:
        self._node = node

    def time(self) -> float:
        """Return seconds."""
        return self._node.world.now / 1000

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call in a while."""
        handle = asyncio.TimerHandle(self.time() + delay, callback, args, self, context)
        self._node.world.later(max(0, round(delay * 1000)), self._node, lambda: self._run(handle))
        return handle

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """Call as soon as what is being done is done."""
        return self.call_later(0, callback, *args, context=context)

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future."""
        return asyncio.Future(loop=self)

    def get_debug(self) -> bool:
        """Return whether mistakes are looked for."""
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: one that is cancelled is not run."""

    def call_exception_handler(self, context: Mapping[str, Any]) -> None:
        """Fail, unless it is only that a node ended before a call of its could hear that it is refused."""
        if not str(context.get("message", "")).endswith("never retrieved"):
            self._node.failure = self._node.failure or context.get("exception") or Violation(str(context))

    def enter(self, work: Callable[[], object]) -> None:
        """Do something as the running loop."""
        asyncio._set_running_loop(self)
        try:
            work()
        finally:
            asyncio._set_running_loop(None)
        if self._node.failure is not None:
            raise self._node.failure

    def _run(self, handle: asyncio.TimerHandle) -> None:
        if not handle.cancelled():
            self.enter(handle._run)


class Carrier:
    """In the agent's place: one message after another over the simulated network, with the agent's pauses after failures."""

    def __init__(self, node: Member) -> None:
        self._node = node
        self._tasks: deque[tuple[Callable[[FleetStore], Any], Callable[[Any, FleetError | None], None]]] = deque()
        self._is_busy = False
        self._failures = 0

    def start(self) -> None:
        """Do nothing: there is no thread."""

    def submit(self, work: Callable[[FleetStore], Any], done: Callable[[Any, FleetError | None], None]) -> None:
        """Do something with the store when it is its turn."""
        self._tasks.append((work, done))
        self._go_on()

    def _go_on(self) -> None:
        if self._is_busy or not self._tasks:
            return
        self._is_busy = True
        work, done = self._tasks.popleft()
        world, store = self._node.world, cast(FleetStore, Wire(self._node.world))
        is_answered, life = False, self._node.life

        def body() -> Any:
            return work(store)

        def answer(result: Any) -> None:
            nonlocal is_answered
            if is_answered or life != self._node.life:
                return
            is_answered = True
            error = result if isinstance(result, FleetError) else None if result is not None else FleetError("no answer")
            pause_s = 0.0
            if error is not None:
                self._failures += 1
                pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10))
            else:
                self._failures = 0
            done(None if error is not None else result, error)
            world.later(round(pause_s * 1000), self._node, self._free)

        world.carry(self._node, body, answer)

    def _free(self) -> None:
        self._is_busy = False
        self._go_on()


class Wire:
    """The store as one message reaches it. One that comes again does not begin an epoch again: there, it is the same connection."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._joined: Joined | None = None

    def join(self, report: NodeReport) -> Joined:
        """Begin an epoch, once."""
        if self._joined is None:
            self._joined = self._world.store.join(report)
        return self._joined

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.store, name)


class Member(Node):
    """A gateway's own code as a node of the simulation."""

    tells_of_past = False

    @staticmethod
    def surroundings(world: World) -> AbstractContextManager[None]:
        """Let the product's clocks be the simulation's."""
        return _in_its_time(world)

    def __init__(self, world: World, number: int) -> None:
        self.failure: BaseException | None = None
        self.open: dict[str, Call] = {}
        self.counters: list[Counter] = []
        self.reservations: list[Reservation] = []
        self.saved: list[Counter] = []
        self.coroutines: list[Coroutine[Any, Any, None]] = []
        super().__init__(world, number)

    def reset(self) -> None:
        """Forget what is in memory alone: begin again with what is on disk."""
        self.life += 1
        self.is_joined = False
        for coroutine in self.coroutines:
            coroutine.close()
        self.coroutines.clear()
        self.ledger = Ledger()
        for old in self.counters:
            copy = self.ledger.counters[old.name] = Counter(old.name, old.anchor, old.start, old.end, old.used)
            copy.previous = old.previous
        for reservation in self.reservations:
            claims = [Claim(c.counter, c.unit, c.start, c.amount) for c in reservation.claims]
            restored = Reservation(reservation.call_id, reservation.at, reservation.number, claims)
            if (draft := reservation.draft) is not None:
                restored.draft_by(partial(dict, draft))
            self.ledger.restore(restored)
        self.clock = FollowedClock(lambda: self.world.now + self.skew_ms)
        self.loop = Loop(self)  # type: ignore[abstract]
        self.standing = Standing(self.id, self.name, self.ledger, self.clock, lambda: ("r1", 0))
        self.membership = Membership(self.standing, cast(Agent, Carrier(self)))

    # -- what the simulation asks ----------------------------------------------------------------------------------------

    def now(self) -> int:
        """Return the store's time as it believes it to be."""
        return self.clock()

    def calls(self) -> list[Call]:
        """Return the calls in flight."""
        return list(self.open.values())

    def held(self, key: Key) -> int:
        """Return what its calls hold of a window."""
        return held_in(self.ledger, *key)

    def used(self, key: Key) -> int:
        """Return what it has spent of a window."""
        counter = self.ledger.counters.get(key[0])
        return (counter.used_in(key[1]) if counter is not None else None) or 0

    def taken(self, key: Key) -> int:
        """Return what it has spent and holds of a window."""
        return self.used(key) + self.held(key)

    def key(self, rule: Rule) -> Key:
        """Return the present window of a limit."""
        return rule.counter, self.ledger.usage(self.limit(rule), self.now())[2] if rule.period_ms else self._anchor(rule)

    def _anchor(self, rule: Rule) -> int:
        counter = self.ledger.counters.get(rule.counter)
        return counter.start if counter is not None else self.standing.shared.anchors.get(rule.counter, self.world.now)

    def limit(self, rule: Rule) -> Limit:
        """Return a limit with the maximum that the node goes by now."""
        period = None if rule.unit == "concurrent" else parse_period(rule.counter.rsplit("/", 1)[1])
        kind, scope = rule.counter.split("/")[:2]
        hard = rule.unit == "usd" and not rule.crosses
        return Limit(kind, scope, "VK", rule.unit, self.maximum[rule.counter], period, hard, rule.counter)

    def is_told(self) -> bool:
        """Return whether the store has all its numbers."""
        return (
            self.up and self.is_joined and not self.open and not self.standing.is_due(self.now()) and not self.membership._is_busy
        )

    # Read by the whole's end, which sends a message in the node's name.
    @property
    def epoch(self) -> int:
        """Return which start of the node this is."""
        return self.standing._epoch if hasattr(self, "standing") else 0

    @epoch.setter
    def epoch(self, value: int) -> None: ...

    @property
    def number(self) -> int:
        """Return the number of the last message."""
        return self.standing._number if hasattr(self, "standing") else 0

    @number.setter
    def number(self, value: int) -> None:
        if hasattr(self, "standing"):
            self.standing._number = value

    @property
    def asks(self) -> list[Any]:
        """Return the calls that wait."""
        return self.membership.asks.waiting if hasattr(self, "membership") else []

    @asks.setter
    def asks(self, value: list[Any]) -> None: ...

    # -- its end and its start -----------------------------------------------------------------------------------------

    def kill(self) -> None:
        """End without warning; what was in memory and on disk alike is on disk."""
        self.counters, self.reservations = list(self.ledger.counters.values()), list(self.ledger.open.values())
        self.up = False
        self.reset()

    def back_up(self) -> None:
        """Copy its disk, without the calls in flight."""
        self.saved = [Counter(c.name, c.anchor, c.start, c.end, c.used, 0, c.previous) for c in self.ledger.counters.values()]

    def restore(self) -> None:
        """End, and put the copy in the place of its disk."""
        self.kill()
        self.counters, self.reservations = self.saved, []
        self.reset()

    def start(self) -> None:
        """Start with what is on disk: calls that were in flight are charged as interrupted."""
        if self.up:
            return
        self.up = True
        for call_id, reservation in list(self.ledger.open.items()):
            self._end(call_id, reservation.draft["cost_nano"] if reservation.draft else None)
        self._join()

    def _join(self) -> None:
        world = self.world
        if world.now < world.store_down_until or (not world.healing and world.rng.random() < world.loss):
            world.later(RETRY_MS, self, self._join)
            return
        world.lapse()
        self.standing.join(cast(FleetStore, world.store))
        self.is_joined = True
        self.loop.enter(self.membership.start)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def arrive(self, amounts: dict[str, int]) -> None:
        """Take a call."""
        if not self.is_joined:
            self.world.tally["refused, not joined"] += 1
            return
        self.loop.enter(lambda: self._begin(f"call-{next(self.world.ids)}", amounts))

    def _begin(self, call_id: str, amounts: dict[str, int]) -> None:
        coroutine = self._admit(call_id, amounts)
        self.coroutines.append(coroutine)
        task = asyncio.Task(coroutine, loop=self.loop)
        # It is, with its node.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.add_done_callback(self._look)

    def _look(self, task: asyncio.Task[None]) -> None:
        self.failure = self.failure or task.exception()

    async def _admit(self, call_id: str, amounts: dict[str, int]) -> None:
        """Hold what a call asks of its rate limits, then its money, as the chain does."""
        call = Call(call_id, {}, {}, self.world.now)
        for rules in (RATES, BUDGETS):
            if not await self._reserve(call, rules, amounts):
                self.ledger.release(call_id)
                if self.open.pop(call_id, None) is not None:
                    call.cost = dict.fromkeys(call.claims, 0)
                    self.world.books.end(call)
                return
        # By its dearest claim, a crash would charge more than another window holds for it.
        least = min(amounts[rule.counter] for rule in BUDGETS)
        self.ledger.hold_open(call_id, self.now(), partial(dict, id=call_id, cost_nano=least, status=200))
        self.world.tally["admitted"] += 1
        self.loop.call_later(self.world.rng.choice((0.02, 0.2, 1.5, 6.0)), self._finish, call_id, least)

    async def _reserve(self, call: Call, rules: Sequence[Rule], amounts: dict[str, int]) -> bool:
        world = self.world
        requested = [(self.limit(rule), amounts[rule.counter]) for rule in rules]

        def attempt() -> Exhausted | None:
            for limit, _ in requested:
                world.books.allow((limit.counter, self.ledger.counter(limit, self.now()).start), limit.maximum)
            exhausted = self.ledger.reserve(call.id, requested, self.now())
            if exhausted is None:
                call.since = world.now if rules is RATES else call.since
                self.open[call.id] = call
                names = {limit.counter for limit, _ in requested}
                claims = {(c.counter, c.start): c.amount for c in self.ledger.open[call.id].claims if c.counter in names}
                call.claims.update(claims)
                world.books.hold(self, Call(call.id, claims, {}))
            return exhausted

        exhausted = attempt()
        if exhausted is not None:
            began = world.now
            world.tally["asked"] += 1
            try:
                exhausted = await self.membership.make_room(requested, attempt)
            except Away:
                world.tally["given up"] += 1
                if world.calm:
                    raise Violation(f"{self.name} has waited for {world.now - began} ms, and got no answer") from None
                return False
            if exhausted is None:
                world.tally["granted"] += 1
            elif world.now - began > TIMEOUT_MS and world.calm:
                raise Violation(f"{self.name} has waited for {world.now - began} ms to be refused")
            else:
                self._count_refusal(exhausted)
        return exhausted is None

    def _count_refusal(self, exhausted: Exhausted) -> None:
        limit = exhausted.limit
        key = limit.counter, self.ledger.counters[limit.counter].start
        books = self.world.books
        total = books.charged[key] + books.held[key] + books.corrected[key]
        is_full = total + exhausted.asked > limit.maximum if limit.only_what_fits else total >= limit.maximum
        self.world.tally["refused, full" if is_full else "refused, others had room"] += 1

    def _finish(self, call_id: str, least: int) -> None:
        grows = self.world.growing and self.world.rng.random() < 0.1
        self._end(call_id, self.world.rng.randint(0, least * 2 if grows else least))

    def _end(self, call_id: str, cost: int | None) -> None:
        """Charge a call, or give everything back of one that was never sent."""
        call, reservation = self.open.pop(call_id), self.ledger.open[call_id]
        units = {"usd": cost or 0, "requests": int(cost is not None), "tokens": 0, "concurrent": 0}
        # Windows may have moved: a call is charged where its claims are now.
        claims = {(c.counter, c.start): c.amount for c in reservation.claims}
        if claims.keys() != call.claims.keys():
            self.world.tally["moved"] += 1
        self.world.books.move(call.claims, claims)
        call.claims, call.cost = claims, {(c.counter, c.start): units[c.unit] for c in reservation.claims}
        for counter, start in claims:
            if self.ledger.counters[counter].used_in(start) is None:
                # Two windows later only its record has what it cost.
                call.cost[counter, start] = 0
                self.world.tally["long over"] += 1
        self.ledger.settle(call_id, units)  # type: ignore[arg-type]
        self.ledger.close(call_id)
        self.world.books.end(call)


@contextmanager
def _in_its_time(world: World) -> Iterator[None]:
    monotonic = SimpleNamespace(monotonic=lambda: world.now / 1000)

    def boot_clock() -> int:
        return world.now * 1_000_000

    with ExitStack() as stack:
        for where in ("sluicegate.fleet.standing.time", "sluicegate.fleet.membership.time"):
            stack.enter_context(patch(where, monotonic))
        for where in ("sluicegate.fleet.standing.boot_clock", "sluicegate.limits.lease.boot_clock"):
            stack.enter_context(patch(where, boot_clock))
        try:
            yield
        finally:
            for node in world.nodes:
                node.reset()
