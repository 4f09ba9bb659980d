"""The move of a state folder into the store: what a gateway does that joins its fleet, without serving, and compared afterwards.

It speaks the same protocol in the name of the same node, so the gateway that starts on this folder later finds itself known,
and nothing counts twice. Every step may be repeated: numbers are absolute, records and corrections are kept once by their ids.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sluicegate.calls.limit_checks import from_row
from sluicegate.calls.record import COLUMNS, Record
from sluicegate.database import connection
from sluicegate.fleet.followed_clock import FollowedClock
from sluicegate.fleet.message import correct
from sluicegate.fleet.migration.entries import delivered, move_entries, nothing_fetched
from sluicegate.fleet.migration.holdings import LEVELS, Sums, add_record, add_window, used_of
from sluicegate.fleet.node import node_id
from sluicegate.fleet.reaching import has_workers
from sluicegate.fleet.records.shipping import FETCHED
from sluicegate.fleet.records.table import Records, batch_of
from sluicegate.fleet.standing import Standing
from sluicegate.fleet.store.postgresql import PostgresStore
from sluicegate.fleet.store.protocol import TTL_MS, NodeRow
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import Limit
from sluicegate.storage.journal import Journal
from sluicegate.storage.recovery import recover
from sluicegate.storage.state_folder import held_as_it_is
from sluicegate.storage.store import FILENAME, OWN_CALLS, SHIPPED, Store

if TYPE_CHECKING:
    import psycopg

RECORDS_PER_BATCH = 1_000

PROGRESS_S = 2.0
"""How often a long move says how far it is."""

LOOK_S = 0.5
"""How often it looks whether the node that has this folder's id is heard of."""

_OWN = f"SELECT rowid, {','.join(COLUMNS)} FROM calls WHERE rowid > ? AND {OWN_CALLS} ORDER BY rowid LIMIT ?"  # noqa: S608
_POSITIONS = "SELECT counter, starts_at, spent FROM fleet_positions WHERE node = %s"


class MigrationError(Exception):
    """The folder cannot be moved; the message says why and what to do."""


class Moved(NamedTuple):
    """What was moved, as the folder and as the store have it, and in words where they differ."""

    node: str
    here: Sums
    there: Sums
    differences: list[str]


class Files(NamedTuple):
    """A state folder that no gateway uses, as it is after a start."""

    path: Path
    store: Store
    ledger: Ledger
    standing: Standing


def refuse_workers(folder: Path) -> None:
    """Refuse a folder of several workers: each has its own part in it. Raises MigrationError."""
    if has_workers(folder):
        raise MigrationError(
            f"workers have used {folder}, and each has its own part in it: start them with server.store. Each joins with what it "
            "has used, and their records are delivered"
        )


@contextmanager
def open_files(folder: Path, name: str, own_clock: Callable[[], int], limits: Callable[[], Iterable[Limit]]) -> Iterator[Files]:
    """Lock a folder, and complete in it what a crash left half-done. Raises MigrationError, StateError or StoreError."""
    if not (folder / FILENAME).exists():
        raise MigrationError(f"there is nothing to move in {folder}: it has no {FILENAME}. Name the folder by --state-dir")
    refuse_workers(folder)
    lock = held_as_it_is(folder)
    try:
        store, journal, ledger = Store(folder / FILENAME), Journal(folder / "audit.jsonl"), Ledger()
        try:
            store.load(ledger)
            standing = Standing(node_id(folder), name, ledger, FollowedClock(own_clock), lambda: ("", 0))
            recover(store, journal, ledger, limits)
            yield Files(folder, store, ledger, standing)
        finally:
            journal.close()
            store.close()
    finally:
        lock.close()


