"""A gateway's clock that a test puts forward: a time-out of minutes is over at once, and none is over before the test says so.

A time-out of a second or two would be as fast, but on a busy machine it is over before the test has done what it is to do
meanwhile. So tests make time-outs long, and put the clock forward when everything else has happened.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from support.harness import ADDONS

if TYPE_CHECKING:
    from support.harness import Gateway

SCRIPT = """
import asyncio, time
from pathlib import Path

ahead = 0

def put_forward(stock, unit):
    return lambda: stock() + ahead * unit

for name, unit in (("monotonic", 1), ("time", 1), ("monotonic_ns", 10**9), ("time_ns", 10**9)):
    setattr(time, name, put_forward(getattr(time, name), unit))

async def follow():
    global ahead
    while True:
        wanted = int(Path({file!r}).read_text())
        if wanted != ahead:
            ahead = wanted
            print(f"the clock is {{ahead}} s ahead", flush=True)
        await asyncio.sleep(0.01)

class Clock:
    def running(self):
        self.following = asyncio.get_running_loop().create_task(follow())

addons = [Clock()]
"""
"""Must come before everything that takes functions of ``time`` into its own names. asyncio asks the module each time."""


class Clock:
    """The clock of a gateway that runs with ``scripts``."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "seconds-ahead"
        self._file.write_text("0")
        script = folder / "clock.py"
        script.write_text(SCRIPT.format(file=str(self._file)))
        self.scripts = (script, ADDONS / "gateway.py")
        self.ahead_s = 0

    def advance(self, gateway: Gateway, seconds: int) -> None:
        """Put the clock forward, and return once the gateway goes by it."""
        self.ahead_s += seconds
        new = self._file.with_suffix(".new")
        new.write_text(str(self.ahead_s))
        new.rename(self._file)
        gateway.wait_for(rf"^{re.escape(f'the clock is {self.ahead_s} s ahead')}$")
