"""GcTuning: the collector does not stop the loop."""

from __future__ import annotations

import asyncio
import gc

from flow import Addon


class GcTuning(Addon):
    """Tunes the process once, when all is loaded."""

    def running(self) -> None:
        """mitmproxy: the proxy is up."""
        super().running()
        if not gc.get_freeze_count():
            settle_memory()
            # The bundled price table comes in a thread, some seconds after the start; calls may be under way by then.
            asyncio.get_running_loop().call_later(10, settle_memory, 1)


def settle_memory(generation: int = 2) -> None:
    """Take what start-up has built out of the collector's sight, and nothing that is over with it.

    A full collection over it stops every stream for some 90 ms. Calls leave nothing to collect (see prune), so what is
    looked through from then on is little.
    """
    gc.collect(generation)
    gc.freeze()


addons = [GcTuning()]
