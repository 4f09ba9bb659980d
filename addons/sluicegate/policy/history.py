"""History: notes every policy that comes in force, also those somebody saved in an editor, in a thread of its own."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from sluicegate.background import low_priority
from sluicegate.policy.diff import compare_policies, summarize
from sluicegate.policy.redaction import NotRedactable, redact
from sluicegate.policy.revisions import Revision, Revisions, RevisionsError
from sluicegate.policy.watcher import ActivePolicy
from sluicegate.windows import iso

logger = logging.getLogger("sluicegate.policy")

STOP_TIMEOUT_S = 5.0
"""Seconds a stop waits for what is still to be noted."""


class History:
    """Writes what it is told of, in that order."""

    def __init__(self, revisions: Revisions, first: ActivePolicy) -> None:
        self.revisions = revisions
        self._told: queue.SimpleQueue[ActivePolicy | None] = queue.SimpleQueue()
        self._last = first
        self._thread = threading.Thread(target=self._run, name="sluicegate-history", daemon=True)

    def start(self) -> None:
        """Note the policy there was at the start, and go on."""
        if not self._thread.is_alive():
            self._thread.start()

    def record(self, fresh: ActivePolicy) -> None:
        """A policy has come in force."""
        self._told.put(fresh)

    def stop(self) -> None:
        """Note what is left, and end."""
        self._told.put(None)
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        self._safely(self._begin)
        while (fresh := self._told.get()) is not None:
            with low_priority():
                self._safely(lambda: self._note(fresh, summarize(compare_policies(self._last.policy.file, fresh.policy.file))))
            self._last = fresh

    def _begin(self) -> None:
        newest = self.revisions.newest()
        if newest != self._last.policy.revision:
            with low_priority():
                self._note(self._last, "changed while the gateway did not run" if newest else "the first policy")

    def _note(self, one: ActivePolicy, words: str) -> None:
        revision = Revision(one.policy.revision, iso(one.at), one.who, one.action, words, redacted_files(one.files))
        self.revisions.add(revision)

    def _safely(self, note: Callable[[], None]) -> None:
        try:
            note()
        except RevisionsError as e:
            logger.warning("%s", e)
        except Exception:
            logger.exception("a policy could not be noted in the history")


def redacted_files(files: Mapping[Path, bytes]) -> dict[str, str]:
    """The texts of a policy's files without secrets, by name; of one that cannot be freed of them, only why."""
    found: dict[str, str] = {}
    for file, data in files.items():
        try:
            found[file.name] = redact(data.decode(), file.name).text
        except (NotRedactable, yaml.YAMLError, UnicodeDecodeError):
            found[file.name] = UNREDACTABLE_TEXT
    return found


UNREDACTABLE_TEXT = "# This file is not shown: it is written so that its secrets cannot be told from the rest for certain.\n"
"""Stands for a file's text; it is no policy, so it is never put in force."""
