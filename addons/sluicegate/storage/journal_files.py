"""The journal's files: which lines came since database and journal last agreed, though the file was rotated since.

The place is known by the bytes before it, not by a name or an inode: those find it in a file that was renamed, copied or
truncated, and inodes of deleted files are given to new ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from sluicegate.calls.record import Record

END_BYTES = 8192
"""How many bytes before a place identify it: several lines, which begin with a random id each."""

COPIES = 2
"""How many of the newest other files are searched for a copy of a journal that was truncated."""

COPY_END_BYTES = 128 << 10
"""How many bytes at the end of such a file are searched."""


NO_JOURNALS = ("node.json", "policy-from-store.json", "erasing.json")
"""Files of a state folder that begin as a record does and are none."""

DATABASE_ENDINGS = (".db", ".db-wal", ".db-shm", ".db-journal")
"""Files that are not even opened: closing one ends the locks that SQLite holds on it in this process, and the next reader would
cut off memory that is in use."""


class Place(NamedTuple):
    """A place in the journal: how many bytes came before it in its file, and a fingerprint of the last of them."""

    offset: int
    fingerprint: int
    """0: unknown, as noted by versions that did not rotate; such a place is in the file that has the journal's name."""


class Tail(NamedTuple):
    """The records after a place. ``found`` is False where no file has the place: there may be more, in a file that is gone."""

    records: list[Record]
    found: bool


def place_of(offset: int, before: bytes) -> Place:
    """Return the place after these bytes, of which the last ``END_BYTES`` count."""
    digest = hashlib.blake2b(before[-END_BYTES:], digest_size=8).digest()
    # SQLite's integers have 63 bits and a sign.
    return Place(offset, int.from_bytes(digest) >> 1 | 1)


def end_place(path: Path) -> Place:
    """Return the place after the last line of the journal: in the newest other file where the current one is empty."""
    for file in (path, *reversed(other_files(path))):
        size = _size(file)
        if size:
            return place_of(size, _read(file, max(0, size - END_BYTES), size))
    return place_of(0, b"")


def records_after(path: Path, place: Place) -> Tail:
    """Return the records after a place, from as many files as it takes, oldest first; lines that are not records are skipped."""
    if not place.fingerprint:
        return Tail(list(records(path, place.offset if place.offset <= _size(path) else 0)), True)
    if _has(path, place):
        return Tail(list(records(path, place.offset)), True)
    others = other_files(path)
    if place.offset == 0:
        # Noted when there was no line anywhere, so every line came later.
        return Tail([*_in_all(others), *records(path)], True)
    for file in reversed(others):
        if _has(file, place):
            # By time and not by position: files of the same tick of the clock are in no order.
            since = file.stat().st_mtime_ns
            later = [f for f in others if f != file and f.stat().st_mtime_ns >= since]
            return Tail([*records(file, place.offset), *_in_all(later), *records(path)], True)
    return Tail(list(records(path)), False)


def records_in_other_files(path: Path) -> Iterator[Record]:
    """Yield the records of the journal's other files, oldest file first."""
    return _in_all(other_files(path))


def other_files(path: Path) -> list[Path]:
    """Return the other journals beside this one, oldest first: every file that begins as a record does, whatever its name."""
    found = []
    with os.scandir(path.parent) as entries:
        for entry in entries:
            if entry.name in (path.name, *NO_JOURNALS) or entry.name.endswith(DATABASE_ENDINGS):
                continue
            if not entry.is_file(follow_symlinks=False):
                continue
            if _read(Path(entry.path), 0, 2) == b'{"':
                # Another thread may delete it meanwhile.
                with contextlib.suppress(FileNotFoundError):
                    found.append((entry.stat().st_mtime_ns, entry.path))
    return [Path(file) for _, file in sorted(found)]


def end_of_copy(path: Path, lines: Sequence[bytes]) -> int:
    """Return how many of these lines a copy of the journal has; all of them if there is no copy with any.

    Without a copy nobody can tell whether the lines were to be kept, and a copy elsewhere may have them.
    """
    for file in reversed(other_files(path)[-COPIES:]):
        size = _size(file)
        copied = set(_read(file, max(0, size - COPY_END_BYTES), size).splitlines(keepends=True))
        for i in range(len(lines), 0, -1):
            if lines[i - 1] in copied:
                return i
    return len(lines)


def _has(file: Path, place: Place) -> bool:
    """Return whether a file has this place, which must not be the first of all."""
    start = max(0, place.offset - END_BYTES)
    return 0 < place.offset <= _size(file) and place == place_of(place.offset, _read(file, start, place.offset))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _read(file: Path, start: int, end: int) -> bytes:
    """Return the bytes in ``[start, end)``, none where the file cannot be read."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.pread(fd, end - start, start)
    finally:
        os.close(fd)


def _in_all(files: Iterable[Path]) -> Iterator[Record]:
    for file in files:
        yield from records(file)


def records(path: Path, offset: int = 0) -> Iterator[Record]:
    """Yield the records in a file from an offset on; lines that are not records are skipped."""
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(record, dict) and isinstance(record.get("id"), str):
                yield record
