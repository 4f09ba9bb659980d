"""Make a backup, also of a gateway at work: the databases as they are at one moment, then the journal with what came after."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sluicegate import __version__
from sluicegate.database import connection
from sluicegate.operations.archive.contents import (
    AUTHORITY,
    KEY_FILES,
    MANIFEST,
    NODE,
    POLICY,
    STATE,
    WORKERS_STORE,
    ArchiveError,
    Manifest,
    Member,
    databases_in,
    digest_of,
)
from sluicegate.paths import authority_folder, price_file
from sluicegate.policy.loader import policy_files
from sluicegate.storage.journal_files import other_files
from sluicegate.storage.migrations import version_of
from sluicegate.storage.state_folder import recorded_authority
from sluicegate.storage.store import FILENAME
from sluicegate.windows import iso
from sluicegate.workers.worker import worker_folders

JOURNAL = "audit.jsonl"

SMALL_FILES = ("admin-token",)
"""Further files of the state folder."""


def make_backup(target: Path, state_dir: Path, policy: Path, now: int, *, replace: bool = False) -> Manifest:
    """Write a backup, readable by its owner alone, and return what is in it. Raises ArchiveError.

    No lock is taken that a call would wait for: SQLite copies a snapshot while others write.
    """
    if not (state_dir / FILENAME).exists():
        raise ArchiveError(f"there is no {FILENAME} in {state_dir}: no gateway has used it; name its folder with --state-dir")
    if target.exists() and not replace:
        raise ArchiveError(f"{target} exists: choose another name, or give --force")
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".sluicegate-backup-", dir=target.absolute().parent) as folder,
            contextlib.ExitStack() as opened,
        ):
            work = Path(folder)
            version = _copy_databases(state_dir, work)
            # Opened at once and read to where they end now: a rotation in between makes no difference. The journal has calls
            # that the databases have never seen; who puts the backup back charges them by their own records.
            files: list[tuple[str, IO[bytes]]] = [
                (f"{STATE}/{name}", opened.enter_context((work / name).open("rb")))
                for name in databases_in(state_dir)
                if (work / name).exists()
            ]
            files += [(name, opened.enter_context(file)) for name, file in _open_files(state_dir, policy)]
            authority = authority_folder(state_dir, recorded_authority(state_dir))
            is_inside = authority in (state_dir, state_dir / AUTHORITY)
            outside = authority if not is_inside and authority.is_dir() else None
            part = Path(STATE) / authority.relative_to(state_dir) if is_inside else Path(AUTHORITY)
            for path in _authority_files(authority):
                files.append((str(part / path.relative_to(authority)), opened.enter_context(path.open("rb"))))
            members = []
            for name, file in files:
                at = os.fstat(file.fileno())
                members.append(Member(name, at.st_size, digest_of(_Bounded(file, at.st_size)), at.st_mtime_ns))
            manifest = Manifest(
                __version__, version, iso(now), str(policy.absolute()), policy.is_dir(), str(outside) if outside else None, members
            )
            _write(work / "archive", manifest, [file for _, file in files])
            os.replace(work / "archive", target)
            return manifest
    except (sqlite3.Error, OSError) as e:
        raise ArchiveError(f"the backup cannot be made: {e}") from e


def _authority_files(folder: Path) -> list[Path]:
    """Return the files of the certificate authorities: the first, the list of all, and each later one's folder."""
    from sluicegate.authority.folder import LIST, AuthorityError, AuthorityFolder

    try:
        folders = {folder, *(authority.folder for authority in AuthorityFolder(folder).read())}
    except AuthorityError as e:
        raise ArchiveError(f"the backup cannot be made: {e}") from e
    return sorted(path for f in folders for pattern in ("mitmproxy-*", LIST) for path in f.glob(pattern) if path.is_file())


def _copy_databases(state_dir: Path, work: Path) -> int:
    """Copy each database as it is at one moment; return the version of the first."""
    version = 0
    for name in databases_in(state_dir):
        if not (state_dir / name).exists():
            continue
        (work / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(work / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with connection(state_dir / name, "ro") as source, connection(work / name, "rw") as copy:
            # All pages in one step: in several it would begin anew whenever a call is written in between.
            source.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode=DELETE")
            version = version or version_of(copy)
    return version


def _open_files(state_dir: Path, policy: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the other files by their names in the backup, each inode once: a journal may be renamed meanwhile."""
    seen = set()
    journals = [state_dir / JOURNAL, *other_files(state_dir / JOURNAL)]
    keys = sorted((state_dir / KEY_FILES).glob("*"))
    named = [(f"{STATE}/{f.name}", f) for f in (*journals, *(state_dir / name for name in SMALL_FILES))]
    named += [(f"{STATE}/{KEY_FILES}/{f.name}", f) for f in keys]
    if (state_dir / WORKERS_STORE).exists():
        folders = worker_folders(state_dir)
        own = [state_dir / NODE, *(folder / NODE for folder in folders)]
        for journal in (folder / JOURNAL for folder in folders):
            own += [journal, *other_files(journal)] if journal.exists() else []
        named += [(f"{STATE}/{f.relative_to(state_dir)}", f) for f in own]
    named += [(f"{POLICY}/{f.name}", f) for f in (*policy_files(policy), price_file(policy))]
    for name, path in named:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            continue
        at = os.fstat(file.fileno())
        if (at.st_dev, at.st_ino) in seen:
            file.close()
            continue
        seen.add((at.st_dev, at.st_ino))
        yield name, file


class _Bounded:
    """The first bytes of a file that may be growing."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size
        file.seek(0)

    def read(self, size: int = -1, /) -> bytes:
        """Read at most so many bytes."""
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


def _write(path: Path, manifest: Manifest, files: list[IO[bytes]]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as raw:
        with tarfile.open(fileobj=raw, mode="w:gz", compresslevel=3) as archive:
            text = json.dumps(manifest.as_json(), indent=1).encode()
            _add(archive, MANIFEST, len(text), io.BytesIO(text))
            for member, file in zip(manifest.members, files, strict=True):
                _add(archive, member.name, member.size, _Bounded(file, member.size))
        raw.flush()
        os.fsync(raw.fileno())


def _add(archive: tarfile.TarFile, name: str, size: int, file: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    archive.addfile(info, file)
