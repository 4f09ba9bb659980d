"""Pace: the collector does not stop the loop."""

from __future__ import annotations

import asyncio
import gc

from adapter import Addon


class Pace(Addon):
    """Tunes the process once, when all is loaded."""

    def running(self) -> None:
        """mitmproxy: the proxy is up."""
        super().running()
        if not gc.get_freeze_count():
            settle_memory()
            # The bundled price table comes in a thread, some seconds after the start.
            asyncio.get_running_loop().call_later(10, gc.freeze)


def settle_memory() -> None:
    """Take what start-up has built out of the collector's sight.

    A full collection over it stops every stream for some 90 ms; what calls leave behind is little and dies young. What
    does not is looked for every 25,000 calls, in a few milliseconds: less often, and it would look like a leak.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


addons = [Pace()]
