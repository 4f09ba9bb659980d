"""The simulation of a fleet: its promises hold, the same seed tells the same story, and what it is meant to find it finds."""

from __future__ import annotations

import pytest

from proving import fleet_simulation
from proving import simulate as command
from proving.fleet_members import Member
from proving.fleet_simulation import Node, Violation, simulate
from sluicegate.fleet.store import sql_store
from sluicegate.fleet.store.arbitration import decide
from sluicegate.fleet.tracked import Tracked
from sluicegate.limits.lease import Lease


@pytest.mark.parametrize(("seed", "kind"), [(3, Node), (6, Node), (3, Member), (6, Member)])
def test_no_promise_is_broken(seed, kind):
    world = simulate(seed, kind)
    assert world.tally["admitted"] > 10, world.tally


@pytest.mark.parametrize("kind", [Node, Member])
def test_a_seed_names_one_order_of_events(monkeypatch, kind):
    monkeypatch.setattr(fleet_simulation, "FAULTS_MS", 4_000)
    one, other = simulate(24, kind), simulate(24, kind)
    assert (one.steps, one.tally, one.books.charged) == (other.steps, other.tally, other.books.charged)


def trust_every_lease(position, window):
    """Judge as if no other node had slack."""
    return decide(position, window._replace(others=window.others - window.slack_elsewhere))


def take_no_lease_back(position, window):
    """Judge as if a node kept all that it was ever granted."""
    decision = decide(position, window)
    return decision._replace(noted=max(decision.noted, position.maximum // 8))


def accept_late_messages(node, rows):
    """Take a message for the next one whatever its number is."""
    epoch, _, *others = rows[0]
    return accept(node, [(epoch, node.number - 1, *others)])


def go_by_the_old_lease(node, message):
    """Go by more, until the answer comes, than the message says."""
    before = dict(node.granted)
    say(node, message)
    node.granted.update(before)


def go_by_what_was_leased(tracked, now, wanted, held_in):
    """The same in the gateway's own code."""
    before = tracked.counter.lease
    start, granted = (before.start, before.granted) if before is not None else (0, 0)
    yield from positions(tracked, now, wanted, held_in)
    lease = tracked.counter.lease
    if lease.start == start:
        lease.granted = max(lease.granted, granted)


def go_by_a_lease_of_another_window(lease, start, taken, amount):
    """Take what was granted of the window before."""
    return admits(lease, lease.start, taken, amount)


accept, say, positions, admits = sql_store._own, Node.say, Tracked.positions, Lease.admits


@pytest.mark.parametrize(
    ("where", "name", "planted", "kind", "seed"),
    [
        (sql_store, "decide", trust_every_lease, Node, 4),
        (sql_store, "decide", take_no_lease_back, Node, 2),
        (sql_store, "_own", accept_late_messages, Node, 6),
        (Node, "say", go_by_the_old_lease, Node, 52),
        (sql_store, "decide", trust_every_lease, Member, 1),
        (Tracked, "positions", go_by_what_was_leased, Member, 23),
        (Lease, "admits", go_by_a_lease_of_another_window, Member, 2),
    ],
)
def test_a_planted_fault_is_found(monkeypatch, where, name, planted, kind, seed):
    """The first seed finds it at once; whoever changes the simulation need not look for another."""
    monkeypatch.setattr(fleet_simulation, "FAULTS_MS", 8_000)
    monkeypatch.setattr(where, name, planted)
    assert any(breaks_a_promise(seed + i, kind) for i in range(100))


def breaks_a_promise(seed, kind):
    try:
        simulate(seed, kind)
    except Violation as e:
        return f"seed {seed}, " in str(e)
    return False


def test_the_command_says_what_happened(monkeypatch, capsys):
    monkeypatch.setattr(fleet_simulation, "FAULTS_MS", 1_000)
    monkeypatch.setattr("sys.argv", ["simulate", "--seeds", "2", "--first", "31"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("seeds 31 to 32, plain nodes: ")
    assert "\nseeds 31 to 32, the gateways' own code: " in said
    assert said.endswith("no promise was broken\n")
