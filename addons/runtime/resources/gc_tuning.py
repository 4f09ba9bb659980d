"""Garbage collection: it must not stall the event loop."""

from __future__ import annotations

import gc

from flow import Addon


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


def freeze(generation: int = 2) -> None:
    """Collect garbage, then exclude from later collections everything that start-up has built.

    A full collection over it stops every stream for some 90 ms. Calls leave nothing to collect (see release_memory), so
    little is left to look through from then on.
    """
    gc.collect(generation)
    gc.freeze()


addons = [GcTuning()]
