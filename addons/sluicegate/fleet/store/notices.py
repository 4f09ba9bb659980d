"""Notices: one connection per node that waits for what the store tells by itself, so that nobody has to ask first.

A notice is only a hint to look now. It may be lost with its connection, so whoever is told looks after each connecting too, and
regular messages find whatever no notice has told.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger("sluicegate")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
"""The pause after the first connection that failed, doubled with each that follows, up to the longest."""

ID_LENGTH = 50
"""Characters of a node's id that its channel has: PostgreSQL allows 63 in all."""

LOOK_S = 1.0
"""How often the thread looks whether it is to end."""


def channel_of(node: str) -> str:
    """Return the channel on which a node is told that another one waits for its slack."""
    return f"sluicegate_{node[:ID_LENGTH]}"


class Notices:
    """The thread. ``told`` has by channel what is called, in this thread; it must be quick."""

    def __init__(self, connect: Callable[[], psycopg.Connection], callbacks: Mapping[str, Callable[[], None]]) -> None:
        self._connect, self._callbacks = connect, callbacks
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sluicegate-notices", daemon=True)
        self.received = 0
        """Notices since the start."""
        self.is_listening = False

    def start(self) -> None:
        """Start, if it has not been started yet."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """End the thread, soon."""
        self._stop.set()

    def _run(self) -> None:
        import psycopg

        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            try:
                with self._connect() as conn:
                    for channel in self._callbacks:
                        conn.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
                    pause_s, self.is_listening = FIRST_PAUSE_S, True
                    # Whatever was told while there was no connection.
                    for look in self._callbacks.values():
                        look()
                    self._listen(conn)
            except psycopg.Error as e:
                # Whoever else uses the store says that it is away.
                self.is_listening = False
                logger.debug("Notices of the fleet's store cannot be received: %s", e)
                self._stop.wait(pause_s)
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)

    def _listen(self, conn: psycopg.Connection) -> None:
        while not self._stop.is_set():
            for notice in conn.notifies(timeout=LOOK_S):
                self.received += 1
                if (look := self._callbacks.get(notice.channel)) is not None:
                    look()
                if self._stop.is_set():
                    return
