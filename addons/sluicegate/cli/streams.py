"""The standard streams of a command: what happens where they are closed, full, or lack a character."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator


def replace_unprintable() -> None:
    """Print a question mark for what a terminal's or pipe's encoding does not have, instead of ending with a traceback.

    A stream that was closed before the start becomes one that nobody reads.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            # Opened in this order, each gets the number of the closed one, which no file of ours can get any more.
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def reporting_full_disk() -> Iterator[None]:
    """Print one line and exit with 1 where what is printed, or a file, finds no room on its disk."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE):
            raise
        # What is left in the buffer would fail once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)
        if e.errno != errno.EPIPE:
            print(f"{e.filename or 'the output'} cannot be written: {e.strerror}", file=sys.stderr)
        sys.exit(1)
