"""File descriptors: the limit is raised at the start, and near it connections are accepted only as others end.

asyncio, out of descriptors, tries a hundred times in a row to accept what waits, logs each time, and begins again after a
second: whoever only opens connections could stop the gateway and fill the disk with its log.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from runtime.connections import connection_handlers

MAX_DESCRIPTORS = 65_536
"""Descriptors that are asked for; each connection takes some ten kilobytes besides."""

FEW_DESCRIPTORS = 1024
"""Below this limit the operator is warned: a call takes two descriptors, one to the client and one to the provider."""

MAX_RESERVED = 128
"""Descriptors kept for connections to providers, for files and for pipes; at most a third of the limit."""

ACCEPTED_AT_ONCE = 16
"""Connections accepted before those that should end have ended."""

REST_S = 0.05
"""Seconds for which nothing is accepted when no descriptor is left."""

make_room: list[Callable[[int], None]] = []
"""What ends so many connections that can be spared."""


def raise_limit() -> int:
    """Raise the limit of open files as far as it may be raised, and return it."""
    open_at_start()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft
    return wanted


def warning_of(limit: int) -> str | None:
    """Return what the operator should know of a low limit; None where it is high enough."""
    if limit >= FEW_DESCRIPTORS:
        return None
    calls = (limit - reserved(limit)) // 2
    return f"only {limit} files may be open, enough for some {calls} calls at once: raise the limit (ulimit -n 4096)"


def reserved(limit: int) -> int:
    """Return how many descriptors are not given to clients."""
    return min(MAX_RESERVED, limit // 3)


def room() -> int:
    """Return how many more clients there are descriptors for."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return ACCEPTED_AT_ONCE
    free = limit - reserved(limit)
    # Counting those that are open takes a microsecond for each, so it is done only where they may be many.
    if 4 * len(connection_handlers()) < free - open_at_start():
        return ACCEPTED_AT_ONCE
    return free - count_open()


def count_open() -> int:
    """Return how many descriptors are open: more than there can be where that cannot be told, since no descriptor is left."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return MAX_DESCRIPTORS


@cache
def open_at_start() -> int:
    """Return how many descriptors were open when this was first asked for."""
    return count_open()


def accepting_gently(stock: Callable[..., None]) -> Callable[..., None]:
    """Return asyncio's method that accepts connections, made to accept a few at a time and to rest where there is no room."""

    def accept(
        self: Any,
        protocol_factory: Any,
        sock: Any,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        *timeouts: Any,
        **named: Any,
    ) -> None:
        free = room()
        if free < ACCEPTED_AT_ONCE:
            for make in make_room:
                make(ACCEPTED_AT_ONCE)
        if free > 0:
            stock(self, protocol_factory, sock, sslcontext, server, min(backlog, free, ACCEPTED_AT_ONCE), *timeouts, **named)
            return

        def resume() -> None:
            # It may have been closed meanwhile.
            if sock.fileno() >= 0:
                self._start_serving(protocol_factory, sock, sslcontext, server, backlog, *timeouts, **named)

        self._remove_reader(sock.fileno())
        self.call_later(REST_S, resume)

    return accept


def adopt(loop: Any, sockets: Iterable[Any]) -> None:
    """Have sockets that listen already accept by the loop's present method; they keep the one they began with."""
    for sock in sockets:
        reader = loop._selector.get_map()[sock.fileno()].data[0] if sock.fileno() in loop._selector.get_map() else None
        # While it rests it has none.
        if reader is not None and reader._callback != loop._accept_connection:
            loop._add_reader(sock.fileno(), loop._accept_connection, *reader._args)
