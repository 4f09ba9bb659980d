"""Arbitrary bytes to the gateway and back."""

from __future__ import annotations

import select
import socket

from proving.fuzzing.testbed import Testbed
from support.harness import PROVIDER, receive

CHUNK_BYTES = 1 << 18
"""Bytes sent before what has come back is read."""

SILENCE_TIMEOUT_S = 0.4
"""Seconds of silence after which an input that may be half a request is given up."""


def exchange(conn: socket.socket, data: bytes, whole: bool) -> bytes:
    """Send, and return what comes until the other side closes; after a silence if the request may be incomplete."""
    conn.settimeout(20 if whole else SILENCE_TIMEOUT_S)
    got = b""
    try:
        for at in range(0, len(data), CHUNK_BYTES):
            if at and select.select([conn], [], [], 0)[0]:
                # The answer has come before the whole request was sent: the rest will not be read.
                break
            conn.sendall(data[at : at + CHUNK_BYTES])
        while piece := conn.recv(65536):
            got += piece
    except OSError:
        # A reset or a broken pipe is one way to be refused, a silence another.
        pass
    return got


def send_plain(testbed: Testbed, data: bytes, whole: bool = True) -> bytes:
    """Send to the port itself."""
    with socket.create_connection(("127.0.0.1", testbed.gateway.port), timeout=20) as conn:
        return exchange(conn, data, whole)


def send_tunnelled(
    testbed: Testbed, data: bytes, whole: bool = True, target: str = f"{PROVIDER}:443", tls: bool = True, more: str = ""
) -> bytes:
    """Send through CONNECT, with or without TLS inside; ``more`` are headers of the CONNECT."""
    try:
        with open_tunnel(testbed, target, more) as conn:
            if not tls:
                return exchange(conn, data, whole)
            with testbed.tls.wrap_socket(conn, server_hostname=target.rpartition(":")[0]) as secure:
                return exchange(secure, data, whole)
    except TunnelRefused as e:
        return e.answer


class TunnelRefused(Exception):
    """A CONNECT that was not answered with 200, but with ``answer``."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(answer)
        self.answer = answer


def open_tunnel(testbed: Testbed, target: str, more: str = "") -> socket.socket:
    """Open a tunnel. Raises TunnelRefused."""
    conn = socket.create_connection(("127.0.0.1", testbed.gateway.port), timeout=20)
    conn.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{more}\r\n".encode())
    answer = receive(conn, b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 200"):
        conn.close()
        raise TunnelRefused(answer)
    return conn
