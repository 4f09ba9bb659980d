"""Shipping records: a node's own go to the store, and those of the other nodes come from there.

Both go by numbers that are kept in the local database with the rows that they are about, so a crash at any moment, or an older copy
of the folder, repeats a few records and leaves out none. The local table and its journal stay the truth for this node's own
calls until the store has them. Fetched records are rows of the same table, marked by their origin: logs, statistics and
exports have them like any other. The record of a call whose node has disappeared is the one the others found in the store;
its own node's takes its place.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from sluicegate.calls.record import COLUMNS, DETAIL_COLUMNS, Record
from sluicegate.database import connection
from sluicegate.fleet.entries.exchange import Exchange
from sluicegate.fleet.erasure.carrying_out import Erasing
from sluicegate.fleet.records.fetched import FROM_STORE, UNCONFIRMED, steps, write_fetched
from sluicegate.fleet.records.rounds import RECORDS_PER_BATCH, Rounds
from sluicegate.fleet.records.table import Batch, Records
from sluicegate.storage.store import OWN_CALLS, SHIPPED, read_meta, set_meta

FETCHED = "fetched_records_position"
"""Name in ``meta``: the store's last position that has been fetched."""

# SQLite's functions take 127 arguments, so this does for 63 columns.
_FIELDS = ", ".join(f"'{name}', {f'json({name})' if name in DETAIL_COLUMNS else name}" for name in COLUMNS)
_OWN = f"""
SELECT max(rowid), count(*), json_group_array(id), json_group_array(json_object({_FIELDS})) FROM (
  SELECT rowid, {",".join(COLUMNS)} FROM calls WHERE rowid > ? AND {OWN_CALLS} ORDER BY rowid LIMIT ?
)
"""  # noqa: S608
_LEFT = f"SELECT count(*) FROM calls WHERE rowid > ? AND {OWN_CALLS}"  # noqa: S608


class Shipping(Rounds):
    """The thread's rounds. ``unconfirmed`` returns the records of calls whose nodes have disappeared."""

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
        super().__init__()
        self._database, self._records, self._node = database, records, node
        self._unconfirmed, self._on_replaced = unconfirmed, on_replaced
        self._entries: Exchange | None = None if more is None else more[0]
        self._erasing: Erasing | None = None if more is None else more[1]
        """This node's part in erasures, where others have the same records."""

    @property
    def asked(self) -> Erasing | None:
        """Return this node's part in erasures."""
        return self._erasing

    def round(self) -> None:
        """Deliver all that is not delivered, and fetch what is new."""
        with self._erasing.lock if self._erasing is not None else contextlib.nullcontext():
            if self._erasing is not None:
                # Before anything is delivered: it must not have whoever is erased here.
                self._erasing.round()
            # Opened once: that costs as much as a round without news.
            with connection(self._database, "rw") as conn:
                self._exchange(conn)

    def _exchange(self, conn: sqlite3.Connection) -> None:
        while self._ship(conn) and not self._stop.is_set():
            continue
        self._fetch_all(conn)
        if self._entries is not None:
            self._entries.round(conn, lambda: self._fetch_all(conn))
        self._fetch_unconfirmed(conn)

    def ship(self) -> bool:
        """Deliver some of this node's records; return whether there are more."""
        with connection(self._database, "rw") as conn:
            return self._ship(conn)

    def _ship(self, conn: sqlite3.Connection) -> bool:
        last, batch = read_own(conn, read_meta(conn, SHIPPED), RECORDS_PER_BATCH)
        self.lag = batch.size
        if batch.size:
            self._records.put(self._node(), batch)
            set_meta(conn, SHIPPED, last)
            self.delivered += batch.size
        more = batch.size == RECORDS_PER_BATCH
        self.lag = conn.execute(_LEFT, (last,)).fetchone()[0] if more else 0
        return more

    def finish(self) -> None:
        """Deliver the entries too."""
        if self._entries is not None:
            with connection(self._database, "rw") as conn:
                self._entries.ship(conn)

    def close_store(self) -> None:
        """Close the connections to the store."""
        self._records.close()
        if self._erasing is not None:
            self._erasing.close()

    def _fetch_all(self, conn: sqlite3.Connection) -> None:
        while self._fetch(conn) and not self._stop.is_set():
            continue

    def _fetch(self, conn: sqlite3.Connection) -> bool:
        """Fetch some records of other nodes; return whether there are more."""
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

    def _fetch_unconfirmed(self, conn: sqlite3.Connection) -> None:
        for step in steps(self._without_erased(self._unconfirmed())):
            write_fetched(conn, step, UNCONFIRMED)

    def _without_erased(self, records: Iterable[Record]) -> list[Record]:
        return list(records) if self._erasing is None else self._erasing.without_erased(records)


def read_own(conn: sqlite3.Connection, after: int, limit: int) -> tuple[int, Batch]:
    """Return records of this node's own calls after a rowid, and the last one's rowid. Raises sqlite3.Error.

    SQLite writes all of them as one JSON text, in one step: between two steps this thread would wait for the interpreter,
    which costs calls more than the records themselves do.
    """
    last, count, ids, records = conn.execute(_OWN, (after, limit)).fetchone()
    return last or after, Batch(count, ids, records)
