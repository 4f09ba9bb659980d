"""Watching where the policy is kept: a valid edit takes effect within a second, an invalid one never does."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from sluicegate.background import PeriodicThread, low_priority
from sluicegate.policy.file_source import FileSource, file_fingerprint
from sluicegate.policy.loader import PolicyError, policy_from_files
from sluicegate.policy.model import Policy
from sluicegate.policy.secrets import FILE
from sluicegate.policy.source import Fingerprint, PolicySource
from sluicegate.yaml_document import Problem

logger = logging.getLogger("sluicegate.policy")

POLL_INTERVAL_S = 0.1
"""Seconds between two checks of the source. Of files each costs a stat per file."""


class ActivePolicy(NamedTuple):
    """A policy in force, the files it is made of, and who put it in force."""

    policy: Policy
    files: Mapping[Path, bytes]
    at: int
    """Epoch milliseconds."""
    who: str | None = None
    """None where the files were edited by hand."""
    action: str = "edit"


class PolicyWatcher:
    """Keeps ``current`` up to date. It is replaced whole by one assignment, so readers need no lock."""

    def __init__(self, source: Path | PolicySource, env: Mapping[str, str], clock: Callable[[], int]) -> None:
        """Load the policy from its source, or from a file or folder; or the newest valid one that is kept. Raises PolicyError."""
        self.source: PolicySource = FileSource(source) if isinstance(source, Path) else source
        self.path, self.env, self.clock = self.source.path, env, clock
        self.reload_errors = 0
        self.problems: tuple[Problem, ...] = ()
        self.lock = threading.Lock()
        """Held while the files are read or replaced, so that no half-made change is read."""
        self._fingerprint = self.source.fingerprint()
        self.current, files = self._first()
        self._secrets = SecretFiles(self.current)
        self.active = ActivePolicy(self.current, files, clock(), None, "start")
        self.on_change: Callable[[ActivePolicy], None] = lambda _: None
        """Called with every policy that comes into force, in the thread that activated it; it must be quick."""
        self.on_activate: Callable[[Policy], None] = lambda _: None
        """Called before each policy that is read comes into force, also where only a file has changed that it names."""
        self.unfit: Callable[[Policy], str | None] = lambda _: None
        """Returns why this process cannot serve a policy that is valid elsewhere; None where it can."""
        self._thread = PeriodicThread("sluicegate-policy", POLL_INTERVAL_S, self._watch)

    def _first(self) -> tuple[Policy, Mapping[Path, bytes]]:
        """Return the policy to start with, and its files. Raises PolicyError."""

        def read(files: Mapping[Path, bytes]) -> tuple[Policy, Mapping[Path, bytes]]:
            return policy_from_files(self.path, files, env=self.env, now=self.clock()), files

        try:
            return read(self.source.read())
        except PolicyError as e:
            for files in self.source.earlier():
                with contextlib.suppress(PolicyError):
                    found = read(files)
                    self.reload_errors, self.problems = 1, e.problems
                    logger.error(
                        "The newest policy is invalid; starting with revision %s, which was before it:\n%s", found[0].revision, e
                    )
                    return found
            raise

    @property
    def error(self) -> dict[str, Any] | None:
        """Return what is wrong with the last edit, None while the policy on disk is in force."""
        if not self.problems:
            unread = self.source.error
            return None if unread is None else {"file": str(self.path), "line": 0, "path": "", "message": unread}
        first = self.problems[0]
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        return {"file": first.file, "line": first.line, "path": first.path, "message": first.message + more}

    def has_changed(self) -> bool:
        """Return whether the files, or those of the secrets they refer to, have changed since they were last read."""
        return self.source.fingerprint() != self._fingerprint or self._secrets.have_changed()

    def reload(self) -> bool:
        """Read the files again; return whether their policy is in force now. An invalid one leaves the last valid one in force."""
        with self.lock, low_priority():
            return self._reload()

    def require(self, policy: Policy) -> None:
        """Refuse a policy that cannot be kept here, or that this process cannot serve. Raises PolicyError."""
        self.source.require(policy)
        if (why := self.unfit(policy)) is not None:
            raise PolicyError([Problem(str(self.path), 0, "", why)])

    def activate(self, active: ActivePolicy, fingerprint: Fingerprint) -> None:
        """Put a policy into force that was read from files with this fingerprint. The caller holds ``lock``."""
        self._fingerprint, self.problems = fingerprint, ()
        self._secrets = SecretFiles(active.policy, self._secrets.seen)
        self.on_activate(active.policy)
        old, self.current, self.active = self.current.revision, active.policy, active
        if old != active.policy.revision:
            logger.warning("Policy revision %s is in force and replaces %s", active.policy.revision, old)
            self.on_change(active)

    def _reload(self) -> bool:
        # Taken before reading: an edit made meanwhile is noticed at the next check.
        fingerprint = self.source.fingerprint()
        self._secrets.note()
        try:
            files = self.source.read()
            policy = policy_from_files(self.path, files, env=self.env, now=self.clock())
            self.require(policy)
        except PolicyError as e:
            self.reload_errors += 1
            self.problems = e.problems
            logger.error("Policy reload failed; still using revision %s:\n%s", self.current.revision, e)
            return False
        finally:
            # After an invalid edit too: it is reported once, not at every check.
            self._fingerprint = fingerprint
        self.activate(ActivePolicy(policy, files, self.clock()), fingerprint)
        return True

    def start(self) -> None:
        """Start watching in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._thread.stop()

    def _watch(self) -> None:
        try:
            if self.has_changed():
                self.reload()
        except Exception:
            logger.exception("Policy files cannot be watched; still using revision %s", self.current.revision)


class SecretFiles:
    """The files that a policy's secrets and authorities are read from, and how they were before they were last read."""

    def __init__(self, policy: Policy, seen: Mapping[str, Any] | None = None) -> None:
        """Find the files of a policy that has been read. ``seen`` is how some of them were before that."""
        parts = (policy.file.providers, policy.file.alerts, policy.file.server, policy.file.oidc)
        named = {text.removeprefix(FILE) for part in parts for text in _texts(part) if text.startswith(FILE)}
        self.paths = sorted({*named, *filter(None, [policy.server.ca_bundle])})
        self.seen = {**self._look(), **{path: at for path, at in (seen or {}).items() if path in self.paths}}

    def note(self) -> None:
        """Take the files as they are now for what is about to be read."""
        self.seen = self._look()

    def have_changed(self) -> bool:
        """Return whether any file has changed, come or gone."""
        return bool(self.paths) and self._look() != self.seen

    def _look(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path in self.paths:
            try:
                found[path] = file_fingerprint(path, Path(path).expanduser().stat())
            except (OSError, ValueError, RuntimeError) as e:
                found[path] = type(e).__name__
        return found


def _texts(part: Any) -> Iterator[str]:
    """Yield every text in a part of the parsed policy."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, BaseModel):
        for _, value in part:
            yield from _texts(value)
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from _texts(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from _texts(value)
