"""A deterministic simulation of a fleet: nodes, a network that loses, repeats and delays, and the real store on a clock of its own.

    scripts/simulate --seeds 2000 [--first 1]

Nothing here opens a socket, starts a thread or asks the system for the time: a seed names one order of events, which happens
again whenever it is run. The store is the product's own SQL, in SQLite in memory. The nodes are as simple as the protocol lets
a node be; what is checked after every step is what the whole promises, by books that neither side can see.
"""

from __future__ import annotations

import heapq
import itertools
import random
import sqlite3
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sluicegate.fleet.store.engine import Run
from sluicegate.fleet.store.protocol import (
    CONCURRENCY_TTL_MS,
    Correction,
    Granted,
    HeldCall,
    Joined,
    NodeReport,
    Position,
    Reply,
    Superseded,
)
from sluicegate.fleet.store.sql_store import SqlStore
from sluicegate.fleet.store.sqlite import SqliteEngine
from sluicegate.values import Unit

Key = tuple[str, int]
"""A counter and the start of its window."""

TICK_MS, TIMEOUT_MS, IDLE_MS, SLICES = 200, 2_000, 10_000, 4
RECALLS, RECALL_PAUSE_MS = 3, 100

FAULTS_MS, HEALING_MS = 40_000, 15_000
"""How long a fleet lives among faults, and then without."""

EPOCH_MS = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit as every node has it, but for its maximum, which changes while the fleet lives."""

    counter: str
    unit: Unit
    period_ms: int | None
    crosses: bool = False


RULES = (
    Rule("customer/hard/usd/never", "usd", None),
    Rule("team/hard/usd/17s", "usd", 17_000),
    Rule("team/soft/usd/23s", "usd", 23_000, crosses=True),
    Rule("key/a/requests/5s", "requests", 5_000),
    Rule("key/a/concurrent/-", "concurrent", None),
)


class MemoryEngine(SqliteEngine):
    """SQLite without a file."""

    def _connected(self) -> sqlite3.Connection:
        if self._conn is None:
            self._conn = sqlite3.connect(":memory:", isolation_level=None)
            self._conn.create_function("now_ms", 0, self._clock)
        return self._conn

    @contextmanager
    def transaction(self, *, alone: bool = False) -> Iterator[Run]:
        """Begin a transaction; a database in memory must not be closed when one fails."""
        conn = self._connected()
        conn.execute("BEGIN IMMEDIATE")
        try:
            yield self._runner(conn)
        finally:
            if conn.in_transaction:
                conn.execute("ROLLBACK")


@dataclass(slots=True)
class Call:
    """A call in flight: what it holds, and what it will have cost."""

    id: str
    claims: dict[Key, int]
    cost: dict[Key, int]
    since: int = 0
    lapsed: bool = False
    """Whether its node was silent for so long that its place in flight was free for others."""


@dataclass(slots=True)
class Disk:
    """What a node keeps over a crash."""

    used: dict[Key, int] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)


@dataclass(slots=True)
class Ask:
    """A call that waits for room."""

    amounts: dict[str, int]
    since: int
    answers: int = 0
    """Answers to messages that asked for it."""
    recalls: int = 0
    not_before: int = 0


@dataclass(slots=True)
class Message:
    """A message under way."""

    number: int
    sent_at: int
    boot: int
    body: Any
    positions: list[Position] = field(default_factory=list)
    holds: list[HeldCall] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)


class Violation(AssertionError):
    """A promise that was broken."""


class Books:
    """What really happened, and what must hold of it after every step."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.charged: dict[Key, int] = defaultdict(int)
        self.held: dict[Key, int] = defaultdict(int)
        self.corrected: dict[Key, int] = defaultdict(int)
        self.ceiling: dict[Key, int] = defaultdict(int)
        """The highest maximum that any node had for the window, and what operators added to its use."""
        self.growth: dict[Key, int] = defaultdict(int)
        """What calls cost more than they held, which no store can refuse."""
        self.dearest: dict[Key, int] = defaultdict(int)

    def hold(self, node: Node, call: Call) -> None:
        """Note an admitted call."""
        for key, amount in call.claims.items():
            self.held[key] += amount
            self.dearest[key] = max(self.dearest[key], amount)
            self.check(key)
            rule = self._world.rule(key)
            if rule.unit != "concurrent" and not self._world.growing:
                noted = self._world.granted(node, key)
                mine = node.taken(key)
                if mine > noted:
                    raise Violation(f"{node.name} takes {mine} of {key}, and the store has noted {noted}")

    def move(self, before: Mapping[Key, int], after: Mapping[Key, int]) -> None:
        """Note that what a call holds has come into other windows, or has grown."""
        for key, amount in before.items():
            self.held[key] -= amount
        for key, amount in after.items():
            self.held[key] += amount

    def end(self, call: Call) -> None:
        """Note what a call cost."""
        for key, amount in call.claims.items():
            self.held[key] -= amount
            cost = call.cost[key]
            self.charged[key] += cost
            self.growth[key] += max(0, cost - amount)

    def allow(self, key: Key, maximum: int) -> None:
        """Note a maximum that a node goes by."""
        self.ceiling[key] = max(self.ceiling[key], maximum)

    def correct(self, key: Key, change: int) -> None:
        """Note a correction."""
        self.corrected[key] += change

    def check(self, key: Key) -> None:
        """Compare what is spent and held of a window with its limit."""
        rule = self._world.rule(key)
        if rule.unit == "concurrent":
            total = sum(not call.lapsed for node in self._world.nodes for call in node.calls())
            bound = self.ceiling[key]
        else:
            total = self.charged[key] + self.held[key] + min(0, self.corrected[key])
            bound = self.ceiling[key] + self.growth[key]
            if rule.crosses:
                bound += self.dearest[key] - 1
        if total > bound:
            raise Violation(f"{total} of {key} are spent and held, and {bound} is the most")


