"""The policy of a fleet as one of its nodes has it: fetched from the store, and changed there by whoever was not overtaken.

What is in force here is asked for ten times a second, so that question goes to memory; the store is read when it says that there
is a new version, by a notification or by its answer to a regular message.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sluicegate.fleet.policy import copy
from sluicegate.fleet.policy.table import PolicyTable, UnknownOutcome, Version
from sluicegate.fleet.store.protocol import FleetError
from sluicegate.fleet.store.reach import Reached
from sluicegate.policy.loader import PolicyError
from sluicegate.policy.model import Policy
from sluicegate.policy.source import FilesChangedError, Fingerprint, PolicyNotWritableError, Reading, Written
from sluicegate.yaml_document import Problem

logger = logging.getLogger("sluicegate.policy")

FOLDER = Path("store")
"""Where messages say that the files are."""

START_TIMEOUT_S, START_PAUSE_S = 60.0, 1.0
"""How long a start waits for the store where there is no copy, and between two attempts."""

PUSH = "put one there: sluicegate policy push FILE"


class StoreSource:
    """The policy in the store."""

    path = FOLDER

    def __init__(self, local: Path, state_dir: Path, table: PolicyTable, node: str, reached: Reached | None = None) -> None:
        """``local`` is the file that names the store, ``reached`` what it says, ``table`` a connection for this object alone."""
        self.local, self.state_dir, self.table, self.node, self.reached = local, state_dir, table, node, reached
        self.error: str | None = None
        """Why the store cannot be read; None while it can."""
        self.is_confirmed = False
        """Whether the store has said what is in force since this process started: until then a key may have been revoked."""
        self.set_back = 0
        """How often the store has gone back to an earlier version since this process started."""
        self._held: Version | None = None
        self._lock = threading.Lock()
        """Held while the connection is used."""
        self._writing = threading.Lock()

    # -- reading -------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Get the policy for the first time: from the store, or the copy while that is away. Raises PolicyError."""
        end, is_announced = time.monotonic() + START_TIMEOUT_S, False
        while not self.fetch():
            self._held = self._held or copy.load(self.state_dir)
            if self._held is not None:
                logger.warning(
                    "The store cannot be reached, so the policy is the copy of revision %s, and calls are refused until the store "
                    "has confirmed it: keys may have been revoked since: %s",
                    self._held.revision,
                    self.error,
                )
                return
            if time.monotonic() >= end:
                raise PolicyError([Problem(str(self.local), 0, "policy.source", f"the store cannot be reached: {self.error}")])
            if not is_announced:
                logger.warning("The store of the policy cannot be reached; trying for %d s: %s", START_TIMEOUT_S, self.error)
                is_announced = True
            time.sleep(START_PAUSE_S)

    def fetch(self) -> bool:
        """Ask the store which version is in force, and fetch it if it is another; return whether the store has answered."""
        with self._lock:
            try:
                # A store that was restored counts to the same number a second time.
                newest = self._held if self._held is not None and self.table.head() == self._held[:2] else self.table.newest()
            except FleetError as e:
                if self.error is None and self._held is not None:
                    logger.warning(
                        "The store of the policy cannot be reached; revision %s stays in force: %s", self._held.revision, e
                    )
                self.error = str(e)
                return False
            self._hold(newest)
        return True

    def _hold(self, newest: Version | None) -> None:
        if self.error is not None and newest is not None:
            logger.warning("The store of the policy answers again; its revision is %s", newest.revision)
        self.error, self.is_confirmed = None, True
        if newest is None or newest is self._held:
            return
        if (held := self._held) is not None and newest.number <= held.number:
            self.set_back += 1
            logger.warning(
                "The policy in the store has gone back from version %d, revision %s, to version %d, revision %s, as where it was "
                "restored from a backup: keys that were revoked since are valid again. If that is not meant: sluicegate policy "
                "restore %s",
                held.number,
                held.revision,
                newest.number,
                newest.revision,
                held.revision,
            )
        self._held = newest
        try:
            if newest.files:
                copy.save(self.state_dir, newest)
        except OSError as e:
            logger.warning("The copy of the policy in %s cannot be written: %s", self.state_dir, e.strerror)

    def since(self, number: int, limit: int) -> list[Version]:
        """Return the versions after one. Raises FleetError."""
        with self._lock:
            return self.table.since(number, limit)

    @property
    def number(self) -> int:
        """Return the number of the version that this node has."""
        held = self._held
        return 0 if held is None else held.number

    def fingerprint(self) -> Fingerprint:
        """Return the version that this node has."""
        held = self._held
        return (0, "") if held is None else held[:2]

    def read(self) -> Mapping[Path, bytes]:
        """Return the contents of its files. Raises PolicyError where the store has none."""
        held = self._held
        if held is None:
            raise PolicyError([Problem(str(self.local), 0, "policy.source", f"the store has no policy yet; {PUSH}")])
        if not held.files:
            why = f"version {held.number} in the store is none that sluicegate has written; {PUSH} --replace {held.revision}"
            raise PolicyError([Problem(str(FOLDER), 0, "", why)])
        return _contents(held)

    def earlier(self) -> Iterator[Mapping[Path, bytes]]:
        """Yield the versions before the newest, as long as the store answers: nodes that run stay with the last valid one too."""
        number = self.number
        while number > 1:
            try:
                with self._lock:
                    found = self.table.before(number)
            except FleetError as e:
                logger.warning("Earlier versions of the policy cannot be fetched: %s", e)
                return
            if found is None:
                return
            number = found.number
            if found.files:
                yield _contents(found)

    def require(self, policy: Policy) -> None:
        """Take any policy: where it says that it is kept is not asked of one that is in the store."""

    # -- writing -------------------------------------------------------------------------------------------------------

    def why_read_only(self) -> None:
        """Say that it may be changed."""

    def is_writable(self) -> bool:
        """Return whether the store answers."""
        return self.error is None

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Exclude other threads of this process; other nodes are noticed."""
        with self._writing:
            yield

    def read_for_change(self) -> Reading:
        """Return what the store has now. Raises PolicyNotWritableError while it is away."""
        if not self.fetch():
            raise self._away()
        held = self._held
        assert held is not None
        return Reading(_contents(held), held.number)

    @contextmanager
    def replacing(self, reading: Reading, texts: Mapping[Path, bytes]) -> Iterator[_Next]:
        """Get the next version ready."""
        yield _Next(self, int(reading.mark), {file.name: texts.get(file, data).decode() for file, data in reading.data.items()})

    def put(self, expected: int, files: Mapping[str, str], written: Written) -> int | None:
        """Put a version in force, and hold it; return its number, None where another came first. Raises PolicyNotWritableError."""
        with self._lock:
            try:
                number = self.table.put(expected, files, written, self.node)
            except UnknownOutcome as e:
                why = f"the store was lost while it was told of the change, which may have been made; read the policy again: {e}"
                raise PolicyNotWritableError(why, lasting=False, unknown=True) from e
            except FleetError as e:
                self.error = str(e)
                raise self._away() from e
            if number is not None:
                self._hold(Version(number, written.revision, files, 0, written.who, written.action, written.summary, self.node))
        return number

    def _away(self) -> PolicyNotWritableError:
        why = f"the policy is in the store, which cannot be reached; the change was not made: {self.error}"
        return PolicyNotWritableError(why, lasting=False)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self.table.close()


class _Next:
    """A version that is to follow another."""

    def __init__(self, source: StoreSource, expected: int, files: Mapping[str, str]) -> None:
        self._source, self._expected, self._files = source, expected, files

    def check(self) -> None:
        """Raise FilesChangedError if this node knows that another came first."""
        if self._source.number != self._expected:
            raise FilesChangedError

    def put(self, written: Written) -> Fingerprint:
        """Put it in force. Raises FilesChangedError or PolicyNotWritableError."""
        number = self._source.put(self._expected, self._files, written)
        if number is None:
            raise FilesChangedError
        return (number, written.revision)


def _contents(version: Version) -> dict[Path, bytes]:
    return {FOLDER / name: text.encode() for name, text in version.files.items()}
