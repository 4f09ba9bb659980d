"""Both engines under the same messages in any order: they answer alike, and no window is ever taken beyond its limit."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from proving.fleet_simulation import MemoryEngine
from sluicegate.fleet.store.postgresql import PostgresStore
from sluicegate.fleet.store.protocol import CONCURRENCY_TTL_MS, TTL_MS, Correction, HeldCall, NodeReport, Position, Superseded
from sluicegate.fleet.store.sql_store import SqlStore
from support.hypothesis_profiles import examples

COUNTERS = {"hard": ("usd", False, 3_200), "soft": ("usd", True, 3_200), "few": ("requests", False, 64)}
TABLES = ("fleet_anchors", "fleet_nodes", "fleet_windows", "fleet_positions", "fleet_holds", "fleet_corrections")
MEMBERS = st.integers(0, 2)
AMOUNTS = st.sampled_from([1, 20, 90, 700, 1_500])
SLACK = st.sampled_from([0, 1, 100])
NAMES = st.sampled_from(sorted(COUNTERS))


class Member:
    """A node's own numbers, which outlive its starts, and the lease it goes by."""

    def __init__(self) -> None:
        self.epoch = self.number = 0
        self.spent = dict.fromkeys(COUNTERS, 0)
        self.held = dict.fromkeys(COUNTERS, 0)
        self.lease = dict.fromkeys(COUNTERS, 0)

    def taken(self, counter: str) -> int:
        return self.spent[counter] + self.held[counter]


