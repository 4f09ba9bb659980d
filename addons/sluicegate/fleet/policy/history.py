"""The history of a policy in the store, as each node keeps it: every version, whoever made it and wherever.

A thread of its own fetches what is new when it is told that there may be something, and looks by itself from time to time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sluicegate.background import low_priority
from sluicegate.fleet.policy.source import StoreSource
from sluicegate.fleet.policy.table import Version
from sluicegate.fleet.store.protocol import FleetError
from sluicegate.policy.history import History, redacted_files
from sluicegate.policy.revisions import Revision, Revisions, RevisionsError
from sluicegate.policy.source import PolicySource
from sluicegate.policy.watcher import ActivePolicy
from sluicegate.windows import iso

logger = logging.getLogger("sluicegate.policy")

LOOK_S = 2.0
"""How often it looks by itself."""

PER_FETCH = 20
"""Versions fetched at once."""

STOP_TIMEOUT_S = 5.0
"""Seconds that ``stop`` waits for what is under way."""


class Notified(Protocol):
    """A node that is told of new policies by the store."""

    on_policy: Callable[[], None]


def open_history(source: PolicySource, revisions: Revisions, first: ActivePolicy, fleet: Notified | None) -> History | StoreHistory:
    """Return what records the policies that come into force, wherever the policy is kept."""
    if not isinstance(source, StoreSource):
        return History(revisions, first)
    history = StoreHistory(source, revisions)
    if fleet is not None:
        fleet.on_policy = history.look
    return history


class StoreHistory:
    """Fetches the policy when it changes, and records its versions in order."""

    def __init__(self, source: StoreSource, revisions: Revisions) -> None:
        self.source, self.revisions = source, revisions
        self._wanted, self._closed = threading.Event(), False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="sluicegate-store-policy", daemon=True)

    def start(self) -> None:
        """Record what is there, then all that follow."""
        if self._thread.ident is None:
            self._wanted.set()
            self._thread.start()

    def look(self) -> None:
        """Look now whether the store has a new version. From any thread, returns at once."""
        self._wanted.set()

    def record(self, _: ActivePolicy) -> None:
        """Record a version that has come into force here."""
        self._wanted.set()

    def wait(self) -> None:
        """Return once all that the store has is recorded, or that has failed."""
        self._safely()

    def stop(self) -> None:
        """End, and close the connection."""
        self._closed = True
        self._wanted.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT_S)
        self.source.close()

    def _run(self) -> None:
        while True:
            self._wanted.wait(LOOK_S)
            self._wanted.clear()
            if self._closed:
                return
            self._safely()

    def _safely(self) -> None:
        try:
            with self._lock:
                self.catch_up()
        except (FleetError, RevisionsError) as e:
            logger.warning("Policy revision could not be recorded in the history: %s", e)
        except Exception:
            logger.exception("Policy revision could not be recorded in the history")

    def catch_up(self) -> None:
        """Fetch the version in force, and record all that are not recorded. Raises FleetError or RevisionsError."""
        if not self.source.fetch():
            return
        # A store that was restored from a backup counts on from there.
        recorded = min(self.revisions.newest_version(), self.source.number)
        while found := self.source.since(recorded, PER_FETCH) if recorded < self.source.number else []:
            for version in found:
                with low_priority():
                    self.revisions.add(_revision(version))
            recorded = found[-1].number


def _revision(version: Version) -> Revision:
    files = redacted_files({Path(name): text.encode() for name, text in version.files.items()})
    about = (version.who, version.action, version.summary)
    return Revision(version.revision, iso(version.put_at), *about, files, version.node, version.number)
