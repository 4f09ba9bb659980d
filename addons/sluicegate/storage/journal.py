"""The journal, ``audit.jsonl``: one line per call, written in the hook itself, append-only.

An adjustment of a charge gets a line too, with a ``kind``. The line also records the settlement it describes: the database
may lag by milliseconds, so after a crash it is completed from the lines it has not seen. The file may be renamed, deleted or
truncated while the gateway runs, as log rotation does: each line is written to the file that has the name at that moment.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from pathlib import Path

import orjson

from sluicegate.calls.record import Record
from sluicegate.storage.journal_files import end_of_copy

RECENT_BYTES = 64 << 10
"""Bytes of written lines that are remembered, in case the file is copied and then truncated with lines written in between."""


class Journal:
    """An append-only file of records. A line that could not be written is kept and written before the next one."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises OSError."""
        self.path = path
        self._name = str(path)
        self.backlog: list[bytes] = []
        self.is_another_file = False
        """Another file has become the journal, or this one was truncated, since this was last set to False."""
        self._written = 0
        """How many bytes of the first line of ``backlog`` have been written."""
        self._recent: deque[bytes] = deque()
        self._recent_bytes = 0
        self._fd, self._inode, self._size, torn_bytes = _open(path)
        self.torn_bytes = torn_bytes
        """Bytes of an incomplete last line that were cut when the file was opened."""

    def append(self, record: Record) -> None:
        """Write one record as one line. Raises OSError if the disk refuses; the line is then kept in ``backlog``."""
        self.backlog.append(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        self.catch_up()

    def catch_up(self) -> None:
        """Write what an earlier failure left behind, a half-written line from where it broke off. Raises OSError."""
        while self.backlog:
            self.reopen()
            line = self.backlog[0]
            rest = line[self._written :] if self._written else line
            written = os.write(self._fd, rest)
            if written < len(rest):
                self._written += written
                continue
            at = os.fstat(self._fd)
            # Deleted between the look and the write: nobody could read the line, so it goes to the next file.
            if not at.st_nlink and self.reopen():
                continue
            self._size = at.st_size
            self._written = 0
            del self.backlog[0]
            self._remember(line)

    def reopen(self) -> bool:
        """Open the file anew if another one, or none, has its name now; return whether it did. Raises OSError.

        A look costs two microseconds, so every line can be preceded by one.
        """
        try:
            at = os.stat(self._name)
        except FileNotFoundError:
            pass
        else:
            if at.st_ino == self._inode[1] and at.st_dev == self._inode[0]:
                if at.st_size < self._size:
                    self._begin_again()
                return False
        fd, inode, size, _ = _open(self.path)
        if self._written:
            # The half line stays in neither file: it is written whole to the new one.
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - self._written)
            self._written = 0
        os.close(self._fd)
        self._fd, self._inode, self._size = fd, inode, size
        self._forget_recent()
        self.is_another_file = True
        return True

    def _begin_again(self) -> None:
        """Go on in a file that was truncated, with the lines that a copy made right before does not have."""
        recent = list(self._recent)
        self._forget_recent()
        self._written = 0
        _cut_torn_line(self._fd)
        self._size = self.size
        self.is_another_file = True
        self.backlog[:0] = recent[end_of_copy(self.path, recent) :]

    def _remember(self, line: bytes) -> None:
        self._recent.append(line)
        self._recent_bytes += len(line)
        while self._recent_bytes > RECENT_BYTES:
            self._recent_bytes -= len(self._recent.popleft())

    def _forget_recent(self) -> None:
        self._recent.clear()
        self._recent_bytes = 0

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _open(path: Path) -> tuple[int, tuple[int, int], int, int]:
    """Open or create a journal; return its descriptor, device and inode, size, and the bytes cut off. Raises OSError."""
    # Without O_NONBLOCK, opening a pipe that nobody reads would wait forever.
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        at = os.fstat(fd)
        if not stat.S_ISREG(at.st_mode):
            raise OSError(0, "is not a regular file")
        # A line added to a torn one would be lost with it.
        torn = _cut_torn_line(fd) if at.st_size else 0
    except BaseException:
        os.close(fd)
        raise
    return fd, (at.st_dev, at.st_ino), at.st_size - torn, torn


def _cut_torn_line(fd: int) -> int:
    """Cut an incomplete last line; return how many bytes were removed."""
    size = os.fstat(fd).st_size
    start = size
    tail = b""
    while start and b"\n" not in tail:
        begin = max(0, start - (1 << 20))
        tail = os.pread(fd, start - begin, begin)
        start = begin
    keep = start + tail.rfind(b"\n") + 1
    if keep < size:
        os.ftruncate(fd, keep)
    return size - keep
