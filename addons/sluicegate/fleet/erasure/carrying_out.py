"""Carrying out erasures on one node, in the thread that exchanges records: before anything more is delivered or fetched.

A record that another node has delivered before it erased may still come: as long as not every node has done it, whatever comes
has the person taken out on its way. So whoever has once erased a person never has them again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from sluicegate.calls.personal_data import Person
from sluicegate.calls.record import Record
from sluicegate.fleet.entries.rows import Entry
from sluicegate.fleet.erasure.rewriting import EraseEntry, rewrite_store
from sluicegate.fleet.erasure.table import Erasures

logger = logging.getLogger("sluicegate")

RETRY_S = 5.0
"""Pause before an erasure is tried again that had to wait for something."""


class Outcome(NamedTuple):
    """What came of an erasure on this node."""

    calls: int = 0
    waits_for: str | None = None
    """What has to happen first; None: it is done."""


class Erasing:
    """One node's part in erasures."""

    def __init__(self, erasures: Erasures, asked: Erasures, node: Callable[[], str], name: str) -> None:
        """``erasures`` is for the thread that exchanges records, ``asked`` for requests."""
        self.erasures, self._asked, self._node, self._name = erasures, asked, node, name
        self._asking = threading.Lock()
        self.carry_out: Callable[[Person, str], Outcome] | None = None
        """Erases a person here, for whom it was asked; None until the gateway serves. Blocking."""
        self.erase_entry: EraseEntry = lambda _, __, values: values
        self.lock = threading.Lock()
        """Held while records are exchanged, and while a person is erased: none is under way meanwhile."""
        self.by_hand: set[str] = set()
        """Pseudonyms of persons who are being erased by a request."""
        self._persons: list[Person] = []
        self._retry_at: dict[str, float] = {}
        self._is_registered = False

    def begin(self, person: Person, who: str) -> None:
        """Ask every node to erase a person. Raises FleetError."""
        with self._asking:
            self._asked.begin(person, who, self._node())

    def asked_for(self, user_id: str) -> Person | None:
        """Return a user who is being erased, under the pseudonym that was chosen; None for any other. Raises FleetError."""
        with self._asking:
            found = self._asked.open_for(self._node())
        return next((erasure.person for erasure in found if erasure.person.user_id == user_id), None)

    def states(self, pseudonym: str | None = None) -> list[dict[str, Any]]:
        """Return how far erasures are, newest first. Raises FleetError."""
        with self._asking:
            return self._asked.states(pseudonym)

    def close(self) -> None:
        """Close the connection of requests."""
        with self._asking:
            self._asked.session.close()

    def round(self) -> None:
        """Carry out what is asked, and note who is to be taken out of what comes. Raises FleetError."""
        if not self._is_registered:
            self.erasures.register(self._node(), self._name)
            self._is_registered = True
        found = self.erasures.open_for(self._node())
        self._persons = [erasure.person for erasure in found]
        for erasure in found:
            is_due = time.monotonic() >= self._retry_at.get(erasure.id, 0)
            if not erasure.is_done and erasure.id not in self.by_hand and is_due and self.carry_out is not None:
                self._retry_at[erasure.id] = time.monotonic() + RETRY_S
                self.finish(erasure.person, self.carry_out(erasure.person, erasure.who))

    def finish(self, person: Person, outcome: Outcome) -> None:
        """Take a person out of the store, if that was done here, and tell what came of it. Raises FleetError."""
        if outcome.waits_for is None:
            rewrite_store(self.erasures.session, person, self.erase_entry)
            logger.warning("Erased %s here, as the fleet was asked to: %d calls", person.pseudonym, outcome.calls)
        self.erasures.report(person.pseudonym, self._node(), outcome.calls, outcome.waits_for)

    def without_erased(self, records: Iterable[Record]) -> list[Record]:
        """Return records that have come, without whoever is being erased."""
        found = list(records)
        for person in self._persons:
            found = [person.erase(record) for record in found]
        return found

    def entry_without_erased(self, entry: Entry) -> Entry:
        """Return an entry that has come, without whoever is being erased."""
        for person in self._persons:
            entry = entry._replace(values=self.erase_entry(person, entry.kind, entry.values))
        return entry
