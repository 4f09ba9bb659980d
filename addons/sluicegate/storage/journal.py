"""The journal, ``audit.jsonl``: one line per call, written in the hook itself, append-only.

An adjustment of a charge gets a line too, with a ``kind``. The line also records the settlement it describes: the database
may lag by milliseconds, so after a crash it is completed from the lines it has not seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import orjson

from sluicegate.calls.record import Record


class Journal:
    """An append-only file of records. A line that could not be written is kept and written before the next one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backlog: list[bytes] = []
        self._partial = b""
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def append(self, record: Record) -> None:
        """Write one record as one line. Raises OSError if the disk refuses; the line is then kept in ``backlog``."""
        self.backlog.append(orjson.dumps(record) + b"\n")
        self.catch_up()

    def catch_up(self) -> None:
        """Write what an earlier failure left behind, a half-written line from where it broke off. Raises OSError."""
        while self.backlog:
            line = self._partial or self.backlog[0]
            written = os.write(self._fd, line)
            if written < len(line):
                self._partial = line[written:]
                continue
            self._partial = b""
            self.backlog.pop(0)

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return os.fstat(self._fd).st_size

    def cut_torn_line(self) -> int:
        """Remove a last line that a crash left incomplete; return how many bytes were removed."""
        size = self.size
        if not size:
            return 0
        with self.path.open("rb+") as file:
            start = max(0, size - (1 << 20))
            file.seek(start)
            tail = file.read()
            if tail.endswith(b"\n"):
                return 0
            keep = start + tail.rfind(b"\n") + 1 if b"\n" in tail else 0
            file.truncate(keep)
        return size - keep

    def since(self, offset: int) -> Iterator[Record]:
        """Yield the records from a byte offset on; lines that are not records are skipped."""
        with self.path.open("rb") as file:
            file.seek(offset if offset <= self.size else 0)
            for line in file:
                try:
                    record = orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue
                if isinstance(record, dict) and isinstance(record.get("id"), str):
                    yield record

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
