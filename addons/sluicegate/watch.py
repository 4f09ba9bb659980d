"""The live policy: the file or folder is watched, a good edit takes effect within a second, a bad one never does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sluicegate.loader import PolicyError, load, policy_files
from sluicegate.policy import Policy
from sluicegate.yamlfile import Problem

logger = logging.getLogger("sluicegate.policy")

POLL = 0.3
"""Seconds between two looks at the files. Looking costs a stat each and misses no symlink swap, rename or network mount."""


class PolicySource:
    """Keeps ``current`` up to date. ``current`` is replaced whole by one assignment, so readers need no lock."""

    def __init__(self, path: Path, env: Mapping[str, str], clock: Callable[[], int]) -> None:
        """Load the policy. Raises PolicyError."""
        self.path, self.env, self.clock = path, env, clock
        self.reload_errors = 0
        self.problems: tuple[Problem, ...] = ()
        self._seen = self._signature()
        self.current: Policy = load(path, env=env, now=clock())
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def error(self) -> dict[str, Any] | None:
        """What is wrong with the last edit, None while what serves is what is on disk."""
        if not self.problems:
            return None
        first = self.problems[0]
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        return {"file": first.file, "line": first.line, "path": first.path, "message": first.message + more}

    def changed(self) -> bool:
        """Whether the files look different from when they were last read."""
        return self._signature() != self._seen

    def reload(self) -> bool:
        """Read again; True if a new policy is in force now, False if the last good one stays."""
        seen = self._signature()
        try:
            fresh = load(self.path, env=self.env, now=self.clock())
        except PolicyError as e:
            self.reload_errors += 1
            self.problems = e.problems
            logger.error("the policy was not changed, revision %s stays:\n%s", self.current.revision, e)
            return False
        finally:
            self._seen = seen
        self.problems = ()
        old, self.current = self.current.revision, fresh
        if old != fresh.revision:
            logger.warning("policy %s is in force, it was %s", fresh.revision, old)
        return True

    def start(self) -> None:
        """Watch in a thread of its own."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sluicegate-policy", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(POLL):
            try:
                if self.changed():
                    self.reload()
            except Exception:
                logger.exception("the policy cannot be watched")

    def _signature(self) -> tuple[Any, ...]:
        try:
            files = policy_files(self.path)
        except OSError as e:
            return (type(e).__name__,)
        found: list[Any] = []
        for file in files:
            try:
                at = file.stat()
            except OSError as e:
                found.append((file.name, type(e).__name__))
            else:
                found.append((file.name, at.st_mtime_ns, at.st_size, at.st_ino))
        return tuple(found)
