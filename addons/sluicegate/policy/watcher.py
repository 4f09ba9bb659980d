"""The live policy: the file or folder is watched, a good edit takes effect within a second, a bad one never does."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sluicegate.background import low_priority
from sluicegate.policy.loader import PolicyError, policy_files, policy_from_files, read_files
from sluicegate.policy.model import Policy
from sluicegate.yaml_document import Problem

logger = logging.getLogger("sluicegate.policy")

Fingerprint = tuple[Any, ...]

POLL_INTERVAL_S = 0.1
"""Seconds between two looks at the files. Looking costs a stat each and misses no symlink swap, rename or network mount."""


class ActivePolicy(NamedTuple):
    """A policy that has come in force, the files it is made of, and whose change it was."""

    policy: Policy
    files: Mapping[Path, bytes]
    at: int
    """Epoch milliseconds."""
    who: str | None = None
    """None: whoever saved the files."""
    action: str = "edit"


class PolicyWatcher:
    """Keeps ``current`` up to date. ``current`` is replaced whole by one assignment, so readers need no lock."""

    def __init__(self, path: Path, env: Mapping[str, str], clock: Callable[[], int]) -> None:
        """Load the policy. Raises PolicyError."""
        self.path, self.env, self.clock = path, env, clock
        self.reload_errors = 0
        self.problems: tuple[Problem, ...] = ()
        self.lock = threading.Lock()
        """Held while the files are read or replaced by us, so that nobody looks at half a change."""
        self._fingerprint = files_fingerprint(path)
        files = read_files(path)
        self.current: Policy = policy_from_files(path, files, env=env, now=clock())
        self.active = ActivePolicy(self.current, files, clock(), None, "start")
        self.on_change: Callable[[ActivePolicy], None] = lambda _: None
        """Told of every policy that comes in force, by whoever made it do so: it must not take long."""
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

    def has_changed(self) -> bool:
        """Whether the files look different from when they were last read."""
        return files_fingerprint(self.path) != self._fingerprint

    def reload(self) -> bool:
        """Read again; True if a new policy is in force now, False if the last good one stays."""
        with self.lock, low_priority():
            return self._reload()

    def activate(self, fresh: ActivePolicy, seen: Fingerprint) -> None:
        """Put a policy in force that was read from files that look like ``seen``. The caller holds ``lock``."""
        self._fingerprint, self.problems = seen, ()
        old, self.current, self.active = self.current.revision, fresh.policy, fresh
        if old != fresh.policy.revision:
            logger.warning("policy %s is in force, it was %s", fresh.policy.revision, old)
            self.on_change(fresh)

    def _reload(self) -> bool:
        seen = files_fingerprint(self.path)
        try:
            files = read_files(self.path)
            fresh = policy_from_files(self.path, files, env=self.env, now=self.clock())
        except PolicyError as e:
            self.reload_errors += 1
            self.problems = e.problems
            logger.error("the policy was not changed, revision %s stays:\n%s", self.current.revision, e)
            return False
        finally:
            self._fingerprint = seen
        self.activate(ActivePolicy(fresh, files, self.clock()), seen)
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
        while not self._stop.wait(POLL_INTERVAL_S):
            try:
                if self.has_changed():
                    self.reload()
            except Exception:
                logger.exception("the policy cannot be watched")


def files_fingerprint(path: Path) -> Fingerprint:
    """How a policy's files look from outside: any edit, rename or swap changes it."""
    try:
        files = policy_files(path)
    except OSError as e:
        return (type(e).__name__,)
    found: list[Any] = []
    for file in files:
        try:
            found.append(file_fingerprint(file.name, file.stat()))
        except OSError as e:
            found.append((file.name, type(e).__name__))
    return tuple(found)


def file_fingerprint(name: str, at: os.stat_result) -> tuple[Any, ...]:
    """One file's part of a signature."""
    return name, at.st_mtime_ns, at.st_size, at.st_ino
