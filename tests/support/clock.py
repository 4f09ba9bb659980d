"""A gateway's clock that a test puts forward: a time-out of minutes is over at once, and none is over before the test says so.

A time-out of a second or two would be as fast, but on a busy machine it is over before the test has done what it is to do
meanwhile. So tests make time-outs long, and put the clock forward when everything else has happened.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from support.harness import ADDONS, CLOCK_SCRIPT, ROOT

if TYPE_CHECKING:
    from support.harness import Gateway

SCRIPT = """
import asyncio, sys
from pathlib import Path

sys.path.append({tests!r})
from support import shifted_time

async def follow():
    while True:
        wanted = int(Path({file!r}).read_text())
        if wanted != shifted_time.ahead_s:
            shifted_time.ahead_s = wanted
            print(f"the clock is {{wanted}} s ahead", flush=True)
        await asyncio.sleep(0.01)

class Clock:
    def running(self):
        self.following = asyncio.get_running_loop().create_task(follow())

addons = [Clock()]
"""
"""Must come before everything that takes functions of ``time`` into its own names, see ``shifted_time.py``."""


class Clock:
    """The clock of a gateway that runs with ``scripts``."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "seconds-ahead"
        self._file.write_text("0")
        script = folder / CLOCK_SCRIPT
        script.write_text(SCRIPT.format(file=str(self._file), tests=str(ROOT / "tests")))
        self.scripts = (script, ADDONS / "gateway.py")
        self.ahead_s = 0

    def advance(self, gateway: Gateway, seconds: int) -> None:
        """Put the clock forward, and return once the gateway goes by it."""
        self.set_ahead(seconds)
        gateway.wait_for(rf"^{re.escape(f'the clock is {self.ahead_s} s ahead')}$")

    def set_ahead(self, seconds: int) -> None:
        """Put the clock forward without waiting, for a thread that may outlive the gateway, such as a fake provider's."""
        self.ahead_s += seconds
        new = self._file.with_suffix(".new")
        new.write_text(str(self.ahead_s))
        new.rename(self._file)