class Stores(RuleBasedStateMachine):
    """Three nodes, and stores that get every message; ``engines`` makes them."""

    engines: list[SqlStore]

    def __init__(self) -> None:
        super().__init__()
        self.members = [Member() for _ in range(3)]
        self.dearest = 1
        self.raised = dict.fromkeys(COUNTERS, 0)

    def everywhere(self, ask):
        """Send to all stores; return what they answer, or None where they refuse the sender."""
        answers = []
        for store in self.engines:
            try:
                answers.append(ask(store))
            except Superseded:
                answers.append(None)
        assert all(answer == answers[0] for answer in answers), answers
        return answers[0]

    def report(self, which: int) -> NodeReport:
        member = self.members[which]
        member.number += 1
        return NodeReport(f"id-{which}", f"node-{which}", member.epoch, member.number)

    def positions(self, which: int, counter: str, slack: int, want: int, keep: int) -> list[Position]:
        unit, crosses, maximum = COUNTERS[counter]
        member = self.members[which]
        return [
            Position(counter, unit, 0, None, maximum, crosses, member.spent[counter], member.held[counter], slack, want, 0, keep)
        ]

    @initialize()
    def begin(self):
        for which in range(len(self.members)):
            self.join(which)

    @rule(which=MEMBERS, counter=NAMES)
    def fill(self, which, counter):
        """Ask for all that is left, which others may have by their leases."""
        room = COUNTERS[counter][2] - sum(member.taken(counter) for member in self.members)
        if room > 0:
            self.dearest = max(self.dearest, room)
            granted = self.tell(which, counter, 0, room)
            if granted is not None and granted.allowed:
                self.members[which].held[counter] += room

    @rule(which=MEMBERS, counter=NAMES)
    def take_all(self, which, counter):
        """Take all of a lease."""
        member = self.members[which]
        self.take(which, counter, member.lease[counter] - member.taken(counter))

    @rule(which=MEMBERS)
    def join(self, which):
        """A start: leases are forgotten, and everything is told again."""
        member = self.members[which]
        joined = self.everywhere(lambda store: store.join(NodeReport(f"id-{which}", f"node-{which}", member.epoch, 0)))
        member.epoch, member.number = joined.epoch, 0
        member.lease = {counter: member.taken(counter) for counter in COUNTERS}
        for counter in COUNTERS:
            self.tell(which, counter, 0)

    def tell(self, which, counter, slack, want=0, keep=0, *, hear=True):
        member = self.members[which]
        member.lease[counter] = min(member.lease[counter], member.taken(counter) + slack)
        positions = self.positions(which, counter, max(0, member.lease[counter] - member.taken(counter)), want, keep)
        report = self.report(which)
        reply = self.everywhere(lambda store: store.sync(report, positions))
        if reply is not None and hear:
            member.lease[counter] = reply.positions[0].granted
            return reply.positions[0]
        return None

    @rule(which=MEMBERS, counter=NAMES, amount=AMOUNTS, slack=SLACK, keep=SLACK, hear=st.booleans())
    def ask(self, which, counter, amount, slack, keep, hear):
        amount = min(amount, 30) if counter == "few" else amount
        self.dearest = max(self.dearest, amount)
        granted = self.tell(which, counter, slack, amount, keep, hear=hear)
        if granted is not None and granted.allowed:
            self.take(which, counter, amount)

    @rule(which=MEMBERS, counter=NAMES, amount=AMOUNTS)
    def take(self, which, counter, amount):
        """Admit a call by the lease alone."""
        member = self.members[which]
        amount = min(amount, 30) if counter == "few" else amount
        if member.epoch and 0 < amount <= member.lease[counter] - member.taken(counter):
            member.held[counter] += amount

    @rule(which=MEMBERS, counter=NAMES, share=st.integers(0, 4))
    def settle(self, which, counter, share):
        """End all calls, for a part of what they hold."""
        member = self.members[which]
        member.spent[counter] += member.held[counter] * share // 4
        member.held[counter] = 0

    @rule(which=MEMBERS, counter=NAMES, amount=AMOUNTS)
    def hold(self, which, counter, amount):
        """Tell of a call in flight, which is charged if the node disappears."""
        held = HeldCall(f"call-{which}", ((counter, 0, amount),), {"id": f"call-{which}"})
        report = self.report(which)
        self.everywhere(lambda store: store.sync(report, [], [held]))

    @rule(which=MEMBERS)
    def repeat(self, which):
        """A message that comes once more, after others."""
        member = self.members[which]
        late = NodeReport(f"id-{which}", f"node-{which}", member.epoch, member.number)
        assert self.everywhere(lambda store: store.sync(late, self.positions(which, "hard", 0, 0, 0))) is None or not member.number

    @rule(delay=st.sampled_from([1, CONCURRENCY_TTL_MS, TTL_MS]))
    def wait(self, delay):
        CLOCK.now += delay

    @rule(counter=st.sampled_from(["hard", "soft"]), amount=st.integers(-300, 300), number=st.integers(0, 5))
    def correct(self, counter, amount, number):
        change = self.everywhere(lambda store: store.adjust(Correction(f"{counter}-{number}", counter, 0, None, amount)))
        self.raised[counter] += max(0, change)

    @invariant()
    def agree(self):
        self.everywhere(lambda store: store.nodes())
        self.everywhere(lambda store: store.totals())
        self.everywhere(lambda store: store.interrupted())

    @invariant()
    def keep_to_the_limits(self):
        """Corrections that took something away only make room, which this does not count on."""
        for counter, (_, crosses, maximum) in COUNTERS.items():
            taken = sum(member.taken(counter) for member in self.members)
            freed = sum(max(0, -t.amount) for t in self.corrections(counter))
            assert taken <= maximum + freed + (self.dearest - 1 if crosses else 0)

    def corrections(self, counter: str) -> list[Correction]:
        with self.engines[0]._engine.transaction() as run:
            (rows,) = run(("SELECT id, amount FROM fleet_corrections WHERE counter = ?", (counter,)))
        return [Correction(number, counter, 0, None, amount) for number, amount in rows]


class Clock:
    now = 1_000_000

    def __call__(self) -> int:
        return self.now


CLOCK = Clock()


def run(open_stores, count: int) -> None:
    class Machine(Stores):
        def __init__(self) -> None:
            super().__init__()
            CLOCK.now = 1_000_000
            self.engines = open_stores()

        def teardown(self) -> None:
            for store in self.engines[:1]:
                store.close()

    steps = settings(max_examples=examples(count), stateful_step_count=25, suppress_health_check=list(HealthCheck), deadline=None)
    run_state_machine_as_test(Machine, settings=steps)


def in_memory() -> SqlStore:
    store = SqlStore(MemoryEngine(Path(), CLOCK))
    store._purge_at = float("inf")
    store.nodes()
    return store


def test_sqlite_keeps_to_the_limits():
    run(lambda: [in_memory()], 24)


def test_postgresql_answers_as_sqlite_does(postgres_schema_url):
    with ExitStack() as stack:
        store = PostgresStore(lambda: psycopg.connect(postgres_schema_url, autocommit=True), CLOCK)
        store._purge_at = float("inf")
        stack.callback(store.close)
        store.nodes()

        def both() -> list[SqlStore]:
            with store._engine.transaction() as run_sql:
                run_sql(*((f"DELETE FROM {table}", ()) for table in TABLES), commit=True)
            return [in_memory(), store]

        run(both, 6)
