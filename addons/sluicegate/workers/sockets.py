"""The sockets by which workers of one host ask each other: each in the folder of the worker that answers."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sluicegate.workers.worker import FOLDER, worker_folder


def numbers_of(state_dir: Path, name: str, *, except_for: int) -> list[int]:
    """Return the numbers of the other workers that have a socket of this name."""
    names = (f.parent.name for f in (state_dir / FOLDER).glob(f"*/{name}"))
    return sorted(int(number) for number in names if number.isdecimal() and int(number) != except_for)


def listener_at(state_dir: Path, number: int, name: str) -> socket.socket:
    """Return a socket bound in a worker's folder, for its own user alone. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address_of(state_dir, number, name) as address:
            # One that ended without closing has left its own.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)
            listener.bind(address)
            os.chmod(address, 0o600)
    except OSError:
        listener.close()
        raise
    return listener


@contextmanager
def address_of(state_dir: Path, number: int, name: str) -> Iterator[str]:
    """Provide the path of a worker's socket: by its folder's descriptor, because a socket's path may have 107 bytes at most."""
    folder = worker_folder(state_dir, number)
    if sys.platform != "linux":
        yield str(folder / name)
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
