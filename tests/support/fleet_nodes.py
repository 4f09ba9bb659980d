"""Nodes of a fleet without loops or connections: their ledgers, what they tell a real store, and messages that may be lost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from proving.fleet_simulation import MemoryEngine
from sluicegate.fleet.asks import Ask
from sluicegate.fleet.followed_clock import FollowedClock
from sluicegate.fleet.membership import HEARTBEAT_MS
from sluicegate.fleet.standing import Standing
from sluicegate.fleet.store.protocol import Granted
from sluicegate.fleet.store.sql_store import SqlStore
from sluicegate.limits.claims import Exhausted
from sluicegate.limits.ledger import Ledger
from sluicegate.limits.shared_windows import move_anchor
from sluicegate.policy.limit import Limit, counter_name
from sluicegate.values import Unit
from sluicegate.windows import parse_period

HOUR_MS, TICK_MS, IDLE_MS = 3_600_000, 200, 11_000
KINDS: dict[str, tuple[Unit, bool]] = {"hard": ("usd", True), "soft": ("usd", False), "few": ("requests", False)}


class World:
    """A clock, a store on it, and nodes."""

    def __init__(self, nodes: int) -> None:
        self.now = 1_700_000_000_000
        self.store = SqlStore(MemoryEngine(Path(), lambda: self.now))
        self.store._purge_at = float("inf")
        self.maximum = dict.fromkeys(KINDS, 3_200) | {"few": 64}
        self.ids = itertools.count()
        self.nodes = [Node(self, f"n{i}") for i in range(nodes)]

    def limit(self, kind: str) -> Limit:
        unit, hard = KINDS[kind]
        name = counter_name("virtual_key", kind, unit, "1h")
        return Limit("virtual_key", kind, kind, unit, self.maximum[kind], parse_period("1h"), hard, name)

    def noted(self, counter: str, start: int) -> tuple[int, int, int]:
        """Return the sums that the store has of what nodes have spent, hold, and may take."""
        with self.store._engine.transaction() as run:
            sums = "SELECT coalesce(sum(spent), 0), coalesce(sum(held), 0), coalesce(sum(granted), 0) FROM fleet_positions"
            ((row,),) = run((f"{sums} WHERE counter = ? AND starts_at = ?", (counter, start)))
        return row

    def heal(self) -> None:
        """Let all nodes speak with the store until slack that no call needs is given back."""
        for tick in range(IDLE_MS // TICK_MS):
            self.now += TICK_MS
            for node in self.nodes:
                # As a node does by itself: what has changed at once, and a sign of life each second.
                if tick % (HEARTBEAT_MS // TICK_MS) == 0 or node.standing.is_due(node.standing.clock()):
                    node.tell()


class Node:
    """A node whose messages meet the given fate."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.ledger = world, Ledger()
        self.standing = Standing(name, name, self.ledger, FollowedClock(lambda: world.now), lambda: ("r1", 0))
        self.standing.join(world.store)

    def tell(self, asks: Sequence[Ask] = (), fate: str = "answered") -> dict[str, Granted] | None:
        """Send a message, which may be lost, or its answer; return what the store said where that is heard."""
        message = self.standing.message(asks)
        if fate == "lost":
            return None
        reply = self.world.store.sync(message.report, message.positions, message.holds, message.ended)
        if fate == "unanswered":
            return None
        answers = self.standing.answered(message, reply)
        for counter, start in reply.recalls:
            self.standing.recall(counter, start)
        return answers

    def call(self, kind: str, amount: int, fate: str = "answered") -> str | None:
        """Return the id of a call that was admitted, after asking the store where its lease does not suffice."""
        call_id, requested = f"call-{next(self.world.ids)}", [(self.world.limit(kind), amount)]

        def attempt() -> Exhausted | None:
            return self.ledger.reserve(call_id, requested, self.world.now)

        if attempt() is None:
            return call_id
        name = requested[0][0].counter
        if name not in self.standing.shared.anchors:
            self.standing.shared.anchors |= self.world.store.anchors({name: self.ledger.counters[name].anchor})
            move_anchor(self.ledger, name, self.standing.shared.anchors[name], self.world.now)
        nobody_waits: Any = Future()
        self.tell([Ask(requested, attempt, 0.0, nobody_waits)], fate)
        return call_id if attempt() is None else None
