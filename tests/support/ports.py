"""Ports for programs that must be told which one to use."""

from __future__ import annotations

import random
import socket
from pathlib import Path


def free_port() -> int:
    """Return a port of loopback that nobody uses, and that the system gives to nobody who does not ask for it by number.

    One that the system chose would be free too, and be given to the next connection that anybody opens.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, first)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
