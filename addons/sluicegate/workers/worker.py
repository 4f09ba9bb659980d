"""A worker as it knows itself: its number, its folder, and the channel to the supervisor that started it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson

from sluicegate.atomic_write import write_private
from sluicegate.storage.state_folder import StateFolder, held_as_it_is
from sluicegate.workers.channel import Channel

VARIABLE = "SLUICEGATE_WORKER"
"""The environment variable by which the supervisor says all this; nobody else sets it."""

FOLDER = "workers"
"""The folder, in the state folder, of the folders of all workers, which are named by their numbers."""

SETTLED = "settled"
"""The file of a worker's folder of which nothing is left to be told to the store that it names: no worker has used it since."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker. Number 0 stands for the state folder itself, as a gateway without workers uses it."""

    number: int
    channel: Channel | None = None
    settles: tuple[int, ...] = ()
    """Workers before us whose folders nobody uses now: what is left in them is told before we begin."""
    announces: bool = False
    """Whether it prints what an operator needs at the start."""
    has_new_token: bool = False

    def folder(self, state_dir: Path) -> Path:
        """Return the folder that belongs to this worker alone."""
        return worker_folder(state_dir, self.number)


def worker_folder(state_dir: Path, number: int) -> Path:
    """Return the folder of a worker by its number."""
    return state_dir / FOLDER / str(number) if number else state_dir


def open_folder(state_dir: Path, worker: Worker | None) -> StateFolder:
    """Return the state folder as a worker has it, or as a gateway without workers has. Raises StateError."""
    if worker is None:
        return StateFolder(state_dir)
    if worker.number == 0:
        return StateFolder(state_dir, is_held=True)
    opened = StateFolder(worker.folder(state_dir), shared=state_dir)
    (worker.folder(state_dir) / SETTLED).unlink(missing_ok=True)
    return opened


def worker_folders(state_dir: Path) -> list[Path]:
    """Return the folders of all workers that have ever run."""
    return sorted(f for f in (state_dir / FOLDER).glob("*") if f.name.isdecimal() and f.is_dir())


def numbers_beyond(state_dir: Path, count: int) -> tuple[int, ...]:
    """Return the numbers above ``count`` of workers that have ever run."""
    return tuple(sorted(number for f in worker_folders(state_dir) if (number := int(f.name)) > count))


def unsettled(state_dir: Path, worker: Worker | None, store: Callable[[], str]) -> tuple[int, ...]:
    """Return the workers before us that may still have something to tell to a store; it is asked for where there were any."""
    numbers = numbers_beyond(state_dir, 0) if worker is None else worker.settles
    name = store() if any(numbers) else ""
    return tuple(n for n in numbers if not n or _settled_with(state_dir, n) != name)


def _settled_with(state_dir: Path, number: int) -> str | None:
    try:
        return (worker_folder(state_dir, number) / SETTLED).read_text()
    except FileNotFoundError:
        return None


def settle(state_dir: Path, worker: Worker | None, store: Callable[[], str], deliver: Callable[[Worker], None]) -> None:
    """Deliver what is left in each folder that nobody uses any more. Raises StateError, and what ``store`` and ``deliver`` raise.

    ``store`` returns the name of the store that gets it: another one knows nothing of what an earlier one got.
    """
    settles = unsettled(state_dir, worker, store)
    # A supervisor holds the state folder, also while one of its workers is away: that one's folder is not ours then.
    held = held_as_it_is(state_dir) if settles and worker is None else None
    try:
        for number in settles:
            # The state folder itself comes first: its journal says up to where its records are complete.
            deliver(Worker(number))
            if number:
                write_private(worker_folder(state_dir, number) / SETTLED, store().encode())
    finally:
        if held is not None:
            held.close()


def to_environment(worker: Worker, fd: int) -> str:
    """Return what the variable says, for a worker whose end of the channel is this descriptor."""
    description = {"number": worker.number, "fd": fd, "settles": worker.settles, "announces": worker.announces}
    return orjson.dumps(description | {"has_new_token": worker.has_new_token}).decode()


@cache
def this_worker() -> Worker | None:
    """Return which worker this process is; None where no supervisor has started it."""
    return from_environment(os.environ)


def from_environment(env: MutableMapping[str, str]) -> Worker | None:
    """Return the worker that the environment describes, and take that out of it, so that no child believes it."""
    written = env.pop(VARIABLE, None)
    if written is None:
        return None
    description = orjson.loads(written)
    channel = Channel(socket.socket(fileno=description["fd"]))
    return Worker(
        description["number"], channel, tuple(description["settles"]), description["announces"], description["has_new_token"]
    )


def metrics_memory(state_dir: Path) -> tuple[Path, Path]:
    """Return the files of what scrapes have reported, the public one last."""
    return state_dir / FOLDER / "metrics.json", state_dir / FOLDER / "metrics-public.json"
