"""Shipping records: a thread that takes a node's own to the store, and fetches those of the other nodes.

Both go by numbers that stand in the local database beside the rows they speak of, so a crash at any moment, or an older copy
of the folder, repeats a few records and leaves out none. The local table and its journal stay the truth for this node's own
calls until the store has them. Fetched records are rows of the same table, marked by their origin: logs, statistics and
exports have them like any other. The record of a call whose node has disappeared is the one the others found in the store;
its own node's takes its place.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from sluicegate.calls.limit_checks import from_row, to_row
from sluicegate.calls.record import COLUMNS, Record
from sluicegate.database import connection, transaction
from sluicegate.fleet.entries.exchange import Exchange
from sluicegate.fleet.erasure.carrying_out import Erasing
from sluicegate.fleet.records import Records
from sluicegate.fleet.store.protocol import FleetError
from sluicegate.storage.store import OWN_CALLS, SHIPPED, read_meta, set_meta

logger = logging.getLogger("sluicegate")

INTERVAL_S = 0.5
"""Pause between two rounds."""

RECORDS_PER_BATCH = 500

ROWS_PER_STEP = 50
"""Fetched rows written in one transaction: a millisecond, which calls that are to be written wait for."""

CLOSING_S = 5.0
"""How long a gateway that stops goes on delivering what is left."""

FETCHED = "fetched_records_position"
"""Name in ``meta``: the store's last position that has been fetched."""

FROM_STORE, UNCONFIRMED = "store", "unconfirmed"
"""The ``origin`` of a row: another node's own record, or what was found of a call whose node has disappeared."""

_MONEY_AND_TOKENS = ("cost_nano", "outcome", "latency_ms", "input_tokens", "output_tokens", "cache_read_tokens")
"""What sums in the index of the logs are made of, as far as the two records of one call can differ."""

_FOUND = (
    f"SELECT c.rowid, f.origin, {','.join(f'c.{name}' for name in COLUMNS)} FROM calls AS c "  # noqa: S608
    "LEFT JOIN fetched_calls AS f ON f.row = c.rowid WHERE c.id IN (SELECT value FROM json_each(?))"
)
_ID = list(COLUMNS).index("id")
_ADD = (
    f"INSERT OR IGNORE INTO calls ({','.join(COLUMNS)}) "  # noqa: S608
    f"SELECT {','.join(f"json_extract(value, '$[{at}]')" for at in range(len(COLUMNS)))} FROM json_each(?)"
)
_NOTE_ORIGIN = "INSERT OR IGNORE INTO fetched_calls SELECT rowid, ? FROM calls WHERE id IN (SELECT value FROM json_each(?))"
_OWN = f"SELECT rowid, {','.join(COLUMNS)} FROM calls WHERE rowid > ? AND {OWN_CALLS} ORDER BY rowid LIMIT ?"  # noqa: S608


class Ends(NamedTuple):
    """Between what records are exchanged."""

    database: Path
    """The node's own."""
    node: Callable[[], str]
    """Returns the node's id."""
    unconfirmed: Callable[[], Iterable[Record]]
    """Returns the records of calls whose nodes have disappeared."""
    on_replaced: Callable[[], None]
    """Called when sums over records that were there before are wrong now."""
    shared: Path
    """The database of all workers of a host; the node's own where there are none."""
    is_our_turn: Callable[[], bool]
    """Whether it is this worker that does what is done once."""


