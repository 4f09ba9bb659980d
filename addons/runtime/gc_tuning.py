"""Garbage collection: it must not stall the event loop."""

from __future__ import annotations

import asyncio
import gc

from flow import Addon

SECOND_FREEZE_DELAY_S = 10
"""Seconds after the start after which the bundled price table, which a thread loads, is in memory as well."""


class GcTuning(Addon):
    """Tunes the collector once, when everything is loaded."""

    name = "gc_tuning"

    def __init__(self) -> None:
        super().__init__()
        self._is_tuned = False

    def running(self) -> None:
        """Set aside what start-up has built."""
        super().running()
        if not self._is_tuned:
            self._is_tuned = True
            freeze()
            # Calls may be under way by then, so only the young generations are collected.
            asyncio.get_running_loop().call_later(SECOND_FREEZE_DELAY_S, freeze, 1)


def freeze(generation: int = 2) -> None:
    """Collect garbage, then exclude from later collections everything that start-up has built.

    A full collection over it stops every stream for some 90 ms. Calls leave nothing to collect (see release_memory), so
    little is left to look through from then on.
    """
    gc.collect(generation)
    gc.freeze()


addons = [GcTuning()]
