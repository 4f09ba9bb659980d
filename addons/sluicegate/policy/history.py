"""The history of the policy: records every policy that comes into force, edited by hand or not, in a thread of its own."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import yaml

from sluicegate.background import low_priority
from sluicegate.policy.diff import compare_policies, summarize
from sluicegate.policy.redaction import NotRedactableError, redact
from sluicegate.policy.revisions import Revision, Revisions, RevisionsError
from sluicegate.policy.watcher import ActivePolicy
from sluicegate.windows import iso

logger = logging.getLogger("sluicegate.policy")

STOP_TIMEOUT_S = 5.0
"""Seconds that ``stop`` waits for what is still to be recorded."""


class History:
    """Records policies in the order they came into force."""

    def __init__(self, revisions: Revisions, first: ActivePolicy) -> None:
        self.revisions = revisions
        self._pending: queue.SimpleQueue[ActivePolicy | threading.Event | None] = queue.SimpleQueue()
        self._last = first
        self._thread = threading.Thread(target=self._run, name="sluicegate-history", daemon=True)

    def start(self) -> None:
        """Record the policy in force at the start, then all that follow."""
        if not self._thread.is_alive():
            self._thread.start()

    def record(self, active: ActivePolicy) -> None:
        """Queue a policy that has come into force."""
        self._pending.put(active)

    def wait(self) -> None:
        """Return once all that is queued has been recorded, or after ``STOP_TIMEOUT_S``."""
        if self._thread.is_alive():
            recorded = threading.Event()
            self._pending.put(recorded)
            recorded.wait(STOP_TIMEOUT_S)

    def stop(self) -> None:
        """Record what is queued, then end."""
        self._pending.put(None)
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        self._safely(self._begin)
        while (active := self._pending.get()) is not None:
            if isinstance(active, threading.Event):
                active.set()
                continue
            # A summary compares two whole policies, which takes a second for ten thousand keys.
            with low_priority():
                self._safely(partial(self._compare_and_add, active))
            self._last = active

    def _compare_and_add(self, active: ActivePolicy) -> None:
        self._add(active, summarize(compare_policies(self._last.policy.file, active.policy.file)))

    def _begin(self) -> None:
        newest = self.revisions.newest()
        if newest != self._last.policy.revision:
            with low_priority():
                self._add(self._last, "changed while the gateway was not running" if newest else "the first policy")

    def _add(self, active: ActivePolicy, summary: str) -> None:
        revision = Revision(
            active.policy.revision, iso(active.at), active.who, active.action, summary, redacted_files(active.files)
        )
        self.revisions.add(revision)

    def _safely(self, action: Callable[[], None]) -> None:
        try:
            action()
        except RevisionsError as e:
            logger.warning("Policy revision could not be recorded in the history: %s", e)
        except Exception:
            logger.exception("Policy revision could not be recorded in the history")


def redacted_files(files: Mapping[Path, bytes]) -> dict[str, str]:
    """Return the texts of a policy's files without secrets, by name; ``UNREDACTABLE_TEXT`` where they cannot be removed."""
    found: dict[str, str] = {}
    for file, data in files.items():
        try:
            found[file.name] = redact(data.decode(), file.name).text
        except (NotRedactableError, yaml.YAMLError, UnicodeDecodeError):
            found[file.name] = UNREDACTABLE_TEXT
    return found


UNREDACTABLE_TEXT = "# This file is not shown: it is written so that its secrets cannot be told from the rest for certain.\n"
"""Replaces a file's text. It is not a valid policy, so it cannot be activated by mistake.

Revisions already stored contain exactly this text and are recognised by it: do not reword it.
"""
