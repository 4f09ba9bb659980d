"""Atomic writes: files are replaced whole or not at all, even in a power cut."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
"""Of Linux's ``renameat2``."""


class ChangedMeanwhileError(Exception):
    """A file was saved by somebody else since it was read; nothing was replaced."""


def replace_unchanged(staged: Mapping[Path, Path], read: Mapping[Path, bytes]) -> None:
    """Move staged files into place, all or none of them, if the files still hold what was ``read``.

    A file and the one that replaces it change places at once, and only then is what came out compared: an editor that saves
    at the last moment is seen, and its file put back. Raises ChangedMeanwhileError or OSError, then nothing was replaced.
    """
    done: list[tuple[Path, Path, bytes]] = []
    try:
        for file, ready in staged.items():
            target, ours = file.resolve(), ready.read_bytes()
            # Also compared before, so that a change that was seen in time is not in the file's place for a moment.
            if _content(target) != read[file]:
                raise ChangedMeanwhileError
            try:
                _exchange(target, ready)
            except FileNotFoundError as e:
                raise ChangedMeanwhileError from e
            done.append((target, ready, ours))
            if _content(ready) != read[file]:
                raise ChangedMeanwhileError
    except BaseException:
        for undone in reversed(done):
            _put_back(*undone)
        raise


def _put_back(file: Path, saved: Path, ours: bytes) -> None:
    """Let ``saved`` take the place of what is ours in ``file``, or leave what somebody saved there since, which is newer."""
    expected: bytes | None = ours
    while True:
        put = _content(saved)
        _exchange(file, saved)
        if _content(saved) == expected:
            return
        expected = put


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _exchange(file: Path, other: Path) -> None:
    """Let two files change places at once. Raises OSError.

    Where the system or its file system cannot, ``other`` replaces ``file``, which is then a copy of it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if (rename := getattr(libc, "renameat2", None)) is not None:
        if rename(_AT_FDCWD, os.fsencode(file), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
            return
        if (error := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(error, os.strerror(error), str(file))
    previous = file.read_bytes()
    os.replace(other, file)
    os.replace(stage(file, previous), other)


def write_private(file: Path, data: bytes) -> None:
    """Replace or make a file that only its owner may read; a new one gets the folder's owner. Raises OSError."""
    os.replace(stage(file, data, 0o600), file)
    sync_folder(file.parent)


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock of its own file, readable by its owner alone; wait for others that hold it. Raises OSError."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def fingerprint(at: os.stat_result) -> tuple[int, int, int]:
    """Return what changes when a file is written or replaced: its time, size and inode."""
    return at.st_mtime_ns, at.st_size, at.st_ino


def stage(file: Path, data: bytes, mode: int | None = None) -> Path:
    """Write a file's new content under another name in its folder, on disk, with the file's owner, and its mode if none is given.

    A file that does not exist yet gets the folder's owner, and is readable by all. Returns the other name. Raises OSError.
    """
    # Always the same name, because the folder is locked: what a killed process has left is overwritten.
    ready = file.with_name(f".{file.name}.new")
    is_new = not file.exists()
    current = (file.parent if is_new else file).stat()
    fd = os.open(ready, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with contextlib.suppress(PermissionError):
            os.fchown(fd, current.st_uid, current.st_gid)
        os.fchmod(fd, mode if mode is not None else 0o644 if is_new else current.st_mode & 0o777)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    except BaseException:
        ready.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    return ready


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut. Raises OSError if the folder cannot be opened."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:
        # Some file systems cannot do this; the rename itself has happened.
        pass
    finally:
        os.close(fd)
