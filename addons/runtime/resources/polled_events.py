"""Polled events: which sockets have something to read is asked and noted in one step, as a turn of the event loop begins.

asyncio makes a list of all that may be done on each socket, takes it apart again, and notes each callback by a function of its
own, for each piece of an answer that comes by itself.
"""

from __future__ import annotations

import math
import select
from collections.abc import Callable, Mapping
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

from mitmproxy import ctx

from runtime.streams.used_names import changed_function

Found = list[tuple[Any, int]]
"""Keys of sockets, and what may be done on each: what asyncio has to note."""


_STOCK = {
    *("fileobj", "data", "selectors", "EVENT_READ", "EVENT_WRITE"),
    *("_cancelled", "_remove_reader", "_remove_writer", "_add_callback"),
}
"""The names in asyncio's own way to note what was found: with any other it does something else."""


def is_epoll() -> bool:
    """Return whether event loops ask by epoll, as on Linux."""
    return hasattr(select, "epoll")


def noting(selector: Any) -> Mapping[str, Callable[..., Found]]:
    """Return how a loop's selector asks, and notes what may be read. Raises AttributeError where the loop notes in another way."""
    loop: Any = ctx.master.event_loop
    if (changed := changed_function(type(loop)._process_events, _STOCK)) is not None:
        raise AttributeError(changed)
    poll, keys, note = selector._selector.poll, selector._fd_to_key, loop._ready.append
    may_read, not_read, not_write = select.EPOLLIN, ~select.EPOLLIN, ~select.EPOLLOUT

    def ask(timeout: float | None = None) -> Found:
        # Without end, or in milliseconds, and no shorter than asked for.
        wait_s = -1.0 if timeout is None else math.ceil(timeout * 1e3) * 1e-3 if timeout > 0 else 0.0
        found: Found = []
        try:
            polled = poll(wait_s, len(keys) or 1)
        except InterruptedError:
            return found
        for fd, event in polled:
            if (key := keys.get(fd)) is None:
                continue
            reader = key.data[0]
            if event == may_read and reader is not None and not reader._cancelled:
                note(reader)
            else:
                mask = (event & not_read and EVENT_WRITE) | (event & not_write and EVENT_READ)
                found.append((key, mask & key.events))
        return found

    return {"select": ask}