class Node:
    """A gateway: its numbers on disk, its leases in memory, and one message under way at a time."""

    tells_of_past = True
    """Whether it tells whatever is charged to a window that is over, however long ago."""

    @staticmethod
    def surroundings(world: World) -> AbstractContextManager[None]:
        """Return what must be in force while nodes of this kind live."""
        return nullcontext()

    def __init__(self, world: World, number: int) -> None:
        self.world, self.name, self.id = world, f"node-{number}", f"id-{number}"
        self.skew_ms = world.rng.randint(-3_000, 3_000)
        self.disk, self.backup = Disk(), Disk()
        self.up = False
        self.paused_until = 0
        self.life = 0
        """Counts its starts; what was meant for an earlier one is dropped."""
        self.maximum = dict(world.maximum)
        self.reset()

    def reset(self) -> None:
        """Forget what is in memory alone."""
        self.life += 1
        self.epoch = self.number = 0
        self.offset_ms = 0
        self.granted: dict[Key, int] = {}
        self.until: dict[Key, int] = {}
        self.dirty: set[Key] = set()
        self.last_needed: dict[Key, int] = {}
        self.tight: set[Key] = set()
        self.told: set[str] = set()
        self.asks: list[Ask] = []
        self.anchors: dict[str, int] = {}
        self.under_way: Message | None = None

    # -- what it knows -------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Return the store's time as it believes it to be."""
        return self.world.now + self.skew_ms + self.offset_ms

    def held(self, key: Key) -> int:
        """Return what its calls hold of a window."""
        return sum(call.claims.get(key, 0) for call in self.disk.calls.values())

    def taken(self, key: Key) -> int:
        """Return what it has spent and holds of a window."""
        return self.disk.used.get(key, 0) + self.held(key)

    def key(self, rule: Rule) -> Key:
        """Return the present window of a limit."""
        anchor = self.anchors[rule.counter]
        if rule.period_ms is None:
            return rule.counter, anchor
        return rule.counter, anchor + (self.now() - anchor) // rule.period_ms * rule.period_ms

    # -- calls ---------------------------------------------------------------------------------------------------------

    def arrive(self, amounts: dict[str, int]) -> None:
        """Take a call: admit it by the leases, or ask for room."""
        if self.epoch == 0 or len(self.anchors) < len(RULES):
            self.world.tally["refused, not joined"] += 1
        elif not self.admit(amounts):
            self.asks.append(Ask(amounts, self.world.now))
            self.world.tally["asked"] += 1
            self.send()

    def admit(self, amounts: dict[str, int]) -> bool:
        """Admit a call if it fits the leases."""
        claims = {self.key(rule): amounts[rule.counter] for rule in RULES}
        for key, amount in claims.items():
            self.last_needed[key] = self.world.now
            if self.world.rule(key).unit == "concurrent" and self.world.now >= self.until.get(key, 0):
                return False
            if self.taken(key) + amount > self.granted.get(key, -1):
                return False
        cost = {key: self.world.cost_of(key, amount) for key, amount in claims.items()}
        call = Call(f"call-{next(self.world.ids)}", claims, cost, self.world.now)
        self.disk.calls[call.id] = call
        self.dirty |= claims.keys()
        self.world.books.hold(self, call)
        self.world.tally["admitted"] += 1
        self.world.later(self.world.rng.choice((20, 200, 1_500, 6_000)), self, lambda: self.finish(call))
        return True

    def finish(self, call: Call, *, interrupted: bool = False) -> None:
        """End a call and charge it."""
        if self.disk.calls.pop(call.id, None) is None:
            return
        if interrupted:
            call.cost = {key: 0 if self.world.rule(key).unit == "concurrent" else amount for key, amount in call.claims.items()}
        for key, cost in call.cost.items():
            self.disk.used[key] = self.disk.used.get(key, 0) + cost
        self.dirty |= call.claims.keys()
        self.world.books.end(call)

    # -- messages ------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is done several times a second."""
        if self.up:
            for ask in [a for a in self.asks if self.world.now - a.since >= TIMEOUT_MS]:
                self.asks.remove(ask)
                self.world.tally["given up"] += 1
                if self.world.calm:
                    raise Violation(f"{self.name} has waited for {TIMEOUT_MS} ms, and the store has answered {ask.answers} times")
            self.send()
            self.world.later(TICK_MS, self, self.tick)

    def send(self) -> None:
        """Send what there is to say, unless a message is under way."""
        if self.under_way is not None:
            return
        self.number += 1
        report = NodeReport(self.id, self.name, self.epoch, self.number)
        message = Message(self.number, self.world.now, self.world.now, None)
        self.under_way = message
        store = self.world.store
        if self.epoch == 0:
            message.body = lambda: (store.join(report), store.anchors({rule.counter: None for rule in RULES}))
        else:
            self.say(message)
            message.body = lambda: store.sync(report, message.positions, message.holds, message.ended)
        life = self.life
        self.world.carry(self, message.body, lambda result: self.hear(life, message, result))

    def say(self, message: Message) -> None:
        """Fill a message: what has changed, what is wanted, and what is given back."""
        now = self.world.now
        message.asks = [ask for ask in self.asks if ask.not_before <= now]
        wanted: dict[Key, list[int]] = defaultdict(list)
        for ask in message.asks:
            for rule in RULES:
                wanted[self.key(rule)].append(ask.amounts[rule.counter])
        for key in sorted({*self.dirty, *wanted, *self.granted}):
            rule = self.world.rule(key)
            is_present = key == self.key(rule)
            is_idle = now - self.last_needed.get(key, 0) >= IDLE_MS or not is_present
            keep = 0 if is_idle or key in self.tight else SLICES * 8
            taken = self.taken(key)
            slack = max(0, self.granted.get(key, 0) - taken) if keep else 0
            gives_back = self.granted.get(key, 0) > taken + slack
            if key not in self.dirty and key not in wanted and not gives_back and (not keep or 2 * slack >= keep):
                continue
            if key in self.granted:
                # From here on nothing beyond this is taken without an answer.
                self.granted[key] = min(self.granted[key], taken + slack)
            maximum = self.maximum[rule.counter]
            self.world.books.allow(key, maximum)
            first, *others = wanted.get(key) or [0]
            end = None if rule.period_ms is None else key[1] + rule.period_ms
            used = self.disk.used.get(key, 0)
            position = Position(
                key[0], rule.unit, key[1], end, maximum, rule.crosses, used, taken - used, slack, first, sum(others), keep
            )
            message.positions.append(position)
        self.dirty.clear()
        for call in self.disk.calls.values():
            if call.id not in self.told:
                charges = tuple((k[0], k[1], 0 if self.world.rule(k).unit == "concurrent" else a) for k, a in call.claims.items())
                message.holds.append(HeldCall(call.id, charges, {"id": call.id}))
        message.ended = sorted(self.told - self.disk.calls.keys())

    def hear(self, life: int, message: Message, result: Any) -> None:
        """Take an answer, or the lack of one."""
        if life != self.life or message is not self.under_way:
            return
        self.under_way = None
        if isinstance(result, tuple) and isinstance(result[0], Joined):
            self.joined(*result)
        elif isinstance(result, Reply):
            self.answered(message, result)
        else:
            self.dirty |= {(p.counter, p.start) for p in message.positions}
            if isinstance(result, Superseded):
                self.world.tally["superseded"] += 1
                self.epoch = self.number = 0
                self.granted.clear()
            self.settle_asks([], {})
            return
        self.send_if_needed()

    def joined(self, joined: Joined, anchors: dict[str, int]) -> None:
        """Begin an epoch."""
        self.epoch, self.number = joined.epoch, 0
        self.offset_ms = joined.now - self.world.now - self.skew_ms
        self.anchors = anchors
        self.told.clear()
        for known in joined.known:
            key = known.counter, known.start
            self.disk.used[key] = max(known.spent, self.disk.used.get(key, 0))
            self.dirty.add(key)
        self.dirty |= self.disk.used.keys() | {key for call in self.disk.calls.values() for key in call.claims}

    def answered(self, message: Message, reply: Reply) -> None:
        """Take over leases."""
        measured = reply.now - (message.sent_at + self.world.now) // 2 - self.skew_ms
        if abs(measured - self.offset_ms) > (self.world.now - message.sent_at) // 2 + 5:
            self.offset_ms = measured
        self.told |= {hold.call_id for hold in message.holds}
        self.told -= set(message.ended)
        answers: dict[Key, Granted] = {}
        for position, granted in zip(message.positions, reply.positions, strict=True):
            key = position.counter, position.start
            if granted.spent > position.spent:
                self.disk.used[key] = self.disk.used.get(key, 0) + granted.spent - position.spent
                self.world.tally["adopted"] += 1
            if self.granted.get(key, 0) or granted.granted > self.taken(key) or position.want:
                self.granted[key] = granted.granted
            self.until[key] = message.boot + CONCURRENCY_TTL_MS
            (self.tight.add if granted.tight else self.tight.discard)(key)
            answers[key] = granted
            if not position.keep and granted.granted <= self.taken(key):
                self.granted.pop(key, None)
        self.tight |= set(reply.recalls)
        for ask in message.asks:
            ask.answers += 1
        self.settle_asks(message.asks, answers)

    def settle_asks(self, sent: list[Ask], answers: dict[Key, Granted]) -> None:
        """Try the calls that wait again; refuse the first of a window if the store has."""
        for ask in list(self.asks):
            if self.admit(ask.amounts):
                self.asks.remove(ask)
                self.world.tally["granted"] += 1
        refused = {key: granted for key, granted in answers.items() if not granted.allowed}
        # The store has judged the first; whoever needs no less of the same window need not ask.
        for ask in [a for a in sent if a in self.asks]:
            if not any(ask.amounts[counter] >= sent[0].amounts[counter] for counter, _ in refused):
                continue
            if any(granted.slack_elsewhere for granted in refused.values()) and ask.recalls < RECALLS:
                ask.recalls += 1
                ask.not_before = self.world.now + RECALL_PAUSE_MS
                self.world.later(RECALL_PAUSE_MS, self, self.send_if_needed)
            else:
                self.asks.remove(ask)
                self.world.refused(ask, refused)

    def send_if_needed(self) -> None:
        """Send at once where a call waits, or where another node waits for slack."""
        if not self.up:
            return
        recalled = any(self.granted.get(key, 0) > self.taken(key) for key in self.tight)
        if self.epoch == 0 or recalled or any(ask.not_before <= self.world.now for ask in self.asks):
            self.send()

    # -- its end and its start -----------------------------------------------------------------------------------------

    def kill(self) -> None:
        """End without warning."""
        self.up = False
        self.reset()

    def start(self) -> None:
        """Start with what is on disk: calls that were in flight are charged as interrupted."""
        if not self.up:
            self.reset()
            self.up = True
            for call in list(self.disk.calls.values()):
                self.finish(call, interrupted=True)
            self.tick()

    def back_up(self) -> None:
        """Copy its disk, without the calls in flight."""
        self.backup = Disk(dict(self.disk.used), {})

    def restore(self) -> None:
        """End, and put the copy in the place of its disk."""
        self.kill()
        self.disk = Disk(dict(self.backup.used), {})

    def calls(self) -> list[Call]:
        """Return the calls in flight."""
        return list(self.disk.calls.values())

    def used(self, key: Key) -> int:
        """Return what it has spent of a window."""
        return self.disk.used.get(key, 0)

    def is_told(self) -> bool:
        """Return whether the store has all its numbers."""
        return self.up and self.epoch > 0 and not self.dirty and self.under_way is None and not self.disk.calls


