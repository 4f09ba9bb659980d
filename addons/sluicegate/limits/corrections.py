"""Corrections by operators where several gateways share limits: they stand in the shared store, and wait on file until they do.

Each has the id of the entry that it is due to, and the store counts an id once. So whatever ends this gateway at whatever
moment, a correction is sent again until the store is known to have it, and counts once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple


class WaitingCorrection(NamedTuple):
    """A change to what one window has used that the store may not have yet. Times are epoch milliseconds."""

    id: str
    counter: str
    start: int
    end: int | None
    amount: int


class Corrections:
    """The corrections that the store is to be told, and what of that is not on file yet."""

    def __init__(self) -> None:
        self.waiting: list[WaitingCorrection] = []
        """In the order in which they were made."""
        self._unsaved: list[WaitingCorrection] = []
        self._confirmed: set[str] = set()

    def note(self, correction: WaitingCorrection) -> None:
        """Keep a correction that has just been made."""
        self.waiting.append(correction)
        self._unsaved.append(correction)

    def restore(self, saved: Iterable[WaitingCorrection]) -> None:
        """Keep the corrections that were read from a file: they came before the others."""
        self.waiting[:0] = saved

    def confirm(self, made: Collection[WaitingCorrection]) -> None:
        """Forget the corrections that the store has."""
        ids = {correction.id for correction in made}
        self.waiting = [c for c in self.waiting if c.id not in ids]
        self._unsaved = [c for c in self._unsaved if c.id not in ids]
        self._confirmed |= ids

    @property
    def has_changes(self) -> bool:
        """Whether ``take_changes`` would hand over anything."""
        return bool(self._unsaved or self._confirmed)

    def take_changes(self) -> tuple[Sequence[WaitingCorrection], frozenset[str]]:
        """Hand over the corrections to be put on file, and the ids of those to be removed from it."""
        taken = self._unsaved, frozenset(self._confirmed)
        self._unsaved, self._confirmed = [], set()
        return taken

    def put_back(self, unsaved: Sequence[WaitingCorrection], confirmed: frozenset[str]) -> None:
        """Take back what could not be written."""
        self._unsaved[:0] = unsaved
        self._confirmed |= confirmed
