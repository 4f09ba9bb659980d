"""Exchanging entries: a node's own go to the store, and those of the others come, by numbers that stand in its database."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable

from sluicegate.database import transaction
from sluicegate.fleet.entries.rows import KINDS, own_entries, write_entry
from sluicegate.fleet.entries.table import Entries
from sluicegate.fleet.erasure.carrying_out import Erasing
from sluicegate.storage.store import read_meta, set_meta

logger = logging.getLogger("sluicegate")

PER_BATCH = 50

FETCHED = "fetched_entries_position"
"""Name in ``meta``: the store's last position that has been fetched."""


class Exchange:
    """What one node sends and fetches. For the thread of shipping; raises FleetError and sqlite3.Error."""

    def __init__(self, entries: Entries, node: Callable[[], str], name: str, erasing: Erasing) -> None:
        """``node`` returns the id of this one, ``name`` is what people call it."""
        self._entries, self._node, self._name = entries, node, name
        self._erasing = erasing

    def round(self, conn: sqlite3.Connection, fetch_records: Callable[[], None]) -> None:
        """Deliver what is not delivered, and fetch what is new; ``fetch_records`` brings the calls that entries speak of."""
        self.ship(conn)
        while self._fetch(conn, fetch_records):
            continue

    def ship(self, conn: sqlite3.Connection) -> None:
        """Deliver what is not delivered."""
        while self._ship(conn):
            continue

    def _ship(self, conn: sqlite3.Connection) -> bool:
        is_more, node = False, (self._node(), self._name)
        for kind in KINDS:
            last, found = own_entries(conn, kind, read_meta(conn, f"shipped_{kind.name}"), PER_BATCH, node)
            if found:
                self._entries.put(node[0], found)
                set_meta(conn, f"shipped_{kind.name}", last)
            is_more |= len(found) == PER_BATCH
        return is_more

    def _fetch(self, conn: sqlite3.Connection, fetch_records: Callable[[], None]) -> bool:
        after = read_meta(conn, FETCHED)
        position, found = self._entries.read(self._node(), after, PER_BATCH)
        if position == after:
            return False
        if found:
            # Whoever adjusted a call had its record from the store.
            fetch_records()
        with transaction(conn):
            for entry in found:
                try:
                    write_entry(conn, self._erasing.entry_without_erased(entry))
                except (ValueError, TypeError, AttributeError, LookupError) as e:
                    # Whoever can write to the store is not to stop what comes after it.
                    logger.warning("Entry %s in the fleet's store is left out, as no gateway has written it: %s", entry.id, e)
            set_meta(conn, FETCHED, position)
        return True
