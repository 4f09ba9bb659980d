"""Files replaced whole or not at all, also when the power goes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path


def replace_all(fresh: Mapping[Path, Path], was: Mapping[Path, bytes]) -> None:
    """Put the new files in place, all or none of them. Raises OSError."""
    done: list[Path] = []
    try:
        for file, ready in fresh.items():
            os.replace(ready, file.resolve())
            done.append(file)
    except OSError:
        for file in done:
            os.replace(stage(file.resolve(), was[file]), file.resolve())
        raise


def stage(file: Path, data: bytes) -> Path:
    """The file's new content under another name in its folder, on disk, as readable as the file. Raises OSError."""
    # Always the same name, for the folder is locked: what a killed process leaves is written over, not piled up.
    ready = file.with_name(f".{file.name}.new")
    was = file.stat()
    fd = os.open(ready, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with contextlib.suppress(PermissionError):
            os.fchown(fd, was.st_uid, was.st_gid)
        os.fchmod(fd, was.st_mode & 0o777)
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
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:
        # Some filesystems cannot; the rename itself has happened.
        pass
    finally:
        os.close(fd)
