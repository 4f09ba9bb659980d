"""Which kept answers were deleted on request, told to all workers: each has some in its memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import orjson

from sluicegate.workers.worker import FOLDER

FILENAME = "clears"


class Clears:
    """One worker's view of a file that all append to. Blocking."""

    def __init__(self, state_dir: Path | None) -> None:
        """Begin with what comes from now on; a gateway without workers has None, and nothing to be told."""
        self._path = None if state_dir is None else state_dir / FOLDER / FILENAME
        self._offset = self._size()

    def _size(self) -> int:
        try:
            return self._path.stat().st_size if self._path is not None else 0
        except FileNotFoundError:
            return 0

    def note(self, owned: Mapping[str, str]) -> None:
        """Tell the others that answers of those whom these columns name are deleted; of all where there are none."""
        if self._path is not None:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, orjson.dumps(dict(owned), option=orjson.OPT_APPEND_NEWLINE))
            finally:
                os.close(fd)

    def news(self) -> list[dict[str, str]]:
        """Return what was told since the last time."""
        if self._path is None or self._size() <= self._offset:
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            lines = file.read().split(b"\n")[:-1]
        self._offset += sum(len(line) + 1 for line in lines)
        return [orjson.loads(line) for line in lines]
