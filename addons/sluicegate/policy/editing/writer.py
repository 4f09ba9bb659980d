"""Changing the policy on disk: one change at a time, validated whole, written down in the trail, replaced atomically.

Two writers never lose a change: within the machine by a lock on the folder, against an editor that saves meanwhile by
looking at the files once more right before they are replaced. What is replaced is in force when ``change`` returns.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluicegate import atomic_write
from sluicegate.background import low_priority
from sluicegate.policy.audit_trail import AuditEntry, AuditTrail
from sluicegate.policy.diff import compare_policies
from sluicegate.policy.editing.draft import Conflict, Draft, DraftEntry, EditError
from sluicegate.policy.editing.yaml_patch import Change, NotPatchable, rewrite
from sluicegate.policy.loader import PolicyError, build_policy, policy_files, revision_of
from sluicegate.policy.model import Policy
from sluicegate.policy.watcher import ActivePolicy, Fingerprint, PolicyWatcher, file_fingerprint
from sluicegate.windows import iso
from sluicegate.yaml_document import Document, parse

LOCK_TIMEOUT_S = 30.0
"""Seconds a change waits for others that are being written."""

MAX_ATTEMPTS = 5
"""How often a change is made anew because somebody saved the file meanwhile."""

RETRIES_EXHAUSTED = "the policy was saved by somebody else again and again while this change was being made"

_OF_ENTITY = re.compile(r"^(\w+\[\d+\]|providers\.\w+)\.?")
"""What in a problem's path says which entity it is about."""


class RevisionMismatch(Exception):
    """The policy is not the one the change was made for; ``revision`` is what it is now."""

    def __init__(self, revision: str) -> None:
        super().__init__(f"the policy has changed: it is revision {revision} now; read it again and repeat the change")
        self.revision = revision


class PolicyLocked(Exception):
    """Other changes are being written, or somebody keeps saving the file."""


class NotWritable(Exception):
    """The policy cannot be written; ``lasting`` says that trying again will not help."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


class _FilesChanged(Exception):
    """Somebody saved one of the files while the change was being made."""


@dataclass(frozen=True, slots=True)
class _Files:
    """The policy's files as they were read."""

    data: Mapping[Path, bytes]
    fingerprints: Mapping[Path, tuple[Any, ...]]
    docs: Sequence[Document]
    revision: str


