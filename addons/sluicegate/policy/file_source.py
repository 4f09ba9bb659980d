"""A policy in a file or a folder of this machine.

No change is lost to another writer: a lock on the folder excludes other processes of this machine, and what is replaced is
compared with what was read, in case an editor saved meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sluicegate import atomic_write
from sluicegate.paths import copy_hint, is_packaged
from sluicegate.policy.loader import PolicyError, policy_files, read_files
from sluicegate.policy.model import Policy
from sluicegate.policy.source import (
    FilesChangedError,
    Fingerprint,
    PolicyLockedError,
    PolicyNotWritableError,
    Reading,
    Written,
)
from sluicegate.yaml_document import Problem

LOCK_TIMEOUT_S = 30.0
"""Seconds that a change waits for others that are being written."""


class FileSource:
    """The files."""

    is_confirmed = True
    error: str | None = None

    def __init__(self, path: Path) -> None:
        self.path = path

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the files. Unlike events it also notices swapped symlinks and network mounts."""
        return files_fingerprint(self.path)

    def read(self) -> Mapping[Path, bytes]:
        """Return the contents of the files, in the order they are merged. Raises PolicyError."""
        return read_files(self.path)

    def earlier(self) -> Iterator[Mapping[Path, bytes]]:
        """Yield nothing: whoever edits a file by hand is told at the start what is wrong with it."""
        return iter(())

    def require(self, policy: Policy) -> None:
        """Refuse a policy that says it is elsewhere: where it is was decided at the start. Raises PolicyError."""
        if policy.file.policy.source == "store":
            why = "where the policy is kept is read at the start: set it while the gateway is stopped"
            raise PolicyError([Problem(str(self.path), 0, "policy.source", why)])

    def why_read_only(self) -> str | None:
        """Return why the files may not be changed; None where they may."""
        return copy_hint(self.path) if is_packaged(self.path) else None

    def is_writable(self) -> bool:
        """Return whether this process may write the files."""
        with contextlib.suppress(OSError):
            return all(os.access(f.resolve().parent, os.W_OK) for f in policy_files(self.path))
        return False

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the folder's lock, which excludes other threads of this process as well as other processes."""
        folder = self.path if self.path.is_dir() else self.path.resolve().parent
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise PolicyNotWritableError(f"{folder}: {e.strerror}", lasting=True) from e
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as e:
                    if time.monotonic() > deadline:
                        raise PolicyLockedError("another change of the policy is being written; try again") from e
                    time.sleep(0.01)
            yield
        finally:
            os.close(fd)

    def read_for_change(self) -> Reading:
        """Return what is in the files now. Raises OSError."""
        data, marks = {}, {}
        for file in policy_files(self.path):
            # Before reading: an edit made in between is then seen as a change.
            marks[file] = file_fingerprint(file.name, file.stat())
            data[file] = file.read_bytes()
        return Reading(data, marks)

    @contextlib.contextmanager
    def replacing(self, reading: Reading, texts: Mapping[Path, bytes]) -> Iterator[_Staged]:
        """Write the new contents under other names. Raises OSError."""
        staged: dict[Path, Path] = {}
        try:
            for file, data in texts.items():
                staged[file] = atomic_write.stage(file.resolve(), data)
            yield _Staged(self.path, reading, staged)
        except OSError as e:
            raise _not_writable(e, next(iter(texts))) from e
        finally:
            for leftover in staged.values():
                leftover.unlink(missing_ok=True)
        for folder in {f.resolve().parent for f in texts}:
            atomic_write.sync_folder(folder)


class _Staged:
    """New contents beside the files that they replace."""

    def __init__(self, path: Path, reading: Reading, staged: Mapping[Path, Path]) -> None:
        self._path, self._reading, self._staged = path, reading, staged
        # What the files will look like once replaced, so that the watcher does not read them again.
        self._fingerprint = tuple(
            file_fingerprint(f.name, staged[f].stat()) if f in staged else present for f, present in reading.mark.items()
        )

    def check(self) -> None:
        """Raise FilesChangedError if the files have changed since they were read."""
        data = self._reading.data
        if policy_files(self._path) != list(data) or any(f.read_bytes() != read for f, read in data.items()):
            raise FilesChangedError

    def put(self, _: Written) -> Fingerprint:
        """Replace the files, all or none of them. Raises FilesChangedError or OSError."""
        self.check()
        try:
            atomic_write.replace_unchanged(self._staged, self._reading.data)
        except atomic_write.ChangedMeanwhileError as e:
            raise FilesChangedError from e
        return self._fingerprint


def _not_writable(error: OSError, file: Path) -> PolicyNotWritableError:
    # A single file mounted into a container cannot be renamed over.
    if error.errno in (errno.EBUSY, errno.EXDEV):
        return PolicyNotWritableError(f"{file} is a mount point and cannot be replaced: mount its folder instead", lasting=True)
    lasting = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)
    why = error.strerror or type(error).__name__
    return PolicyNotWritableError(f"the policy {file} cannot be written: {why}; the change was not made", lasting=lasting)


def files_fingerprint(path: Path) -> Fingerprint:
    """Return the fingerprint of a policy's files: names, times, sizes and inodes."""
    try:
        files = policy_files(path)
    except OSError as e:
        return (type(e).__name__,)
    found: list[Any] = []
    for file in files:
        try:
            found.append(file_fingerprint(file.name, file.stat()))
        except OSError as e:
            # A file may vanish between listing and stat; that is a change too.
            found.append((file.name, type(e).__name__))
    return tuple(found)


def file_fingerprint(name: str, at: os.stat_result) -> tuple[Any, ...]:
    """Return one file's part of a fingerprint."""
    return name, *atomic_write.fingerprint(at)
