"""Pace: what keeps the loop from stalling, and from proving again at each call what its parser has proven."""

from __future__ import annotations

import asyncio
import gc

from mitmproxy import http

from adapter import Addon


class Pace(Addon):
    """Tunes the process once, when all is loaded."""

    def running(self) -> None:
        """mitmproxy: the proxy is up."""
        super().running()
        if not gc.get_freeze_count():
            settle_memory()
            # The bundled price table comes in a thread, some seconds after the start; calls may be under way by then.
            asyncio.get_running_loop().call_later(10, settle_memory, 1)
        trust_the_parser()


def settle_memory(generation: int = 2) -> None:
    """Take what start-up has built out of the collector's sight, and nothing that is over with it.

    A full collection over it stops every stream for some 90 ms. Calls leave nothing to collect (see prune), so what is
    looked through from then on is little.
    """
    gc.collect(generation)
    gc.freeze()


def trust_the_parser() -> None:
    """Leave out the type check of each field of each message, a debug aid that ``python -O`` would leave out as well.

    It costs a tenth of a call, and every message here comes from mitmproxy's own parser.
    """
    if "__post_init__" in vars(http.MessageData):
        http.MessageData.__post_init__ = lambda self: None  # type: ignore[method-assign]


addons = [Pace()]