class Move:
    """One move. ``run`` blocks, and raises FleetError where the store does not answer: then it is run again."""

    def __init__(self, files: Files, connect: Callable[[], psycopg.Connection], progress: Callable[[str], None]) -> None:
        self._files, self._connect, self._progress = files, connect, progress
        self._progress_at = time.monotonic()
        self.here: Sums = {}
        self.there: Sums = {}
        self.differences: list[str] = []

    def run(self) -> Moved:
        """Move everything, and compare."""
        files, standing = self._files, self._files.standing
        store, records = PostgresStore(self._connect), Records(self._connect)
        try:
            is_known = self._wait_for_silence(store)
            ends = {c.name: c.end for c in files.ledger.counters.values()}
            before = used_of(files.ledger, standing.clock.own())
            standing.join(store)
            made = list(standing.shared.corrections.waiting)
            correct(store, made)
            standing.shared.corrections.confirm(made)
            noted = self._move_rows(records, is_known=is_known)
            store.leave(standing.report())
            files.store.write(files.ledger.take_changes())
            files.store.write_meta(**noted)
            now = standing.clock()
            # What is over by the store's time counts nowhere any more.
            self._compare_windows({n: used for n, used in before.items() if (end := ends[n]) is None or now < end})
        finally:
            records.close()
            store.close()
        return Moved(standing.name, self.here, self.there, self.differences)

    def _wait_for_silence(self, store: PostgresStore) -> bool:
        """Wait until a node with this folder's id has expired, as after an interrupted move; refuse where it lives on.

        Return whether the store knows it.
        """
        first = self._own_row(store)
        until = time.monotonic() + TTL_MS / 1000 + LOOK_S
        row = first
        while row is not None and row.state == "live":
            if first is not None and row.seen_at != first.seen_at:
                raise MigrationError(
                    f"a gateway goes by the id of this folder already, as the node {row.report.name}: another copy of the folder "
                    "is in use. Stop it, or delete node.json here"
                )
            if time.monotonic() >= until:
                break
            self._progress("waiting until the store counts this node as gone, as after a move that was interrupted")
            time.sleep(LOOK_S)
            row = self._own_row(store)
        return first is not None

    def _own_row(self, store: PostgresStore) -> NodeRow | None:
        return next((row for row in store.nodes() if row.report.id == self._files.standing.id), None)

    def _move_rows(self, records: Records, *, is_known: bool) -> dict[str, int]:
        """Move records and entries; return what the folder notes of that."""
        standing = self._files.standing
        with connection(self._files.path / FILENAME, "ro") as conn:
            noted = {SHIPPED: self._move_records(conn, records)}
            node = (standing.id, standing.name)
            self.differences += move_entries(conn, records.session, node, self.here, self.there)
            noted |= delivered(conn)
        if not is_known:
            # Of a store that this folder was not in before nothing has been fetched, and a record that is there already is skipped.
            noted |= {FETCHED: 0, **nothing_fetched(records.session)}
        return noted

    def _move_records(self, conn: sqlite3.Connection, records: Records) -> int:
        """Bring what the store lacks of this node's records there, and compare the cost of each; return the last row."""
        after = done = 0
        total = conn.execute(f"SELECT count(*) FROM calls WHERE {OWN_CALLS}").fetchone()[0]  # noqa: S608
        while rows := conn.execute(_OWN, (after, RECORDS_PER_BATCH)).fetchall():
            self._move_batch(records, [from_row(row[1:]) for row in rows])
            after, done = rows[-1][0], done + len(rows)
            if time.monotonic() - self._progress_at >= PROGRESS_S:
                self._progress(f"records: {done:,} of {total:,}")
                self._progress_at = time.monotonic()
        return int(after)

    def _move_batch(self, records: Records, batch: list[Record]) -> None:
        ids = [record["id"] for record in batch]
        known = records.costs(ids)
        if missing := [record for record in batch if record["id"] not in known]:
            records.put(self._files.standing.id, batch_of(missing))
            known = records.costs(ids)
        for record in batch:
            levels, cost = [record[f"{level}_id"] for level in LEVELS], int(record["cost_nano"] or 0)
            add_record(self.here, levels, cost)
            found = known.get(record["id"])
            if found is None:
                self.differences.append(f"call {record['id']}: the store has no record of it")
                continue
            add_record(self.there, levels, found)
            if found != cost:
                self.differences.append(f"call {record['id']}: it cost {cost} nano-dollars here, and {found} in the store")

    def _compare_windows(self, before: dict[str, int]) -> None:
        with self._connect() as conn:
            rows = conn.execute(_POSITIONS, (self._files.standing.id,)).fetchall()
        there = {(counter, start): int(spent) for counter, start, spent in rows}
        for name, used in before.items():
            counter = self._files.ledger.counters[name]
            found = there.get((name, counter.start), 0)
            add_window(self.here, name, used)
            add_window(self.there, name, found)
            if found != used:
                why = ": this folder is an older copy of one that was there, and takes over what that had" if found > used else ""
                self.differences.append(f"{name}: {used} used here, {found} in the store{why}")
