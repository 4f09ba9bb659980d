"""The fleet store on both engines: what a message changes, what it grants, and what it must not change."""

from __future__ import annotations

import psycopg
import pytest

from sluicegate.fleet.store.postgresql import PostgresStore
from sluicegate.fleet.store.protocol import (
    CONCURRENCY_TTL_MS,
    TTL_MS,
    Correction,
    FleetError,
    HeldCall,
    NodeReport,
    Position,
    SchemaTooNew,
    Superseded,
)
from sluicegate.fleet.store.sqlite import SqliteStore
from sluicegate.fleet.store.statements import AHEAD_MS

DAY_MS = 86_400_000


class Clock:
    """The store's clock, which a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


class Member:
    """A node that speaks with a store in person."""

    def __init__(self, store, name: str, node_id: str | None = None) -> None:
        self.store, self.name, self.id = store, name, node_id or f"id-{name}"
        self.joined = store.join(self.report(0, 0))
        self.epoch, self.number = self.joined.epoch, 0

    def report(self, epoch: int, number: int) -> NodeReport:
        return NodeReport(self.id, self.name, epoch, number, "1.0", "rev", 2, 3, -4)

    def sync(self, *positions, **more):
        self.number += 1
        return self.store.sync(self.report(self.epoch, self.number), positions, **more)

    def ask(self, **fields):
        (granted,) = self.sync(position(**fields)).positions
        return granted


def position(counter="a", unit="usd", start=0, end=DAY_MS, maximum=100, crosses=False, spent=0, held=0, **more) -> Position:
    return Position(counter, unit, start, end, maximum, crosses, spent, held, **more)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def open_store(request, clock, tmp_path):
    """What opens further stores on the same database, by the same clock."""
    opened = []
    if request.param == "sqlite":

        def make():
            return SqliteStore(tmp_path / "fleet.db", clock)
    else:
        url = request.getfixturevalue("postgres_schema_url")

        def make():
            return PostgresStore(lambda: psycopg.connect(url, autocommit=True), clock)

    def open_one():
        opened.append(make())
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store):
    return open_store()


def test_what_one_node_takes_another_cannot(store):
    a, b = Member(store, "a"), Member(store, "b")
    granted = a.ask(want=60)
    assert (granted.granted, granted.allowed, granted.used, granted.taken) == (60, True, 0, 60)
    refused = b.ask(want=41)
    assert (refused.granted, refused.allowed, refused.taken, refused.slack_elsewhere, refused.tight) == (0, False, 60, 60, True)
    assert b.ask(want=40).allowed


def test_a_soft_limit_is_crossed_once_over_all_nodes(store):
    a, b = Member(store, "a"), Member(store, "b")
    assert a.ask(crosses=True, spent=90).allowed
    assert b.ask(crosses=True, want=30).granted == 30
    assert not a.ask(crosses=True, spent=90, want=1).allowed


def test_further_calls_get_what_fits_and_slack_is_a_small_part_of_it(store):
    a = Member(store, "a")
    Member(store, "b")
    granted = a.ask(maximum=1_000, want=10, more=20, keep=500)
    assert granted.granted == 10 + 20 + 1_000 // 32
    assert a.ask(counter="small", maximum=31, want=30, more=5, keep=9).granted == 31
    assert a.ask(counter="narrow", maximum=1_000, want=970, keep=500).granted == 970 + 30 // (2 * 2)


def test_what_a_node_goes_by_stays_taken_until_it_says_so(store):
    a, b = Member(store, "a"), Member(store, "b")
    assert a.ask(maximum=3_200, want=10, keep=100).granted == 110
    # The limit has been lowered: the node is told to stop, but may have taken all of its lease by the time it hears that.
    granted = a.ask(maximum=100, held=10, slack=100)
    assert (granted.granted, granted.taken) == (100, 100)
    assert not b.ask(maximum=120, want=11).allowed
    assert b.ask(maximum=120, want=10).allowed


def test_what_is_taken_beyond_the_limit_is_free_for_nobody_when_it_ends(store):
    a, b = Member(store, "a"), Member(store, "b")
    assert a.ask(want=80).allowed
    assert a.ask(maximum=50, held=80).granted == 50
    assert a.ask(maximum=50, spent=30, held=30).granted == 50
    assert not a.ask(maximum=50, spent=30, held=30, want=1).allowed
    assert not b.ask(maximum=50, want=1).allowed
    assert a.ask(maximum=50, spent=45, want=5).granted == 50


def test_a_node_with_slack_that_another_waits_for_is_told(store, clock):
    a, b = Member(store, "a"), Member(store, "b")
    a.ask(maximum=3_200, want=10, keep=100)
    assert b.sync(position(maximum=120, want=20)).positions[0].slack_elsewhere == 110
    reply = a.sync()
    assert reply.recalls == (("a", 0),)
    given_back = a.sync(position(maximum=120, held=10))
    assert (given_back.recalls, given_back.positions[0].tight) == ((), True)
    # While it is tight, nobody gets slack.
    assert b.ask(maximum=120, want=20, keep=50).granted == 20
    clock.now += 2_001
    assert b.ask(maximum=120, held=20, keep=50).granted == 20 + 120 // 32


def test_what_a_node_has_reported_as_spent_never_falls(store):
    a, b = Member(store, "a"), Member(store, "b")
    a.ask(spent=70)
    older = Member(store, "a", a.id)
    assert [(k.counter, k.start, k.end, k.spent, k.unit) for k in older.joined.known] == [("a", 0, DAY_MS, 70, "usd")]
    granted = older.ask(spent=50, held=5)
    assert (granted.spent, granted.granted, granted.used) == (70, 75, 70)
    assert not b.ask(want=30).allowed
    assert b.ask(want=25).allowed


def test_messages_of_an_earlier_start_or_out_of_order_change_nothing(store):
    a = Member(store, "a")
    a.ask(spent=10)
    late = a.report(a.epoch, a.number)
    with pytest.raises(Superseded, match="comes after"):
        store.sync(late, [position(spent=0)])
    again = Member(store, "a", a.id)
    assert again.epoch == a.epoch + 1
    with pytest.raises(Superseded, match="another process"):
        a.ask(spent=99)
    assert again.ask().spent == 10
    with pytest.raises(Superseded, match="does not know"):
        store.sync(NodeReport("other", "other", 1, 1), [])


def test_an_expired_node_is_charged_and_goes_on_taking_what_it_might_have_spent(store, clock):
    a, b = Member(store, "a"), Member(store, "b")
    call = HeldCall("call-1", (("a", 0, 6),), {"id": "call-1"})
    a.sync(position(spent=20, held=10, slack=30), holds=[call, HeldCall("call-2", (("a", 0, 1),), {"id": "call-2"})])
    a.sync(ended=["call-2"])
    clock.now += TTL_MS
    reply = b.sync(position(want=1))
    assert reply.live == 1
    reply = b.sync(position(held=1))
    assert reply.positions[0].used == 20 + 6
    assert (reply.positions[0].taken, reply.positions[0].slack_elsewhere) == (20 + 10 + 30 + 1, 0)
    assert store.interrupted() == [{"id": "call-1"}]
    assert [(n.report.name, n.state, n.leases, n.in_doubt) for n in store.nodes()] == [("a", "expired", 0, 1), ("b", "live", 0, 0)]
    # It was only stopped, and has spent its lease meanwhile: what it says replaces what was assumed.
    assert a.sync(position(spent=58)).positions[0].used == 58
    assert store.interrupted() == []
    assert b.ask(held=1, want=41).allowed


def test_a_node_that_starts_again_replaces_what_was_assumed_of_it(store, clock):
    a, b = Member(store, "a"), Member(store, "b")
    a.sync(position(held=30, slack=20), holds=[HeldCall("call-1", (("a", 0, 30),), {"id": "call-1"})])
    clock.now += TTL_MS
    b.sync()
    assert b.ask().used == 30
    again = Member(store, "a", a.id)
    # Until it has reported, everything that it may have taken stays taken.
    assert not b.ask(want=51).allowed
    again.ask(spent=25)
    granted = b.ask(want=75)
    assert (granted.allowed, granted.used) == (True, 25)


def test_what_is_shown_as_used_never_falls_while_a_node_comes_back(store, clock):
    a, b = Member(store, "a"), Member(store, "b")
    a.ask(spent=10, held=30, want=5)
    a.sync(holds=[HeldCall("call_1", (("a", 0, 25),), {"id": "call_1"})])
    clock.now += TTL_MS
    b.sync()
    used = [store.totals().rows[0].used]
    # It joins, and is gone again before it has said anything.
    Member(store, "a", a.id)
    used.append(store.totals().rows[0].used)
    clock.now += TTL_MS
    b.sync()
    assert [call["id"] for call in store.interrupted()] == ["call_1"]
    again = Member(store, "a", a.id)
    used.append(store.totals().rows[0].used)
    assert used == [35, 35, 35]
    # The first report says what the call has cost, and everything else ends with it.
    again.sync(position(spent=33))
    assert store.totals().rows[0].used == 33
    clock.now += TTL_MS
    b.sync()
    assert (store.totals().rows[0].used, store.interrupted()) == (33, [])


def test_a_forgotten_node_frees_what_it_might_have_spent_and_may_come_back(store, clock):
    a, b = Member(store, "a"), Member(store, "b")
    a.sync(position(spent=20, held=10, slack=30), holds=[HeldCall("call-1", (("a", 0, 6),), {"id": "call-1"})])
    assert store.forget(a.id) is False
    clock.now += TTL_MS
    assert store.forget(a.id) is True
    assert (store.forget(a.id), store.forget("nobody")) == (False, False)
    granted = b.ask(want=74)
    assert (granted.allowed, granted.used, granted.taken) == (True, 26, 100)
    assert store.interrupted() == [{"id": "call-1"}]
    with pytest.raises(Superseded, match="given up"):
        a.ask()
    assert Member(store, "a", a.id).ask(spent=28).used == 28
    assert {n.report.name: n.state for n in store.nodes()} == {"a": "live", "b": "live"}


def test_places_in_flight_of_a_silent_node_are_free_within_seconds_and_its_lease_with_them(store, clock):
    a, b = Member(store, "a"), Member(store, "b")
    fields = {"counter": "c", "unit": "concurrent", "end": None, "maximum": 64}
    assert a.ask(**fields, want=60, keep=2).granted == 61
    clock.now += CONCURRENCY_TTL_MS - 1
    assert not b.ask(**fields, want=10).allowed
    clock.now += 1
    assert b.ask(**fields, want=60).allowed
    # What it holds is a fact; what it might have taken is not its own any more.
    granted = a.ask(**fields, held=3, slack=58)
    assert (granted.granted, granted.taken) == (3, 63)
    # It has not heard of that, because the answer was lost, and names its old lease again.
    assert a.ask(**fields, held=3, slack=58).granted == 3


def test_a_node_that_leaves_holds_nothing_back(store):
    a, b = Member(store, "a"), Member(store, "b")
    a.ask(spent=10, slack=50)
    a.number += 1
    store.leave(a.report(a.epoch, a.number))
    assert b.ask(want=90).allowed
    with pytest.raises(Superseded, match="has left"):
        a.ask()
    assert {n.report.name: n.state for n in store.nodes()} == {"a": "left", "b": "live"}
    assert Member(store, "a", a.id).ask(spent=10).allowed


def test_a_correction_is_made_once_and_what_was_used_never_falls_below_zero(store):
    a = Member(store, "a")
    a.ask(spent=40)
    assert store.adjust(Correction("x", "a", 0, DAY_MS, -30)) == -30
    assert store.adjust(Correction("x", "a", 0, DAY_MS, -30)) == -30
    assert store.adjust(Correction("y", "a", 0, DAY_MS, -30)) == -10
    granted = a.ask(spent=40, want=100)
    assert (granted.allowed, granted.used, granted.taken) == (True, 0, 100)
    assert store.adjust(Correction("z", "other", 0, DAY_MS, 7)) == 7
    totals = {(t.counter, t.start): (t.end, t.used, t.held) for t in store.totals().rows}
    assert totals == {("a", 0): (DAY_MS, 0, 0), ("other", 0): (DAY_MS, 7, 0)}


def test_anchors_are_agreed_on_once(store, clock):
    assert store.anchors({"a": None, "b": 77}) == {"a": clock.now, "b": 77}
    clock.now += 5
    assert store.anchors({"a": 1, "c": None}) == {"a": 1_000_000, "c": 1_000_005}
    assert store.anchors({}) == {}


def test_totals_name_what_has_changed_since(store, clock):
    a, b = Member(store, "a"), Member(store, "b")
    a.ask(spent=3, held=2)
    b.ask(spent=4)
    clock.now += 60_000
    seen = store.totals()
    assert [(t.counter, t.used, t.held) for t in seen.rows] == [("a", 7, 2)]
    clock.now += 60_000
    a.ask(counter="b", spent=1)
    assert [(t.counter, t.used) for t in store.totals(seen.now).rows] == [("b", 1)]


def test_nodes_say_how_they_are(store, clock):
    a = Member(store, "a")
    clock.now += 500
    a.sync()
    (row,) = store.nodes()
    assert row.report == NodeReport(a.id, "a", 1, 1, "1.0", "rev", 2, 3, -4)
    assert (row.state, row.joined_at, row.seen_at) == ("live", 1_000_000, 1_000_500)


def test_windows_that_are_long_over_are_deleted_and_others_are_not(open_store, clock):
    store = open_store()
    a = Member(store, "a")
    a.sync(position(counter="m", end=60_000, spent=1), position(counter="never", end=None, spent=2), position(spent=3))
    clock.now = 60_000 + 600_000 + 60_000 + 1
    open_store().join(NodeReport("b", "b", 0, 0))
    fresh = open_store()
    Member(fresh, "c").sync()
    assert [t.counter for t in fresh.totals().rows] == ["a", "never"]


def test_no_window_is_made_that_begins_long_after_the_store_s_time(store, clock):
    a = Member(store, "a")
    ahead = clock.now + AHEAD_MS + 1
    refused, granted = a.sync(
        position(start=ahead, end=ahead + DAY_MS, spent=7, held=2, slack=3, want=1), position(counter="b", want=1)
    ).positions
    assert (refused.granted, refused.allowed, refused.spent, refused.used, refused.taken) == (0, False, 7, 7, 9)
    assert granted.allowed
    with pytest.raises(FleetError, match="set the clock"):
        store.adjust(Correction("c-1", "a", ahead, ahead + DAY_MS, 5))
    assert [row.counter for row in store.totals().rows] == ["b"]
    assert a.ask(start=ahead - 1, end=ahead - 1 + DAY_MS, want=1).allowed
    # Where the store's own clock was ahead and is put back, what was spent meanwhile still counts.
    clock.now -= 2 * AHEAD_MS
    assert a.ask(start=ahead - 1, end=ahead - 1 + DAY_MS, spent=1, want=100).allowed is False
    assert a.ask(start=ahead - 1, end=ahead - 1 + DAY_MS, spent=1, want=99).allowed is True


def test_a_lost_connection_is_made_anew(open_store):
    store = open_store()
    a = Member(store, "a")
    a.ask(want=5)
    connection = store._engine._conn
    if isinstance(connection, psycopg.Connection):
        with psycopg.connect(connection.info.dsn, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
    else:
        connection.close()
    try:
        a.ask(want=5)
    except FleetError:
        pass
    assert a.ask(held=5).taken == 5


def test_newer_tables_are_used_where_they_allow_it_and_refused_otherwise(open_store):
    store = open_store()
    store.nodes()
    with store._engine.transaction() as run:
        run(("UPDATE fleet_meta SET value = 7 WHERE name = 'version'", ()), commit=True)
    assert open_store().nodes() == []
    with store._engine.transaction() as run:
        run(("UPDATE fleet_meta SET value = 6 WHERE name = 'usable_by'", ()), commit=True)
    with pytest.raises(SchemaTooNew, match="version 7, which version 6 or later can use"):
        open_store().nodes()


def test_a_message_that_fails_changes_nothing(store):
    a = Member(store, "a")
    a.ask(spent=5)
    with pytest.raises(FleetError):
        a.sync(position(spent=9), holds=[HeldCall(None, (), {})])
    assert a.ask(spent=5).spent == 5
