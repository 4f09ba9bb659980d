"""What a process has taken of the processors, and how long it has waited for one: its speed, also on a busy machine."""

from __future__ import annotations

import os
from pathlib import Path

NANOSECONDS_PER_S = 1e9


def process_s(pid: int) -> float:
    """Return the seconds of processor time that all threads of a process have taken, those that have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main_thread_s(pid: int) -> float:
    """Return the seconds of processor time that the first thread of a process has taken, which runs a gateway's event loop."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / NANOSECONDS_PER_S


class ProcessorWait:
    """Counts from now on how long the threads of a process are ready to run and do not run, by Linux's ``schedstat``."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.began = self._waits()

    def _waits(self) -> dict[str, float]:
        """Return the seconds that each thread has waited, by its id."""
        found = {}
        for file in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            try:
                found[file.parent.name] = int(file.read_text().split()[1]) / NANOSECONDS_PER_S
            except OSError:
                # The thread has ended meanwhile.
                continue
        return found

    @property
    def seconds(self) -> float:
        """The longest wait of any thread: at least so much sooner would the process have been done on an idle machine."""
        return max((now - self.began.get(thread, 0.0) for thread, now in self._waits().items()), default=0.0)
