"""Put a backup back: checked whole before anything is touched, never under a gateway, and what was there is kept aside."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sluicegate.database import connection
from sluicegate.operations.archive.contents import (
    AUTHORITY,
    CHUNK_BYTES,
    DATABASES,
    MANIFEST,
    STATE,
    WORKERS_STORE,
    ArchiveError,
    Manifest,
    digest_of,
    read_manifest,
)
from sluicegate.storage.migrations import MIGRATIONS
from sluicegate.storage.state_folder import StateError, StateFolder

LOCK = "lock"
"""The file that stays where it is: it keeps gateways out meanwhile."""

MAX_MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that restoring does to a file or folder: ``write`` it, or keep ``aside`` what was there."""

    what: str
    path: Path
    to: Path | None = None

    def __str__(self) -> str:
        """Return it in words."""
        return f"keep {self.path} as {self.to}" if self.to is not None else f"{self.what} {self.path}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What restoring a backup does."""

    manifest: Manifest
    targets: dict[str, Path]
    """Where each member goes."""
    aside: dict[Path, Path]
    """What is in the way, and where it is kept."""

    @property
    def steps(self) -> list[Step]:
        """Return what would be done, in its order."""
        return [*(Step("keep", old, new) for old, new in self.aside.items()), *(Step("write", p) for p in self.targets.values())]


def read(archive: Path) -> Manifest:
    """Return what is in a backup, after every file of it has been compared with its digest. Raises ArchiveError."""
    with _opened(archive) as tar:
        manifest = _manifest_of(tar, archive)
        if manifest.database_version > len(MIGRATIONS):
            raise ArchiveError(
                f"the backup's database has version {manifest.database_version}, and this sluicegate knows {len(MIGRATIONS)}: "
                f"restore it with sluicegate {manifest.version} or a later one"
            )
        wanted = {m.name: m for m in manifest.members}
        for info in iter(tar.next, None):
            member = wanted.pop(info.name, None)
            if member is None or not info.isreg() or info.size != member.size:
                raise ArchiveError(f"{archive} is damaged: {info.name!r} is not what its list of contents says")
            file = tar.extractfile(info)
            if file is None or digest_of(file) != member.sha256:
                raise ArchiveError(f"{archive} is damaged: {info.name!r} does not have its digest; take another backup")
        if wanted:
            raise ArchiveError(f"{archive} is damaged: it has no {next(iter(wanted))!r}")
    return manifest


def plan(manifest: Manifest, state_dir: Path, policy: Path | None, stamp: str) -> Plan:
    """Return where everything goes; ``policy`` is where the policy goes, None where it was."""
    place = Path(manifest.policy) if policy is None else policy
    folder = place if manifest.policy_is_folder else place.parent
    original = Path(manifest.policy).name
    targets = {}
    for member in manifest.members:
        part, _, name = member.name.partition("/")
        if part == STATE:
            targets[member.name] = state_dir / name
        elif part == AUTHORITY:
            targets[member.name] = Path(str(manifest.authority)) / name
        else:
            targets[member.name] = place if name == original and not manifest.policy_is_folder else folder / name
    kept = state_dir / f"before-restore-{stamp}"
    aside = {}
    if state_dir.exists():
        aside = {
            f: kept / f.name for f in sorted(state_dir.iterdir()) if f.name != LOCK and not f.name.startswith("before-restore-")
        }
    for member in manifest.members:
        target = targets[member.name]
        if not member.name.startswith(f"{STATE}/") and target.exists():
            with target.open("rb") as file:
                is_same = digest_of(file) == member.sha256
            if is_same:
                del targets[member.name]
            else:
                aside[target] = target.with_name(f"{target.name}.before-restore-{stamp}")
    return Plan(manifest, targets, aside)


def restore(archive: Path, planned: Plan, state_dir: Path, *, force: bool) -> None:
    """Do what was planned. Raises ArchiveError, and then nothing was changed; a gateway in the way is one reason."""
    if planned.aside and not force:
        first = next(iter(planned.aside))
        raise ArchiveError(
            f"{first} is in the way, with {len(planned.aside) - 1} more: --force keeps what is there aside, --dry-run shows where"
        )
    try:
        lock = StateFolder(state_dir)
    except StateError as e:
        raise ArchiveError(str(e)) from e
    work = state_dir / f"before-restore-unpacked-{os.getpid()}"
    try:
        unpacked = _unpack(archive, planned, work)
        _require_whole(work)
        for old, new in planned.aside.items():
            new.parent.mkdir(mode=0o700, exist_ok=True)
            os.replace(old, new)
        for name, file in unpacked.items():
            target = planned.targets[name]
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _move(file, target)
    except (OSError, sqlite3.Error) as e:
        raise ArchiveError(f"the backup cannot be put back: {e}") from e
    finally:
        _remove(work)
        lock.close()


def _unpack(archive: Path, planned: Plan, work: Path) -> dict[str, Path]:
    """Unpack the members that are wanted beside their places; return each one's file."""
    found = {}
    with _opened(archive) as tar:
        written = {m.name: m.mtime_ns for m in _manifest_of(tar, archive).members}
        for i, info in enumerate(iter(tar.next, None)):
            if info.name not in planned.targets:
                continue
            file = work / str(i) / Path(info.name).name
            file.parent.mkdir(mode=0o700, parents=True)
            source = tar.extractfile(info)
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
                while source is not None and (chunk := source.read(CHUNK_BYTES)):
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
            os.utime(file, ns=(written[info.name], written[info.name]))
            found[info.name] = file
    return found


def _require_whole(work: Path) -> None:
    """Refuse a database that SQLite finds a fault in. Raises ArchiveError."""
    for name in (*DATABASES, WORKERS_STORE):
        for file in work.glob(f"*/{name}"):
            with connection(file, "ro") as conn:
                if (finding := conn.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                    raise ArchiveError(f"the backup's {name} is damaged: {finding}; take another backup")


def _move(file: Path, target: Path) -> None:
    """Move a file to its place, on another file system too. A policy's file is readable as its folder is."""
    try:
        os.replace(file, target)
    except OSError:
        ready = target.with_name(f".{target.name}.new")
        ready.write_bytes(file.read_bytes())
        ready.chmod(0o600)
        os.replace(ready, target)


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            yield tar
    except (tarfile.TarError, EOFError, OSError) as e:
        raise ArchiveError(f"{archive} cannot be read as a backup: {e}") from e


def _manifest_of(tar: tarfile.TarFile, archive: Path) -> Manifest:
    first = tar.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > MAX_MANIFEST_BYTES:
        raise ArchiveError(f"{archive} is not a backup of sluicegate")
    file = tar.extractfile(first)
    try:
        return read_manifest(json.loads(file.read() if file is not None else b""))
    except ValueError as e:
        raise ArchiveError(f"{archive} is not a backup of sluicegate") from e