class PolicyWriter:
    """Makes changes to one policy. Blocking: call it in a thread."""

    def __init__(self, watcher: PolicyWatcher, audit_trail: AuditTrail | None, clock: Callable[[], int]) -> None:
        self.watcher, self.audit_trail, self.clock = watcher, audit_trail, clock

    def change[T](
        self,
        work: Callable[[Draft], T],
        *,
        who: str,
        action: str,
        if_match: Callable[[str], bool] = lambda _: True,
        write: bool = True,
    ) -> tuple[T, Policy]:
        """Let ``work`` change a draft, then put it in force; its result, and the policy with the change in it.

        ``if_match`` is asked whether the change fits the present revision; without ``write`` everything is checked and
        nothing done. Raises EditError, RevisionMismatch, NotWritable, PolicyLocked or
        AuditTrailError, and then nothing was changed.
        """
        with self._exclusive(), low_priority():
            for _ in range(MAX_ATTEMPTS):
                files = self._read(if_match)
                _require_valid(files.docs)
                draft = Draft(files.docs)
                result = work(draft)
                changes = draft.changes()
                if not changes:
                    return result, self.watcher.current
                texts, docs = _rewritten(files, changes)
                policy = self._checked(files, docs, texts)
                if not write:
                    return result, policy
                try:
                    entries = [_entry(action, c.kind.singular, c.id, c.before, c.after) for c in changes]
                    self._replace(files, texts, policy, entries, who, entries[0].action if len(entries) == 1 else action)
                except _FilesChanged:
                    continue
                return result, policy
            raise PolicyLocked(RETRIES_EXHAUSTED)

    def replace_files(
        self,
        fresh: Callable[[Mapping[Path, bytes]], Mapping[Path, bytes]],
        *,
        who: str,
        action: str,
        if_match: Callable[[str], bool],
        write: bool = True,
    ) -> Policy:
        """Put whole files in the place of those there are, also where these have a mistake; the policy they make.

        ``fresh`` is given what is in each file and gives what is to be in those that change. Raises PolicyError with all
        that is wrong with that, and otherwise what ``change`` raises; then nothing was changed.
        """
        with self._exclusive(), low_priority():
            for _ in range(MAX_ATTEMPTS):
                files = self._read(if_match)
                if self.watcher.has_changed():
                    self.watcher.reload()
                texts = {f: data for f, data in fresh(files.data).items() if data != files.data[f]}
                docs = [parse(texts[Path(d.file)], d.file) if Path(d.file) in texts else d for d in files.docs]
                policy = self._policy_from(files, docs, texts)
                if not texts or not write:
                    return policy
                found = compare_policies(self.watcher.current.file, policy.file)
                entries = [_entry(action, *d) for d in found] or [AuditEntry(action, "policy", "text", None, None)]
                try:
                    self._replace(files, texts, policy, entries, who, action)
                except _FilesChanged:
                    continue
                return policy
            raise PolicyLocked(RETRIES_EXHAUSTED)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the folder's lock: it excludes this process's other threads as well as other processes."""
        path = self.watcher.path
        folder = path if path.is_dir() else path.resolve().parent
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise NotWritable(f"{folder}: {e.strerror}", lasting=True) from e
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as e:
                    if time.monotonic() > deadline:
                        raise PolicyLocked("another change to the policy is being written; try again") from e
                    time.sleep(0.01)
            yield
        finally:
            os.close(fd)

    def _read(self, if_match: Callable[[str], bool]) -> _Files:
        data: dict[Path, bytes] = {}
        fingerprints = {}
        try:
            for file in policy_files(self.watcher.path):
                fingerprints[file] = file_fingerprint(file.name, file.stat())
                data[file] = file.read_bytes()
        except OSError as e:
            raise Conflict(f"the policy cannot be read: {e.strerror}") from e
        if not if_match(revision := revision_of(data)):
            raise RevisionMismatch(revision)
        return _Files(data, fingerprints, [parse(content, str(file)) for file, content in data.items()], revision)

    def _policy_from(self, files: _Files, docs: Sequence[Document], texts: Mapping[Path, bytes]) -> Policy:
        """The policy the changed files make, validated like any other. Raises PolicyError."""
        revision = revision_of({file: texts.get(file, data) for file, data in files.data.items()})
        return build_policy(self.watcher.path, docs, revision, env=self.watcher.env, now=self.clock())

    def _checked(self, files: _Files, docs: Sequence[Document], texts: Mapping[Path, bytes]) -> Policy:
        """The same; raises EditError saying whose mistake it is."""
        try:
            return self._policy_from(files, docs, texts)
        except PolicyError as e:
            raise self._refused(e, files) from e

    def _refused(self, error: PolicyError, files: _Files) -> EditError:
        """What the whole policy has against the change; a mistake that was there before is nobody's who asks now."""
        try:
            build_policy(self.watcher.path, files.docs, files.revision, env=self.watcher.env, now=self.clock())
        except PolicyError as before:
            return Conflict(f"the policy on disk has a mistake; put it right first: {before.problems[0]}")
        first = error.problems[0]
        field = _OF_ENTITY.sub("", first.path)
        return EditError(f"{field}: {first.message}" if field else first.message, field or None)

    def _replace(
        self,
        files: _Files,
        texts: Mapping[Path, bytes],
        policy: Policy,
        entries: Sequence[AuditEntry],
        who: str,
        action: str,
    ) -> None:
        """Write beside, look once more, put on the trail, and replace. Raises _FilesChanged, NotWritable or AuditTrailError."""
        before, after, at = files.revision, policy.revision, iso(self.clock())
        fresh: dict[Path, Path] = {}
        try:
            for file, data in texts.items():
                fresh[file] = atomic_write.stage(file.resolve(), data)
            fingerprints = {
                f: file_fingerprint(f.name, fresh[f].stat()) if f in fresh else seen for f, seen in files.fingerprints.items()
            }
            _require_unchanged(self.watcher.path, files)
            if self.audit_trail is not None:
                self.audit_trail.write(entries, at=at, who=who, before=before, after=after)
            with self.watcher.lock:
                try:
                    _require_unchanged(self.watcher.path, files)
                    atomic_write.replace_all(fresh, files.data)
                except (_FilesChanged, OSError):
                    if self.audit_trail is not None:
                        undone = [AuditEntry(f"{e.action} not applied", e.entity_kind, e.entity_id, None, None) for e in entries]
                        self.audit_trail.write(undone, at=at, who=who, before=before, after=before)
                    raise
                fresh_files = {f: texts.get(f, data) for f, data in files.data.items()}
                self.watcher.activate(ActivePolicy(policy, fresh_files, self.clock(), who, action), _fingerprint(fingerprints))
        except OSError as e:
            raise _not_writable(e, next(iter(texts))) from e
        finally:
            for ready in fresh.values():
                ready.unlink(missing_ok=True)
        for folder in {f.resolve().parent for f in texts}:
            atomic_write.sync_folder(folder)


