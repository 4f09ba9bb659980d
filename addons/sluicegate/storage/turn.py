"""Whose turn it is: of several workers that share a state folder, one does what is to be done once.

It is the one that holds a lock, which ends with its process; then the next that asks has it.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

FILENAME = "turn"


class Turn:
    """One worker's part in this. From any thread."""

    def __init__(self, folder: Path | None) -> None:
        """``folder`` is the one that workers share; a gateway without workers has None, and always its turn."""
        self._path = folder / FILENAME if folder is not None else None
        self._held: int | None = None
        self._lock = threading.Lock()

    def is_ours(self) -> bool:
        """Return whether it is our turn, which stays so until ``close``."""
        if self._path is None:
            return True
        with self._lock:
            if self._held is None:
                fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(fd)
                else:
                    self._held = fd
            return self._held is not None

    def close(self) -> None:
        """Leave it to the others."""
        with self._lock:
            if self._held is not None:
                os.close(self._held)
                self._held = None
