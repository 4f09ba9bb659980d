"""How a gateway reaches the store that it shares with others: over a network, or workers of one host in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sluicegate.fleet.entries.exchange import Exchange
from sluicegate.fleet.entries.table import Entries
from sluicegate.fleet.erasure.carrying_out import Erasing
from sluicegate.fleet.erasure.table import Erasures
from sluicegate.fleet.node import node_id
from sluicegate.fleet.records.gathering import Gathering
from sluicegate.fleet.records.rounds import Ends, Rounds
from sluicegate.fleet.records.shipping import Shipping
from sluicegate.fleet.records.table import Records
from sluicegate.fleet.sign_in.store import SignInTables
from sluicegate.fleet.store.notices import Notices
from sluicegate.fleet.store.postgresql import PostgresEngine, PostgresStore
from sluicegate.fleet.store.reach import Reached
from sluicegate.fleet.store.session import Session
from sluicegate.fleet.store.sql_store import SqlStore
from sluicegate.fleet.store.sqlite import FILENAME, SqliteStore
from sluicegate.policy.store_address import StoreAddress


class OverNetwork:
    """A store in PostgreSQL."""

    def __init__(self, reached: Reached, host: str) -> None:
        """``host`` is the name of the state folder, whichever worker uses it."""
        self.name, self.host, self._reached = reached.name, host, reached

    def address(self) -> StoreAddress:
        """Return the store's address. Raises StoreAddressError."""
        return self._reached.address()

    def open(self) -> SqlStore:
        """Return the store, connected with its first use."""
        return PostgresStore(self._reached.connect)

    def sign_ins(self) -> SignInTables:
        """Return the sign-ins in the store, connected with their first use."""
        return SignInTables(PostgresEngine(self._reached.connect), is_shared=True)

    def exchange(self, ends: Ends) -> Rounds:
        """Return what takes a node's records to the store, and fetches the others'."""
        records = Records(self._reached.connect)
        if ends.shared == ends.database:
            return Shipping(ends.database, records, ends.node, ends.unconfirmed, ends.on_replaced, self._more(records, ends.node))

        def host() -> str:
            # The records of all workers are this host's, whichever of them delivers.
            return node_id(ends.shared.parent)

        more = self._more(records, host)
        return Gathering(ends, Shipping(ends.shared, records, host, tuple, ends.on_replaced, more))

    def _more(self, records: Records, node: Callable[[], str]) -> tuple[Exchange, Erasing]:
        """Return what is exchanged apart from records."""
        erasing = Erasing(Erasures(records.session), Erasures(Session(self._reached.connect)), node, self.host)
        return Exchange(Entries(records.session), node, self.host, erasing), erasing

    def notices(self, callbacks: Mapping[str, Callable[[], None]]) -> Notices | None:
        """Return what waits for the store to tell something."""
        return Notices(self._reached.connect, callbacks)


class OneHost:
    """A store in the state folder that workers share."""

    host = None

    def __init__(self, state_dir: Path, name: str, clock: Callable[[], int]) -> None:
        """Go by the host's clock."""
        self.name = name
        self._file, self._clock = state_dir / FILENAME, clock

    def address(self) -> Path:
        """Return the file."""
        return self._file

    def open(self) -> SqlStore:
        """Return the store, opened with its first use."""
        return SqliteStore(self._file, self._clock)

    def exchange(self, ends: Ends) -> Rounds:
        """Return what takes a worker's records to the shared database."""
        return Gathering(ends)

    def notices(self, _: Mapping[str, Callable[[], None]]) -> Notices | None:
        """Return None: a file tells nothing."""
        return None


def has_workers(state_dir: Path) -> bool:
    """Return whether workers have used a state folder: then what each has spent counts for all."""
    return (state_dir / FILENAME).exists()
