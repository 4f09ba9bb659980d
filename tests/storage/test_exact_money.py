"""Whatever fails and whenever the process dies, what is on the books is what was charged: no call twice, none lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from sluicegate.calls.record import COLUMNS
from sluicegate.database import connect
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import Limit
from sluicegate.storage.errors import StoreError
from sluicegate.storage.journal import Journal
from sluicegate.storage.recovery import recover
from sluicegate.storage.store import FILENAME, Store, read_ledger
from sluicegate.storage.writer import Writer
from sluicegate.windows import parse_period

NOW = 1_000
SCOPES = ("key", "team", "customer")


def limit(scope: str, unit: Any) -> Limit:
    counter = f"virtual_key/{scope}/{unit}"
    return Limit("virtual_key", scope, scope, unit, 10**15, parse_period("1M"), False, counter)


LIMITS = [limit(scope, unit) for scope in SCOPES for unit in ("usd", "requests")]


def record(call_id: str, cost: int, **fields: Any) -> dict[str, Any]:
    known = {"id": call_id, "cost_nano": cost, "input_tokens": 1, "status": 200, "outcome": "completed"}
    return dict.fromkeys(COLUMNS) | {"started_at": "2026-01-01T00:00:00.000Z"} | known | fields


class Flight:
    """A call in flight as the test knows it."""

    def __init__(self, call_id: str, scopes: list[str], cost: int) -> None:
        self.call_id, self.scopes, self.cost = call_id, scopes, cost
        self.request_charged = False
        self.cost_on_file: int | None = None
        """What it would be charged if the process died now; None where its reservation is not on file."""

    @property
    def has_left(self) -> bool:
        """Whether it may have gone to the provider: only once its reservation is on file."""
        return self.cost_on_file is not None


class Books(RuleBasedStateMachine):
    """The ledger, its writer and a real database, compared with sums kept by the test."""

    flights: Bundle[Flight] = Bundle("flights")

    @initialize()
    def start(self) -> None:
        # Where there is a file system in memory, hundreds of starts take seconds.
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
        self.number = 0
        self.in_flight: list[Flight] = []
        self.charged = {x.counter: 0 for x in LIMITS}
        self.recorded = 0
        """Nano-dollars of the calls on record."""
        self.locked_by: sqlite3.Connection | None = None
        self.open()

    def open(self) -> dict[str, int]:
        self.store, self.ledger = Store(self.folder / FILENAME), Ledger()
        self.store.load(self.ledger)
        self.journal = Journal(self.folder / "audit.jsonl")
        recovered = recover(self.store, self.journal, self.ledger)
        self.writer = Writer(self.store, self.journal, self.ledger, [0, 0])
        return recovered

    def charge(self, flight: Flight, unit: str, amount: int) -> None:
        for scope in flight.scopes:
            self.charged[limit(scope, unit).counter] += amount

    def draft(self, flight: Flight) -> dict[str, Any]:
        return record(flight.call_id, flight.cost, outcome="interrupted", status=None)

    @rule(target=flights, scopes=st.lists(st.sampled_from(SCOPES), unique=True), cost=st.integers(0, 10**12))
    def reserve(self, scopes: list[str], cost: int) -> Flight:
        self.number += 1
        flight = Flight(f"call_{self.number}", scopes, cost)
        asks = [(limit(s, "requests"), 1) for s in scopes] + [(limit(s, "usd"), cost) for s in scopes]
        assert self.ledger.reserve(flight.call_id, asks, NOW) is None
        self.ledger.hold_open(flight.call_id, NOW, lambda: self.draft(flight))
        self.in_flight.append(flight)
        return flight

    @rule(flight=flights, cost=st.integers(0, 10**12))
    def raise_claims(self, flight: Flight, cost: int) -> None:
        if flight in self.in_flight:
            flight.cost = max(flight.cost, cost)
            self.ledger.raise_to(flight.call_id, {"usd": flight.cost})
            self.ledger.hold_open(flight.call_id, NOW, lambda: self.draft(flight))

    @rule(flight=flights)
    def charge_request(self, flight: Flight) -> None:
        """One unit is settled, the reservation stays open for the others."""
        if flight in self.in_flight and flight.has_left and not flight.request_charged:
            self.ledger.settle(flight.call_id, {"requests": 1})
            flight.request_charged = True
            self.charge(flight, "requests", 1)

    @rule(flight=flights, cost=st.integers(0, 10**12))
    def settle(self, flight: Flight, cost: int) -> None:
        if flight in self.in_flight and not flight.has_left:
            self.commit() if self.locked_by is None else None
        if flight in self.in_flight and flight.has_left:
            self.in_flight.remove(flight)
            self.charge(flight, "usd", cost)
            if not flight.request_charged:
                self.charge(flight, "requests", 1)
            self.ledger.settle(flight.call_id, {"usd": cost, "requests": 1})
            self.ledger.close(flight.call_id)
            self.writer.record(record(flight.call_id, cost))
            self.recorded += cost

    @rule(flight=consumes(flights))
    def release(self, flight: Flight) -> None:
        """A call that never left for the provider."""
        if flight in self.in_flight and not flight.request_charged:
            self.in_flight.remove(flight)
            self.ledger.release(flight.call_id)
            self.writer.record(record(flight.call_id, 0, outcome="denied"))

    @precondition(lambda self: self.locked_by is None)
    @rule()
    def commit(self) -> None:
        self.writer._write_reservations()
        self.on_file()

    @precondition(lambda self: self.locked_by is None)
    @rule()
    def flush(self) -> None:
        self.writer.flush()
        self.on_file()
        assert not self.writer.has_pending
        on_file = read_ledger(self.store.path)
        for x in LIMITS:
            assert on_file.usage(x, NOW)[:2] == self.ledger.usage(x, NOW)[:2]
        (total,) = self.store._conn.execute("SELECT coalesce(sum(cost_nano), 0) FROM calls").fetchone()
        assert total == self.recorded

    def on_file(self) -> None:
        for flight in self.in_flight:
            flight.cost_on_file = flight.cost

    @rule()
    def lock(self) -> None:
        """Another process takes the write lock, or gives it back."""
        if self.locked_by is None:
            self.locked_by = connect(self.store.path, "rw")
            self.locked_by.execute("BEGIN IMMEDIATE")
        else:
            self.locked_by.close()
            self.locked_by = None

    @precondition(lambda self: self.locked_by is not None)
    @rule(everything=st.booleans())
    def write_against_the_lock(self, everything: bool) -> None:
        pending = self.writer.has_pending
        try:
            self.writer.flush() if everything else self.writer._write_reservations()
        except StoreError:
            assert pending
        assert self.writer.has_pending == pending

    @rule()
    def write_half(self) -> None:
        """The disk is full when the changes are written and the records are not."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.store, "_write_rows", full_disk)
            try:
                self.writer.flush()
            except StoreError:
                assert self.writer.has_pending
            else:
                # Nothing to write, or a single reservation, which is written without a transaction around it.
                self.on_file()
                assert not self.writer.has_pending

    @rule()
    def crash(self) -> None:
        if self.locked_by is not None:
            self.lock()
        self.store._conn.close()
        self.journal.close()
        interrupted = [f for f in self.in_flight if f.has_left]
        for flight in interrupted:
            assert flight.cost_on_file is not None
            self.charge(flight, "usd", flight.cost_on_file)
            self.recorded += flight.cost_on_file
            if not flight.request_charged:
                self.charge(flight, "requests", 1)
        self.in_flight = []
        assert self.open()["interrupted"] == len(interrupted)
        self.flush()

    @invariant()
    def sums_agree(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for x in LIMITS:
            held = sum(f.cost if x.unit == "usd" else int(not f.request_charged) for f in self.in_flight if x.scope_id in f.scopes)
            assert self.ledger.usage(x, NOW)[:2] == (self.charged[x.counter], held)

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.crash()
            self.store.close()
            self.journal.close()
            shutil.rmtree(self.folder)


def full_disk(*_: object) -> None:
    raise sqlite3.DatabaseError("database or disk is full")


TestBooks = Books.TestCase
TestBooks.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def test_changes_put_back_do_not_overwrite_newer_ones() -> None:
    ledger, budget = Ledger(), LIMITS[0]
    ledger.reserve("a", [(budget, 5)], NOW)
    ledger.reserve("b", [(budget, 7)], NOW)
    changes = ledger.take_changes()
    ledger.raise_to("a", {"usd": 6})
    ledger.settle("b", {"usd": 3})
    ledger.reserve("c", [(budget, 1)], NOW)
    ledger.put_back(changes)
    assert ledger.needs_full_write
    again = ledger.take_changes()
    assert [(row[0], row[4]) for row in again.counters] == [(budget.counter, 3)]
    assert sorted((r.call_id, r.claims[0][3]) for r in again.reservations) == [("a", 6), ("c", 1)]
    assert again.closed == {2}
    assert [(r.call_id, r.claims[0][3]) for r in sorted(changes.reservations)] == [("a", 5), ("b", 7)]
    assert not ledger.has_changes


def test_a_call_id_that_comes_again_leaves_no_reservation_of_the_first_behind() -> None:
    ledger = Ledger()
    ledger.hold_open("a", NOW)
    changes = ledger.take_changes()
    ledger.release("a")
    ledger.hold_open("a", NOW)
    ledger.put_back(changes)
    again = ledger.take_changes()
    assert (again.closed, [r.number for r in again.reservations]) == ({1}, [2])


def test_one_pending_reservation_is_written_in_one_statement(tmp_path: Path) -> None:
    store, ledger = Store(tmp_path / FILENAME), Ledger()
    ledger.reserve("first", [(LIMITS[0], 1)], NOW)
    store.write(ledger.take_changes())
    statements: list[str] = []
    store._conn.set_trace_callback(statements.append)
    ledger.reserve("a", [(LIMITS[0], 1)], NOW)
    assert not ledger.needs_full_write
    store.write(ledger.take_reservations())
    store._conn.set_trace_callback(None)
    assert len(statements) == 1
    assert statements[0].startswith("INSERT OR REPLACE INTO reservations")
    assert set(read_ledger(store.path).open) == {"first", "a"}
    store.close()
