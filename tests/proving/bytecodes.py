"""A script for mitmdump: counts the bytecodes that the event loop's thread runs for a call, by function.

After ``WARM_UP`` calls it counts ``CALLS`` calls and writes what it found to ``bytecodes.json`` in the folder of the CA, then begins
anew. What is counted does not depend on the machine, or on what else it does; calls must come one after the other.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from types import CodeType

from mitmproxy import ctx, http

WARM_UP, CALLS = 60, 40

FILENAME = "bytecodes.json"

_TOOL = 3
"""A number of ``sys.monitoring`` that no debugger, profiler or coverage has."""


class Bytecodes:
    """Counts from the ``request`` hook of one call to that of another one."""

    def __init__(self) -> None:
        self.seen = 0
        self.counted: dict[int, tuple[CodeType, list[int]]] = {}
        """By the identity of a code object, whose hash would be computed anew each time."""

    def request(self, flow: http.HTTPFlow) -> None:
        """Begin or end counting where it is time."""
        self.seen += 1
        if self.seen == WARM_UP + 1:
            self.begin()
        elif self.seen == WARM_UP + CALLS + 1:
            self.end()
            self.seen = 1

    def begin(self) -> None:
        """Count every instruction of this thread from now on."""
        counted, get_ident, loop = self.counted, threading.get_ident, threading.get_ident()
        counted.clear()

        def count(code: CodeType, offset: int) -> None:
            if get_ident() == loop:
                try:
                    counted[id(code)][1][0] += 1
                except KeyError:
                    counted[id(code)] = (code, [1])

        sys.monitoring.use_tool_id(_TOOL, "bytecodes")
        sys.monitoring.register_callback(_TOOL, sys.monitoring.events.INSTRUCTION, count)
        sys.monitoring.set_events(_TOOL, sys.monitoring.events.INSTRUCTION)

    def end(self) -> None:
        """Stop counting and write what was found: of each function its file, its name and its instructions a call."""
        sys.monitoring.set_events(_TOOL, 0)
        sys.monitoring.free_tool_id(_TOOL)
        own = Bytecodes.begin.__code__.co_filename
        found = [(c.co_filename, c.co_qualname, n / CALLS) for c, (n,) in self.counted.values() if c.co_filename != own]
        folder = Path(ctx.options.confdir).expanduser()
        (folder / f"{FILENAME}.new").write_text(json.dumps(found))
        (folder / f"{FILENAME}.new").replace(folder / FILENAME)


addons = [Bytecodes()]
