"""The sockets by which workers of one host ask each other: each in the folder of the worker that answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sluicegate.workers.worker import FOLDER, worker_folder


def numbers_of(state_dir: Path, name: str, *, except_for: int) -> list[int]:
    """Return the numbers of the other workers that have a socket of this name."""
    names = (f.parent.name for f in (state_dir / FOLDER).glob(f"*/{name}"))
    return sorted(int(number) for number in names if number.isdecimal() and int(number) != except_for)


@contextmanager
def address_of(state_dir: Path, number: int, name: str) -> Iterator[str]:
    """Provide the path of a worker's socket: by way of its folder's descriptor, as a socket's path may have 107 bytes alone."""
    folder = worker_folder(state_dir, number)
    if sys.platform != "linux":
        yield str(folder / name)
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
