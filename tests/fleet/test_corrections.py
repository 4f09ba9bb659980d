"""Corrections by operators count once over all gateways, whatever is killed when and however long the store is away."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sluicegate.calls.adjustment import adjustment_of, charge, foresee
from sluicegate.fleet.followed_clock import FollowedClock
from sluicegate.fleet.message import correct
from sluicegate.fleet.standing import Standing
from sluicegate.fleet.store.sqlite import SqliteStore
from sluicegate.limits.ledger import Ledger, reset
from sluicegate.storage.journal import Journal
from sluicegate.storage.recovery import recover
from sluicegate.storage.store import Store
from sluicegate.storage.writer import Writer
from support.calls import BUDGET, record, reserve

NOW = 2_000

STEPS = ("charged", "written", "sent", "told", "forgotten")
"""What has been done of a correction when the gateway is killed."""


@dataclass
class Node:
    """One gateway's files, and the store: opened again after each kill, as a start does."""

    folder: Path
    fleet: SqliteStore
    opened: list = field(default_factory=list)

    def start(self) -> None:
        self.store, self.journal = Store(self.folder / "sluicegate.db"), Journal(self.folder / "audit.jsonl")
        self.opened += self.store, self.journal
        self.ledger = Ledger()
        self.store.load(self.ledger)
        self.standing = Standing("n0", "n0", self.ledger, FollowedClock(lambda: NOW), lambda: ("r1", 0))
        recover(self.store, self.journal, self.ledger)
        self.writer = Writer(self.store, self.journal, self.ledger, [0, 0])
        self.standing.join(self.fleet)

    def spend(self, amount: int) -> None:
        self.ledger.counter(BUDGET, NOW // 2).lease.granted = amount
        reserve(self.store, self.ledger, "a", amount)
        self.ledger.settle("a", {"usd": amount})
        self.ledger.close("a")
        self.writer.record(record("a", amount))
        self.writer.flush()

    def adjust(self, amount: int) -> None:
        made = adjustment_of("adj_1", NOW, amount, reason="wrong", actor="dana", policy_revision="r", call_id="a")
        charge(self.ledger, made, [(BUDGET.counter, self.ledger.counters[BUDGET.counter].end)])
        self.writer.adjust(made)

    def deliver(self, last: str) -> None:
        """Do what follows a correction up to a step."""
        corrections = self.standing.shared.corrections
        for step in STEPS[1 : STEPS.index(last) + 1]:
            if step in ("written", "forgotten"):
                self.writer.flush()
            elif step == "sent":
                made = list(corrections.waiting)
                correct(self.fleet, made)
            else:
                corrections.confirm(made)

    def used(self) -> int:
        (total,) = self.fleet.totals().rows
        return total.used


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path, SqliteStore(tmp_path / "fleet.db", lambda: NOW))
    made.start()
    made.spend(700)
    made.start()
    yield made
    for one in (*made.opened, made.fleet):
        one.close()


@pytest.mark.parametrize("amount", [-300, 50])
@pytest.mark.parametrize("killed_after", STEPS)
def test_an_adjustment_counts_once_whenever_its_gateway_is_killed(node, killed_after, amount):
    node.adjust(amount)
    node.deliver(killed_after)
    # A second kill finds the first start's work half done.
    for step in (killed_after, "forgotten"):
        node.start()
        # Its own use is what its calls have cost: the correction is apart from it.
        assert node.ledger.counters[BUDGET.counter].used == 700
        node.deliver(step)
    assert node.used() == 700 + amount
    assert len(node.store.adjustments_since(0)) == 1
    assert node.store.waiting_corrections() == []
    node.start()
    assert (node.standing.shared.corrections.waiting, node.used()) == ([], 700 + amount)


@pytest.mark.parametrize("killed_after", STEPS)
def test_a_reset_that_was_answered_counts_once(node, killed_after):
    assert reset(node.ledger, BUDGET, NOW) == 700
    node.deliver(killed_after)
    node.start()
    node.deliver("forgotten")
    # It is answered once it is on file; before that nobody has been told.
    assert node.used() == (700 if killed_after == "charged" else 0)


def test_the_store_knows_another_beginning_of_windows_than_the_gateway_that_corrects(node, tmp_path):
    (tmp_path / "other").mkdir()
    late = Node(tmp_path / "other", node.fleet)
    late.store, late.journal, late.ledger = (
        Store(tmp_path / "other/sluicegate.db"),
        Journal(tmp_path / "other/audit.jsonl"),
        Ledger(),
    )
    late.opened += late.store, late.journal
    late.standing = Standing("n1", "n1", late.ledger, FollowedClock(lambda: NOW), lambda: ("r1", 0))
    late.writer = Writer(late.store, late.journal, late.ledger, [0, 0])
    late.ledger.counter(BUDGET, NOW)
    late.adjust(40)
    late.deliver("forgotten")
    for one in late.opened:
        one.close()
    assert node.used() == 740


def test_what_a_dry_run_foresees_changes_nothing(node):
    planned = adjustment_of("adj_2", NOW, -900, reason="wrong", actor="dana", policy_revision="r", call_id="a")
    before = node.ledger.usage(BUDGET, NOW)
    foresee(node.ledger, planned, [(BUDGET.counter, node.ledger.counters[BUDGET.counter].end)])
    assert [change for *_, change in planned["charges"]] == [-700]
    assert (node.ledger.usage(BUDGET, NOW), node.standing.shared.corrections.waiting) == (before, [])
