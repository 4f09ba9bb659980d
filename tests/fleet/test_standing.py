"""What a node says of its counters, against the real store: messages that are lost, windows that turn, limits that change."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import Future

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sluicegate.fleet.asks import Ask
from sluicegate.fleet.followed_clock import FollowedClock
from sluicegate.fleet.message import held_in
from sluicegate.fleet.standing import Standing
from sluicegate.limits.counter import Counter
from sluicegate.limits.ledger import forget_changes
from support.fleet_nodes import HOUR_MS, IDLE_MS, KINDS, TICK_MS, Node, World
from support.hypothesis_profiles import examples


def test_what_the_others_have_used_since_is_looked_at_for_alerts():
    world = World(2)
    one, other = world.nodes
    name = world.limit("hard").counter
    for node in (one, other):
        node.ledger.settle(node.call("hard", 10), {"usd": 10})
        node.tell()
    # As the notifier does: it has looked at all that it knew of.
    for node in (one, other):
        node.ledger.charged.clear()
    one.tell([Ask([(world.limit("hard"), 1)], lambda: None, 0.0, Future())])
    assert (one.ledger.counters[name].used_by_all, one.ledger.charged) == (20, {name})
    one.ledger.charged.clear()
    one.tell([Ask([(world.limit("hard"), 1)], lambda: None, 0.0, Future())])
    assert one.ledger.charged == set()


def test_others_do_not_seem_to_have_used_less_while_a_charge_is_not_told():
    world = World(2)
    one, other = world.nodes
    name = world.limit("hard").counter
    for node in (one, other):
        node.ledger.settle(node.call("hard", 10), {"usd": 10})
        node.tell()
    one.ledger.settle(one.call("hard", 5), {"usd": 5})
    for node in (one, other):
        for total in world.store.totals(node=node.standing.id).rows:
            node.standing.learn(total)
    assert (one.ledger.counters[name].used_by_all, other.ledger.counters[name].used_by_all) == (25, 20)
    one.tell()
    (total,) = world.store.totals(node="n1").rows
    other.ledger.charged.clear()
    other.standing.learn(total)
    assert (other.ledger.counters[name].used_by_all, other.ledger.charged) == (25, {name})


def test_slack_that_a_lowered_limit_has_no_room_for_is_given_back():
    world = World(2)
    one, other = world.nodes
    call = one.call("hard", 100)
    assert one.ledger.counters[world.limit("hard").counter].lease.granted > 100
    assert other.call("hard", 1_000)
    other.tell()
    world.maximum["hard"] = 1_050
    assert one.tell([Ask([(world.limit("hard"), 1)], lambda: None, 0.0, Future())])[world.limit("hard").counter].allowed is False
    assert one.standing.tracked[world.limit("hard").counter].is_due(world.now)
    one.tell()
    counter = one.ledger.counters[world.limit("hard").counter]
    assert world.noted(counter.name, counter.start) == (0, 1_100, 1_100 + other.standing.tracked[counter.name].slack)
    one.ledger.settle(call, {"usd": 0})


def test_what_was_asked_for_before_a_start_is_given_back():
    world = World(1)
    (node,) = world.nodes
    assert node.call("hard", 2_000, "unanswered") is None
    node.standing.join(world.store)
    counter = node.ledger.counters[world.limit("hard").counter]
    assert world.noted(counter.name, counter.start) == (0, 0, 0)


def test_what_was_asked_for_in_a_window_that_is_over_since_is_given_back_at_a_start():
    world = World(1)
    (node,) = world.nodes
    assert node.call("hard", 2_000, "unanswered") is None
    counter = node.ledger.counters[world.limit("hard").counter]
    world.now += HOUR_MS
    node.standing.join(world.store)
    assert world.noted(counter.name, counter.start) == (0, 0, 0)


def test_a_start_tells_of_no_window_that_is_long_over():
    world = World(1)
    (node,) = world.nodes
    node.ledger.settle(node.call("hard", 10), {"usd": 10})
    for passed, told in ((HOUR_MS, ["hard"]), (HOUR_MS, [])):
        world.now += passed
        node.standing.join(world.store)
        assert [tracked.counter.name.split("/")[1] for tracked in node.standing.tracked.values()] == told


@pytest.mark.parametrize("fate", ["lost", "unanswered"])
def test_what_was_asked_for_in_vain_is_given_back(fate):
    world = World(1)
    (node,) = world.nodes
    assert node.call("hard", 10)
    assert node.call("hard", 2_000, fate) is None
    node.tell()
    counter = node.ledger.counters[world.limit("hard").counter]
    assert world.noted(counter.name, counter.start) == (0, 10, 10 + node.standing.tracked[counter.name].slack)


@pytest.mark.parametrize("fate", ["lost", "unanswered", "answered"])
def test_the_store_forgets_a_call_that_has_ended_though_it_never_said_that_it_knows_it(fate):
    world = World(1)
    (node,) = world.nodes
    call_id = node.call("hard", 10)
    node.ledger.open[call_id].draft_by(lambda: {"id": call_id, "cost_nano": 10})
    assert node.standing.is_due(world.now)
    node.tell(fate=fate)
    node.ledger.settle(call_id, {"usd": 10})
    world.heal()
    with world.store._engine.transaction() as run:
        assert run(("SELECT call_id FROM fleet_holds", ())) == [[]]


def test_a_recall_of_a_counter_that_is_not_in_use_gives_its_slack_back():
    world = World(2)
    one, other = world.nodes
    call = one.call("hard", 10)
    one.ledger.settle(call, {"usd": 10})
    one.tell()
    one.standing.tracked.clear()
    assert other.call("hard", 3_190) is None
    one.tell()
    one.tell()
    assert other.call("hard", 3_190)


def test_a_recall_of_a_window_that_the_node_does_not_know_gives_its_slack_back():
    world = World(2)
    one, other = world.nodes
    one.ledger.settle(one.call("hard", 10), {"usd": 10})
    one.tell()
    one.standing.tracked.clear()
    one.ledger.counters.clear()
    assert other.call("hard", 3_190) is None
    one.tell()
    one.tell()
    # What it has spent stays.
    assert other.call("hard", 3_191) is None
    assert other.call("hard", 3_190)


def test_what_a_start_charges_from_the_journal_counts_once():
    world = World(2)
    one, other = world.nodes
    one.ledger.settle(one.call("hard", 10), {"usd": 10})
    counter = one.ledger.counters[world.limit("hard").counter]
    # As after a start: what is on file has no lease yet, and a line of the journal has no row.
    counter.lease = None
    standing = Standing("n0", "n0", one.ledger, FollowedClock(lambda: world.now), lambda: ("r1", 0))
    one.ledger.adjust(counter.name, counter.end, 1_000)
    standing.join(world.store)
    assert (counter.used, standing.shared.corrections.waiting) == (1_010, [])
    assert other.call("hard", 3_200 - 1_010)


@pytest.mark.parametrize("fate", ["lost", "unanswered", "answered"])
def test_what_is_charged_to_a_window_that_is_over_reaches_the_store(fate):
    world = World(1)
    (node,) = world.nodes
    call = node.call("hard", 10)
    counter = node.ledger.counters[world.limit("hard").counter]
    start = counter.start
    world.now += HOUR_MS
    assert node.call("hard", 1)
    node.ledger.settle(call, {"usd": 7})
    node.tell(fate=fate)
    node.tell()
    node.tell()
    assert world.noted(counter.name, start)[:2] == (7, 0)


@pytest.mark.parametrize("has_called_since", [False, True])
def test_a_call_of_a_window_that_is_over_is_charged_there_though_its_node_joins_again(has_called_since):
    world = World(2)
    one, other = world.nodes
    call = one.call("hard", 800)
    counter = one.ledger.counters[world.limit("hard").counter]
    start = counter.start
    world.now += HOUR_MS
    if has_called_since:
        one.ledger.settle(one.call("hard", 1), {"usd": 0})
    # It takes no room of the present window, which the other node may have all of.
    one.standing.join(world.store)
    one.tell()
    assert other.call("hard", 3_200)
    one.ledger.settle(call, {"usd": 600})
    one.tell()
    assert world.noted(counter.name, start) == (600, 0, 600)
    assert world.noted(counter.name, start + HOUR_MS)[2] == 3_200


FATES = st.sampled_from(["answered", "answered", "answered", "lost", "unanswered"])
WHICH, KIND = st.integers(0, 2), st.sampled_from(sorted(KINDS))
AMOUNTS = st.sampled_from([1, 20, 90, 700, 1_500])


class Nodes(RuleBasedStateMachine):
    """Three nodes in any order of calls, losses, restarts, limits and windows."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(3)
        self.open: list[tuple[Node, str, str]] = []
        self.spent: dict[tuple[str, int], int] = defaultdict(int)
        self.untold: set[tuple[str, int]] = set()
        """Windows that were long over when a node started which had been in them."""
        self.most = dict(self.world.maximum)
        self.dearest = 1

    @rule(which=WHICH, kind=KIND, amount=AMOUNTS, fate=FATES)
    def call(self, which, kind, amount, fate):
        amount = min(amount, 30) if kind == "few" else amount
        self.dearest = max(self.dearest, amount)
        node = self.world.nodes[which]
        if (call := node.call(kind, amount, fate)) is not None:
            self.open.append((node, kind, call))

    @rule(which=WHICH, kind=KIND, fate=FATES)
    def take_all_that_is_left(self, which, kind, fate):
        name = self.world.limit(kind).counter
        taken = sum(self.taken(name, start) for start in self.starts(name)[-1:])
        self.call(which, kind, max(1, self.world.maximum[kind] - taken), fate)

    @rule(which=WHICH, fate=FATES)
    def tell(self, which, fate):
        self.world.nodes[which].tell(fate=fate)

    @rule(number=st.integers(0, 9), share=st.integers(0, 4))
    def settle(self, number, share):
        if self.open:
            node, kind, call = self.open.pop(number % len(self.open))
            (claim,) = node.ledger.open[call].claims
            amount = claim.amount * share // 4
            self.spent[claim.counter, claim.start] += amount
            node.ledger.settle(call, {KINDS[kind][0]: amount})
            forget_changes(node.ledger)

    @rule(which=WHICH)
    def start_again(self, which):
        standing = self.world.nodes[which].standing
        standing.join(self.world.store)
        for name, counter in standing.ledger.counters.items():
            known = (counter.start, *(counter.previous or ())[:1])
            self.untold |= {(name, start) for start in known if start + 2 * HOUR_MS <= self.world.now}

    @rule(delay=st.sampled_from([TICK_MS, 2_000, IDLE_MS, HOUR_MS // 2]))
    def wait(self, delay):
        self.world.now += delay

    @rule(kind=KIND, share=st.sampled_from([1, 2, 4, 6]))
    def change_the_limit(self, kind, share):
        self.world.maximum[kind] = (64 if kind == "few" else 3_200) * share // 4
        self.most[kind] = max(self.most[kind], self.world.maximum[kind])

    def starts(self, name: str) -> list[int]:
        return sorted({node.ledger.counters[name].start for node in self.world.nodes if name in node.ledger.counters})

    def taken(self, name: str, start: int) -> int:
        return self.spent[name, start] + sum(held_in(node.ledger, name, start) for node in self.world.nodes)

    @invariant()
    def keep_to_the_limits(self):
        for kind, (_, hard) in KINDS.items():
            name = self.world.limit(kind).counter
            allowed = self.most[kind] + (self.dearest - 1 if kind == "soft" and not hard else 0)
            for start in self.starts(name):
                assert self.taken(name, start) <= allowed

    def counters(self, name: str) -> list[Counter]:
        return [node.ledger.counters[name] for node in self.world.nodes if name in node.ledger.counters]

    @rule()
    def heal(self):
        """Once all calls are over and all nodes heard: the store has what was spent, and nothing else is taken.

        So it is in each node's present window and the one before. What a node spends in one before that stands in records alone,
        and one that starts tells of no window that is as long over as that.
        """
        while self.open:
            self.settle(0, 3)
        self.world.heal()
        for kind in KINDS:
            name = self.world.limit(kind).counter
            counters = self.counters(name)
            left = max((c.previous[0] for c in counters if c.previous is not None), default=0)
            for start in {*(c.start for c in counters), *(c.previous[0] for c in counters if c.previous is not None)}:
                spent, noted = self.spent[name, start], self.world.noted(name, start)
                is_told = start >= left and (name, start) not in self.untold
                assert noted == (spent, 0, spent) if is_told else noted[0] <= spent

    def teardown(self):
        self.heal()


def test_nodes_keep_to_the_limits_and_lose_no_room():
    steps = settings(max_examples=examples(16), stateful_step_count=25, suppress_health_check=list(HealthCheck), deadline=None)
    run_state_machine_as_test(Nodes, settings=steps)
