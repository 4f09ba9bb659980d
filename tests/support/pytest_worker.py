"""A worker of pytest-xdist that is forked from a process which has imported the tests already.

Importing all that ten thousand tests use takes some 15 s of a processor, and collecting them then three.
pytest-xdist starts this file in place of an interpreter, with the options ``-u -c PROGRAM``. The fork has this process's
descriptors, runs that program and ends with this process.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Without site-packages, which this process does not need.
    sys.path[0] = str(Path(__file__).parents[1])

from support.fork_server import IMPORTED_TESTS, ForkedProcess

ARGUMENTS_VARIABLE = "SLUICEGATE_TEST_ARGUMENTS"


def use_forks(arguments: Iterable[object], specs: Iterable[Any]) -> None:
    """Let pytest-xdist start its workers this way. ``specs`` are theirs, of execnet's XSpec; ``arguments`` are pytest's own."""
    os.environ[ARGUMENTS_VARIABLE] = json.dumps([str(argument) for argument in arguments])
    for spec in specs:
        spec.python = shlex.join([sys.executable, "-S", __file__])


def work() -> None:
    """Run the program that execnet has given instead of an interpreter's."""
    exec(sys.argv[-1], {"__name__": "__main__"})


if __name__ == "__main__":
    # What interrupts the tests interrupts the worker too, which says what it was doing.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = ForkedProcess(
        "support.pytest_worker:work", sys.argv, os.environ, Path.cwd(), [0, 1, 2], [IMPORTED_TESTS], shared_end=True
    )
    for standard in (0, 1):
        os.close(standard)
    sys.exit(worker.wait() & 0xFF)