def _require_valid(docs: Sequence[Document]) -> None:
    """Raises Conflict where a file cannot be understood, and so not changed in part."""
    for doc in docs:
        if doc.problems or not isinstance(doc.value, dict):
            why = doc.problems[0] if doc.problems else f"{doc.file}: a policy is a mapping"
            raise Conflict(f"the policy on disk has a mistake; put it right first: {why}")


def _fingerprint(fingerprints: Mapping[Path, tuple[Any, ...]]) -> Fingerprint:
    return tuple(fingerprints.values())


def _require_unchanged(path: Path, files: _Files) -> None:
    """Raises _FilesChanged if any of the files is not what was read."""
    if policy_files(path) != list(files.data) or any(f.read_bytes() != data for f, data in files.data.items()):
        raise _FilesChanged


def _not_writable(error: OSError, file: Path) -> NotWritable:
    if error.errno in (errno.EBUSY, errno.EXDEV):
        return NotWritable(f"{file} is mounted by itself and cannot be replaced: mount its folder instead", lasting=True)
    lasting = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)
    why = error.strerror or type(error).__name__
    return NotWritable(f"the policy {file} cannot be written: {why}; the change was not made", lasting=lasting)


def _rewritten(files: _Files, changes: Sequence[DraftEntry]) -> tuple[dict[Path, bytes], list[Document]]:
    """The new content of the files that change, and how all of them read."""
    by_file: dict[int, list[Change]] = {}
    for change in changes:
        number = change.doc
        if number is None:
            holding = [i for i, d in enumerate(files.docs) if d.value.get(change.kind.name)]
            number = holding[0] if holding else _main(files.docs)
        key = change.id if change.kind.name == "providers" else ""
        by_file.setdefault(number, []).append(Change(change.kind.name, change.place, change.after, key))
    texts: dict[Path, bytes] = {}
    docs = list(files.docs)
    paths = list(files.data)
    for number, wanted in by_file.items():
        try:
            text, docs[number] = rewrite(files.docs[number], files.data[paths[number]].decode(), wanted)
        except NotPatchable as e:
            raise Conflict(str(e)) from e
        texts[paths[number]] = text.encode()
    return texts, docs


def _main(docs: Sequence[Document]) -> int:
    """The file new sections go to: the one that has the version, or the first."""
    return next((i for i, d in enumerate(docs) if "version" in d.value), 0)


def _entry(action: str, kind: str, entity: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> AuditEntry:
    verb = "create" if before is None else "delete" if after is None else action
    return AuditEntry(verb, kind, entity, before, after)
