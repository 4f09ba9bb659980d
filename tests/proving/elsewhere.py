"""A server of no provider at an address of its own: what tunnels lead to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

ELSEWHERE = "127.0.0.3"
"""An address of this machine that no provider and no gateway of a test has."""

Serve = Callable[[socket.socket, bytearray], None]
"""Serves one connection; what it receives goes to the bytearray."""


def echo(conn: socket.socket, got: bytearray) -> None:
    """Send back what comes until the other side closes."""
    while data := conn.recv(65536):
        got += data
        conn.sendall(data)


class Elsewhere:
    """Serves each connection in a thread. ``serve`` may be changed at any moment; ``received`` is by connection."""

    def __init__(self, serve: Serve = echo) -> None:
        self.serve = serve
        self.received: list[bytearray] = []
        self._listener = socket.create_server((ELSEWHERE, 0), backlog=200)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                conn, _ = self._listener.accept()
                got = bytearray()
                self.received.append(got)
                threading.Thread(target=self._run, args=(conn, got), daemon=True).start()

    def _run(self, conn: socket.socket, got: bytearray) -> None:
        with conn, contextlib.suppress(OSError):
            self.serve(conn, got)

    def close(self) -> None:
        """Stop listening; open connections stay open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
