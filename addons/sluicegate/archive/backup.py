"""Make a backup, also of a gateway at work: the journal as it is at one moment, then the databases, which know all that it has."""

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
from sluicegate.archive.contents import (
    AUTHORITY,
    DATABASES,
    KEY_FILES,
    MANIFEST,
    POLICY,
    STATE,
    ArchiveError,
    Manifest,
    Member,
    digest_of,
)
from sluicegate.database import connection
from sluicegate.paths import authority_folder, price_file
from sluicegate.policy.loader import policy_files
from sluicegate.storage.journal_files import other_files
from sluicegate.storage.migrations import version_of
from sluicegate.storage.state_folder import recorded_authority
from sluicegate.storage.store import FILENAME
from sluicegate.windows import iso

JOURNAL = "audit.jsonl"

AGREEMENT = ("journal_offset", "journal_fingerprint", "calls_rowid", "adjustments_number")
"""Names of the database's integers that say up to where it and the journal agree, see ``storage/recovery.py``."""

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
            agreement = _agreement(state_dir)
            # The journal before the databases: of a call whose line is in the backup, they have the reservation or the row.
            # The other way round they would know nothing of a call that begins and ends between the two, and whoever puts the
            # backup back would have it on record and in no budget.
            others = [(name, opened.enter_context(file), size) for name, file, size in _open_files(state_dir, policy)]
            version = _copy_databases(state_dir, work, agreement)
            copied = ((name, work / name) for name in DATABASES)
            databases = [(f"{STATE}/{name}", opened.enter_context(file.open("rb"))) for name, file in copied if file.exists()]
            files: list[tuple[str, IO[bytes], int]] = [(name, file, os.fstat(file.fileno()).st_size) for name, file in databases]
            files += others
            authority = authority_folder(state_dir, recorded_authority(state_dir))
            is_inside = authority in (state_dir, state_dir / AUTHORITY)
            outside = authority if not is_inside and authority.is_dir() else None
            part = Path(STATE) / authority.relative_to(state_dir) if is_inside else Path(AUTHORITY)
            for path in _authority_files(authority):
                files.append((str(part / path.relative_to(authority)), opened.enter_context(path.open("rb")), path.stat().st_size))
            members = [
                Member(name, size, digest_of(_Bounded(file, size)), os.fstat(file.fileno()).st_mtime_ns)
                for name, file, size in files
            ]
            manifest = Manifest(
                __version__, version, iso(now), str(policy.absolute()), policy.is_dir(), str(outside) if outside else None, members
            )
            _write(work / "archive", manifest, [file for _, file, _ in files])
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


def _agreement(state_dir: Path) -> list[tuple[str, int]]:
    """Return up to where the database and the journal were last found to agree, by the names under which it is remembered."""
    marks = ", ".join("?" * len(AGREEMENT))
    with connection(state_dir / FILENAME, "ro") as conn:
        return list(conn.execute(f"SELECT name, value FROM meta WHERE name IN ({marks})", AGREEMENT))  # noqa: S608


def _copy_databases(state_dir: Path, work: Path, agreement: list[tuple[str, int]]) -> int:
    """Copy each database as it is at one moment; return the version of the first.

    What was agreed on with the journal before that is noted in the copy, because a later place may not be in the backup's journal.
    """
    version = 0
    for name in DATABASES:
        if not (state_dir / name).exists():
            continue
        os.close(os.open(work / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with connection(state_dir / name, "ro") as source, connection(work / name, "rw") as copy:
            # All pages in one step: in several it would begin anew whenever a call is written in between.
            source.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode=DELETE")
            if name == FILENAME:
                copy.executemany("DELETE FROM meta WHERE name = ?", [(known,) for known in AGREEMENT])
                copy.executemany("INSERT INTO meta VALUES (?, ?)", agreement)
            version = version or version_of(copy)
    return version


def _open_files(state_dir: Path, policy: Path) -> Iterator[tuple[str, IO[bytes], int]]:
    """Yield the other files by their names in the backup, open, with their sizes at this moment in bytes.

    Each inode once: a journal may be renamed meanwhile.
    """
    seen = set()
    journals = [state_dir / JOURNAL, *other_files(state_dir / JOURNAL)]
    keys = sorted((state_dir / KEY_FILES).glob("*"))
    named = [(f"{STATE}/{f.name}", f) for f in (*journals, *(state_dir / name for name in SMALL_FILES))]
    named += [(f"{STATE}/{KEY_FILES}/{f.name}", f) for f in keys]
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
        yield name, file, at.st_size


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
