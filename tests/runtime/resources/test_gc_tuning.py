"""Pace: the collector looks at what comes, and what is over is not kept for good."""

from __future__ import annotations

import gc
import weakref

from runtime.resources.gc_tuning import freeze


class Ring:
    """Holds itself."""

    def __init__(self):
        self.me = self


def test_what_start_up_has_built_is_set_aside_and_what_is_over_is_freed():
    kept, over = Ring(), Ring()
    told = weakref.ref(over)
    del over
    try:
        freeze(1)
        assert told() is None
        assert not any(thing is kept for thing in gc.get_objects())
    finally:
        gc.unfreeze()