class World:
    """The fleet, its clock, its network, and the faults that a seed chooses."""

    def __init__(self, seed: int, member: type[Node] = Node) -> None:
        self.rng = random.Random(seed)
        self.now = EPOCH_MS
        self._events: list[tuple[int, int, Node | None, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.ids = itertools.count()
        self.tally: Tally[str] = Tally()
        self.steps = 0
        self.growing = self.rng.random() < 0.2
        """Whether calls may cost more than they hold."""
        self.calm = self.rng.random() < 0.2
        """Whether nothing goes wrong: then every call gets its answer soon."""
        self.loss = 0.0 if self.calm else self.rng.choice((0.0, 0.01, 0.05, 0.3))
        self.slowness = 0.0 if self.calm else self.rng.choice((0.0, 0.01, 0.2))
        self.store_down_until = 0
        self.healing = False
        self.rules = {rule.counter: rule for rule in RULES}
        self.maximum = {
            "customer/hard/usd/never": self.rng.choice((2_000, 20_000, 300_000)),
            "team/hard/usd/17s": self.rng.choice((300, 3_000, 50_000)),
            "team/soft/usd/23s": self.rng.choice((300, 3_000, 50_000)),
            "key/a/requests/5s": self.rng.choice((10, 60, 1_000)),
            "key/a/concurrent/-": self.rng.choice((3, 20, 200)),
        }
        self.store = SqlStore(MemoryEngine(Path(), lambda: self.now))
        # The simulation's clock is the only one.
        self.store._purge_at = float("inf")
        self.books = Books(self)
        self.nodes = [member(self, i) for i in range(self.rng.randint(2, 5))]

    def rule(self, key: Key) -> Rule:
        """Return the limit that a window belongs to."""
        return self.rules[key[0]]

    def cost_of(self, key: Key, amount: int) -> int:
        """Choose what a call will have cost."""
        unit = self.rule(key).unit
        if unit != "usd":
            return 0 if unit == "concurrent" else amount
        return self.rng.randint(0, amount * 2 if self.growing and self.rng.random() < 0.1 else amount)

    def granted(self, node: Node, key: Key) -> int:
        """Return what the store has noted as granted to a node."""
        with self.store._engine.transaction() as run:
            sql = "SELECT granted FROM fleet_positions WHERE counter = ? AND starts_at = ? AND node = ?"
            (rows,) = run((sql, (*key, node.id)))
        return int(rows[0][0]) if rows else 0

    def refused(self, ask: Ask, refused: dict[Key, Granted]) -> None:
        """Count a refusal, apart where a single gateway would have admitted the call."""
        full = False
        for key in refused:
            total = self.books.charged[key] + self.books.held[key] + self.books.corrected[key]
            amount = ask.amounts[key[0]]
            full |= total >= self.maximum[key[0]] if self.rule(key).crosses else total + amount > self.maximum[key[0]]
        self.tally["refused, full" if full else "refused, others had room"] += 1

    # -- time and the network ------------------------------------------------------------------------------------------

    def later(self, delay_ms: int, node: Node | None, what: Callable[[], None]) -> None:
        """Do something after a while, unless the node has ended by then."""
        life = node.life if node is not None else 0
        heapq.heappush(self._events, (self.now + delay_ms, next(self._order), node, life, what))

    def run(self, duration_ms: int) -> None:
        """Let time pass."""
        end = self.now + duration_ms
        while self._events and self._events[0][0] <= end:
            at, order, node, life, what = heapq.heappop(self._events)
            self.now = max(self.now, at)
            if node is not None and life != node.life:
                continue
            if node is not None and node.paused_until > self.now:
                # In small steps, because healing ends a pause early.
                heapq.heappush(self._events, (min(node.paused_until, self.now + 100), order, node, life, what))
                continue
            self.steps += 1
            what()
        self.now = end

    def carry(self, node: Node, body: Callable[[], Any], answer: Callable[[Any], None]) -> None:
        """Carry a message to the store and its answer back, or not; the sender learns of silence by a time-out."""
        rng = self.rng
        faulty = not self.healing
        there, back = (rng.choice((2, 20, 300, 2_500)) if faulty and rng.random() < self.slowness else 1 for _ in range(2))
        lost, answer_lost, repeated = ((rng.random() < self.loss and faulty) for _ in range(3))

        def deliver(tell: Callable[[Any], None] | None) -> None:
            if self.now < self.store_down_until:
                return
            self.lapse()
            try:
                result: Any = body()
            except Superseded as e:
                result = e
            if tell is not None:
                self.later(back, node, lambda: tell(result))

        self.later(TIMEOUT_MS, node, lambda: answer(None))
        if not lost:
            self.later(there, None, lambda: deliver(None if answer_lost else answer))
        if repeated:
            self.later(there + rng.choice((0, 1, 500, 4_000)), None, lambda: deliver(None))

    def lapse(self) -> None:
        """Mark the calls in flight of nodes that have been silent for so long that their places are free for others."""
        with self.store._engine.transaction() as run:
            try:
                (rows,) = run(("SELECT id, seen_at FROM fleet_nodes", ()))
            except sqlite3.OperationalError:
                return
        seen: dict[str, int] = {node_id: at for node_id, at in rows}
        for node in self.nodes:
            end = seen.get(node.id, self.now) + CONCURRENCY_TTL_MS
            if self.now >= end:
                for call in node.calls():
                    # Nothing excuses one that was admitted later.
                    call.lapsed = call.lapsed or call.since < end

    # -- what happens --------------------------------------------------------------------------------------------------

    def traffic(self, node: Node, pause_ms: int) -> None:
        """Let calls arrive at a node."""
        if self.healing:
            return
        if node.up:
            dear = self.rng.choice((1, 10, 40))
            amounts = {r.counter: self.rng.randint(1, dear) if r.unit == "usd" else 1 for r in RULES}
            node.arrive(amounts)
        # Arrivals go on over the node's ends, so they belong to nobody's life; a stopped node takes none.
        delay = self.rng.randint(1, 2 * pause_ms)
        self.later(max(delay, node.paused_until - self.now), None, lambda: self.traffic(node, pause_ms))

    def fault(self) -> None:
        """Let something go wrong, and then something else."""
        if self.healing:
            return
        node = self.rng.choice(self.nodes)
        kinds = ("maximum", "correct") if self.calm else ("kill", "kill", "pause", "pause", "cut", "maximum", "correct", "restore")
        kind = self.rng.choice(kinds)
        self.tally[kind] += 1
        if kind == "kill":
            node.kill()
            self.later(self.rng.choice((50, 1_000, 5_000, 14_000)), None, node.start)
        elif kind == "pause":
            node.paused_until = self.now + self.rng.choice((100, 1_000, 4_000, 14_000))
        elif kind == "cut":
            self.store_down_until = self.now + self.rng.choice((100, 1_000, 4_000, 12_000))
        elif kind == "maximum":
            self.change_maximum()
        elif kind == "correct":
            self.correct()
        elif node.is_told():
            node.restore()
            self.later(100, None, node.start)
        else:
            node.back_up()
        self.later(self.rng.choice((10, 500, 2_000, 6_000)), None, self.fault)

    def change_maximum(self) -> None:
        """Change a limit; each node follows when it has seen the new policy."""
        counter = self.rng.choice(tuple(self.maximum))
        self.maximum[counter] = max(1, self.maximum[counter] * self.rng.choice((1, 3, 4)) // self.rng.choice((1, 2, 4)))
        value = self.maximum[counter]
        for node in self.nodes:
            self.later(self.rng.choice((0, 200, 3_000)), None, partial(node.maximum.update, {counter: value}))

    def correct(self) -> None:
        """Correct a window, as an operator does."""
        keys = [key for key in self.books.charged if self.rule(key).unit == "usd"]
        if not keys or self.now < self.store_down_until:
            return
        key = self.rng.choice(keys)
        rule = self.rule(key)
        end = None if rule.period_ms is None else key[1] + rule.period_ms
        correction = Correction(f"c-{next(self.ids)}", *key, end, self.rng.randint(-30, 30))
        change = self.store.adjust(correction)
        if self.store.adjust(correction) != change:
            raise Violation(f"{correction} was made twice")
        self.books.correct(key, change)

    # -- the whole -----------------------------------------------------------------------------------------------------

    def live(self) -> None:
        """Live among faults, then without; then compare the store's books with ours and spend what is left."""
        for node in self.nodes:
            self.later(self.rng.randint(0, 500), None, node.start)
            self.later(self.rng.randint(0, 500), None, partial(self.traffic, node, self.rng.choice((50, 200, 600))))
        self.later(self.rng.randint(500, 3_000), None, self.fault)
        self.run(FAULTS_MS)
        self.heal()
        self.compare()
        self.spend_the_rest()

    def heal(self) -> None:
        """Let every fault end, and all nodes return."""
        self.healing = True
        self.store_down_until = 0
        for node in self.nodes:
            node.paused_until = 0
            node.maximum = dict(self.maximum)
            node.start()
        self.run(HEALING_MS)

    def compare(self) -> None:
        """Compare the store's sums with what calls have cost: each was charged once."""
        found = {(t.counter, t.start): t.used for t in self.store.totals().rows}
        for key in {*found, *self.books.charged}:
            expected = max(0, self.books.charged[key] + self.books.corrected[key])
            rule = self.rule(key)
            is_over = rule.period_ms is not None and key[1] + rule.period_ms <= self.now
            if is_over and not self.nodes[0].tells_of_past and found.get(key, 0) <= expected:
                continue
            if found.get(key, 0) != expected:
                raise Violation(f"the store has {found.get(key, 0)} spent of {key}, and calls have cost {expected}")
        if open_calls := [call.id for node in self.nodes for call in node.calls()]:
            raise Violation(f"calls do not end: {open_calls}")
        if waiting := [ask for node in self.nodes for ask in node.asks]:
            raise Violation(f"calls wait for ever: {waiting}")
        if self.store.interrupted():
            raise Violation("calls of nodes that have returned are still taken for interrupted")

    def spend_the_rest(self) -> None:
        """Ask for all that is left of every window at once: no room may have been lost."""
        node = self.nodes[0]
        positions = []
        for rule in RULES:
            key = node.key(rule)
            total = max(0, self.books.charged[key] + self.books.corrected[key])
            room = self.maximum[rule.counter] - total
            if room > 0:
                end = None if rule.period_ms is None else key[1] + rule.period_ms
                maximum = self.maximum[rule.counter]
                positions.append(Position(rule.counter, rule.unit, key[1], end, maximum, rule.crosses, node.used(key), 0, 0, room))
        node.number += 1
        reply = self.store.sync(NodeReport(node.id, node.name, node.epoch, node.number), positions)
        for position, granted in zip(positions, reply.positions, strict=True):
            if not granted.allowed:
                raise Violation(f"of {position.counter} {position.want} are left and cannot be spent: {granted}")


def simulate(seed: int, member: type[Node] = Node) -> World:
    """Run one seed with nodes of a kind. Raises Violation, with the seed."""
    world = World(seed, member)
    try:
        with member.surroundings(world):
            world.live()
    except Violation as e:
        raise Violation(f"seed {seed}, {world.now - EPOCH_MS} ms: {e}") from e
    finally:
        world.store.close()
    return world