class Shipping:
    """The thread. ``unconfirmed`` returns the records of calls whose nodes have disappeared."""

    def __init__(
        self,
        database: Path,
        records: Records,
        node: Callable[[], str],
        unconfirmed: Callable[[], Iterable[Record]],
        on_replaced: Callable[[], None],
        more: tuple[Exchange, Erasing] | None = None,
    ) -> None:
        """Call ``on_replaced`` when sums over records that were there before are wrong now."""
        self._database, self._records, self._node = database, records, node
        self._unconfirmed, self._on_replaced = unconfirmed, on_replaced
        self._entries: Exchange | None = None if more is None else more[0]
        self.erasing: Erasing | None = None if more is None else more[1]
        """``erasing``: this node's part in erasures, where others have the same records."""
        self.lag = 0
        """Own records that the store does not have yet, as last counted."""
        self.error: str | None = None
        """Why records cannot be delivered or fetched; None while they can."""
        self.delivered = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sluicegate-shipping", daemon=True)

    @property
    def asked(self) -> Erasing | None:
        """Return what requests are told of erasures by; None where no other node has the same records."""
        return self.erasing

    def start(self) -> None:
        """Start, if it has not been started yet."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Deliver what is left, as far as that is quickly done, and end the thread."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSING_S)
        try:
            end = time.monotonic() + CLOSING_S
            while self.ship() and time.monotonic() < end:
                continue
            if self._entries is not None:
                self._entries.ship()
        except (FleetError, sqlite3.Error) as e:
            logger.warning("The store lacks the last records; they are delivered after the next start: %s", e)
        self.close_store()

    def close_store(self) -> None:
        """Close the connections to the store."""
        self._records.close()
        if self.erasing is not None:
            self.erasing.close()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            try:
                self.round()
            except (FleetError, sqlite3.Error) as e:
                if self.error is None:
                    logger.warning("Records cannot be exchanged with the fleet's store; they stay here until they can: %s", e)
                self.error = str(e)
            except Exception as e:
                # The thread has to go on: own records are delivered by it, and erasures carried out.
                logger.exception("Records cannot be exchanged with the fleet's store")
                self.error = str(e) or type(e).__name__
            else:
                if self.error is not None:
                    logger.warning("Records are exchanged with the fleet's store again")
                self.error = None

    def round(self) -> None:
        """Deliver all that is not delivered, and fetch what is new."""
        with self.erasing.lock if self.erasing is not None else contextlib.nullcontext():
            if self.erasing is not None:
                # Before anything is delivered: it must not have whoever is erased here.
                self.erasing.round()
            self._exchange()

    def _exchange(self) -> None:
        while self.ship() and not self._stop.is_set():
            continue
        self.fetch_all()
        if self._entries is not None:
            self._entries.round(self.fetch_all)
        self.fetch_unconfirmed()

    def fetch_all(self) -> None:
        """Fetch every record of other nodes that is new."""
        while self.fetch() and not self._stop.is_set():
            continue

    def ship(self) -> bool:
        """Deliver some of this node's records; return whether there are more."""
        with connection(self._database, "rw") as conn:
            after = read_meta(conn, SHIPPED)
            rows = conn.execute(_OWN, (after, RECORDS_PER_BATCH)).fetchall()
            self.lag = len(rows)
            if rows:
                self._records.put(self._node(), [from_row(row[1:]) for row in rows])
                set_meta(conn, SHIPPED, rows[-1][0])
                self.delivered += len(rows)
            more = len(rows) == RECORDS_PER_BATCH
            left = f"SELECT count(*) FROM calls WHERE rowid > ? AND {OWN_CALLS}"  # noqa: S608
            self.lag = conn.execute(left, (rows[-1][0],)).fetchone()[0] if more else 0
        return more

    def fetch(self) -> bool:
        """Fetch some records of other nodes; return whether there are more."""
        with connection(self._database, "rw") as conn:
            after = read_meta(conn, FETCHED)
            arrived = self._records.read(self._node(), after, RECORDS_PER_BATCH)
            if arrived.position == after:
                return False
            replaced = False
            for step in steps(self._without_erased(arrived.records)):
                replaced |= write_fetched(conn, step, FROM_STORE)
            set_meta(conn, FETCHED, arrived.position)
        if replaced:
            self._on_replaced()
        return True

    def _without_erased(self, records: Iterable[Record]) -> list[Record]:
        return list(records) if self.erasing is None else self.erasing.without_erased(records)

    def fetch_unconfirmed(self) -> None:
        """Fetch the records of calls whose nodes have disappeared."""
        records = self._without_erased(self._unconfirmed())
        if records:
            with connection(self._database, "rw") as conn:
                for step in steps(records):
                    write_fetched(conn, step, UNCONFIRMED)


def steps[T](rows: Sequence[T]) -> Iterable[Sequence[T]]:
    """Return rows in the parts that are written in one transaction each."""
    return (rows[i : i + ROWS_PER_STEP] for i in range(0, len(rows), ROWS_PER_STEP))


def write_fetched(conn: sqlite3.Connection, records: Sequence[Record], origin: str) -> bool:
    """Write fetched records in one transaction; return whether one has changed the sums of what was there before.

    Calls that are to be written wait for it. So it has few statements whatever it holds: after each of them this thread may
    have to wait for the interpreter. Rows of other nodes' calls are changed by this thread alone, and can be read before.
    """
    found: dict[str, Any] = {}
    for row, known_origin, *values in conn.execute(_FOUND, (_json([record["id"] for record in records]),)).fetchall():
        there = from_row(values)
        found[there["id"]] = row, known_origin, there
    confirmed, replaced, new = [], [], []
    for record in records:
        row, known_origin, there = found.get(record["id"], (None, None, None))
        if row is None:
            new.append(to_row(record))
        elif origin == FROM_STORE and known_origin == UNCONFIRMED:
            if _differs(record, there):
                replaced.append(row)
                new.append(to_row(record))
            else:
                confirmed.append(row)
    if not (new or confirmed):
        return False
    with transaction(conn):
        if replaced:
            conn.execute("DELETE FROM calls WHERE rowid IN (SELECT value FROM json_each(?))", (_json(replaced),))
        if confirmed:
            in_place = "UPDATE fetched_calls SET origin = ? WHERE row IN (SELECT value FROM json_each(?))"
            conn.execute(in_place, (FROM_STORE, _json(confirmed)))
        if new:
            conn.execute(_ADD, (_json(new),))
            conn.execute(_NOTE_ORIGIN, (origin, _json([row[_ID] for row in new])))
    return bool(replaced)


def _json(values: Sequence[Any]) -> str:
    return orjson.dumps(values).decode()


def _differs(one: Record, other: Record) -> bool:
    return any(one.get(name) != other.get(name) for name in _MONEY_AND_TOKENS)
