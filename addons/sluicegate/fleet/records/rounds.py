"""The thread that exchanges records in rounds, and goes on after a round that fails.

What a round does is said by those who inherit from it: ``shipping.py`` for a store over a network, ``gathering.py`` for the
workers of one host. Both take the records of this node further, and write down those of calls whose nodes have disappeared.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from sluicegate.calls.record import Record
from sluicegate.fleet.erasure.carrying_out import Erasing
from sluicegate.fleet.store.protocol import FleetError

logger = logging.getLogger("sluicegate")

INTERVAL_S = 0.5
"""Pause between two rounds."""

RECORDS_PER_BATCH = 500

CLOSING_S = 5.0
"""How long a gateway that stops goes on delivering what is left."""


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
    """Whether this worker does what only one of them does."""


class Rounds(ABC):
    """The thread."""

    def __init__(self) -> None:
        self.lag = 0
        """Own records that have not been taken further yet, as last counted."""
        self.error: str | None = None
        """Why records cannot be exchanged; None while they can."""
        self.delivered = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sluicegate-shipping", daemon=True)

    @property
    @abstractmethod
    def asked(self) -> Erasing | None:
        """Return this host's part in erasures; None where no other node has the same records."""

    @abstractmethod
    def round(self) -> None:
        """Take all that is new further, and fetch what is new. Raises FleetError and sqlite3.Error."""

    @abstractmethod
    def ship(self) -> bool:
        """Take some of this node's records further; return whether there are more. Raises FleetError and sqlite3.Error."""

    @abstractmethod
    def finish(self) -> None:
        """Do what is left after the last record. Raises FleetError and sqlite3.Error."""

    @abstractmethod
    def close_store(self) -> None:
        """Close the connections to the store."""

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
            self.finish()
        except (FleetError, sqlite3.Error) as e:
            logger.warning("The store lacks the last records; they are delivered after the next start: %s", e)
        self.close_store()

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

    def _ship_all(self) -> None:
        while self.ship() and not self._stop.is_set():
            continue
