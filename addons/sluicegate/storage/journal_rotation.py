"""Rotating the journal by size or by period, and deleting rotated files that are old enough. In a thread, never in a hook.

A rotation renames the file. The journal looks for its name before each line, so the next line begins a new file, and what
was being written ends up whole in the renamed one. A start after a crash finds the place where database and journal last
agreed by its content, in whichever file it is.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import orjson

from sluicegate.storage.journal_files import other_files
from sluicegate.windows import parse_iso

MAX_LINE_BYTES = 64 << 10
"""How much of a file is read for its first line."""


def rotate(path: Path, now: int, every_ms: int | None, max_bytes: int | None) -> Path | None:
    """Rename the journal if it is as long as ``max_bytes`` or began in an earlier period; return its new name. Raises OSError.

    Periods of ``every_ms`` are counted from 1970 in UTC, so ``1d`` ends at midnight.
    """
    if every_ms is None and max_bytes is None:
        return None
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    if not size or not (_is_long(size, max_bytes) or _is_of_earlier(path, now, every_ms)):
        return None
    stamp = datetime.fromtimestamp(now / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    target, number = path.with_name(f"{path.name}.{stamp}"), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.{stamp}-{number}")
    os.rename(path, target)
    return target


def _is_long(size: int, max_bytes: int | None) -> bool:
    return max_bytes is not None and size >= max_bytes


def _is_of_earlier(path: Path, now: int, every_ms: int | None) -> bool:
    """Return whether the file's first record is of an earlier period than now."""
    if every_ms is None:
        return False
    with path.open("rb") as file:
        line = file.readline(MAX_LINE_BYTES)
    try:
        record = orjson.loads(line)
        first = parse_iso(record.get("started_at") or record["at"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return first // every_ms < now // every_ms


def delete_old(path: Path, now: int, keep_ms: int) -> list[Path]:
    """Delete rotated journals whose last line is older than ``keep_ms``; return them. Raises OSError.

    The newest stays in any case: a start after a crash may need it. Files of other names than ours are left alone.
    """
    old = old_files(path, now - keep_ms)
    for file in old:
        file.unlink()
    return old


def old_files(path: Path, before: int) -> list[Path]:
    """Return the rotated journals that may be deleted: their last line was written before a time, epoch milliseconds."""
    rotated = [file for file in other_files(path) if file.name.startswith(f"{path.name}.")]
    return [file for file in rotated[:-1] if file.stat().st_mtime_ns // 1_000_000 < before]
