"""The sockets that workers listen on: bound by the supervisor, one to each worker and address, by SO_REUSEPORT.

The kernel gives each new connection to one of them. A worker that ends does not close its socket, because the supervisor has it
too: what waits there waits for the next worker. A socket that is closed would take its waiting connections along
(``net.ipv4.tcp_migrate_req`` is off by default). While a worker is away, a filter keeps new connections from its socket.
"""

from __future__ import annotations

import ctypes
import logging
import socket
import struct
import sys
from collections.abc import Sequence

logger = logging.getLogger("sluicegate")

BACKLOG = 1024
"""Connections that may wait on one socket; the kernel's ``somaxconn`` bounds it."""

ATTACH_FILTER = 51
"""``SO_ATTACH_REUSEPORT_CBPF`` of Linux, which Python has no name for."""

LOAD_RANDOM = (0x20, 0, 0, 0xFFFFF000 + 56)
"""The kernel's filter instruction that loads a random number."""

MODULO, IS, GIVE = 0x94, 0x15, 0x06
"""Codes of instructions: the remainder of a division; skip the next unless equal; give the connection to this socket."""


class Listeners:
    """The sockets of all workers, by address."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._shares_port = sys.platform == "linux" and workers > 1
        """Elsewhere SO_REUSEPORT spreads nothing: all workers accept from one socket there."""
        self._bound: dict[tuple[str, int], list[list[socket.socket]]] = {}
        """By what was asked for: for each address that this stands for, the sockets in the order in which they listen."""
        self._away: set[int] = set()

    def of(self, number: int, host: str, port: int) -> list[socket.socket]:
        """Return the sockets on which a worker accepts, bound now if nobody has asked for them yet. Raises OSError."""
        groups = self._bound.get((host, port))
        if groups is None:
            groups = self._bound[host, port] = self._bind(host, port)
            self._steer()
        return [group[(number - 1) % len(group)] for group in groups]

    def set_away(self, number: int, *, is_away: bool) -> None:
        """Note that a worker accepts nothing now, or does again: new connections go to the others."""
        before = set(self._away)
        if is_away:
            self._away.add(number)
        else:
            self._away.discard(number)
        if self._away != before:
            self._steer()

    def close(self) -> None:
        """Close all of them: what waits is refused."""
        for groups in self._bound.values():
            for group in groups:
                for sock in group:
                    sock.close()
        self._bound.clear()

    def _bind(self, host: str, port: int) -> list[list[socket.socket]]:
        groups: list[list[socket.socket]] = []
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            if port == 0 and groups:
                address = (address[0], groups[0][0].getsockname()[1], *address[2:])
            try:
                first = _listener(family, kind, protocol, address, shares_port=False)
                if self._shares_port:
                    # Only to find out that nobody else listens there: a port that is shared would take another one in silently.
                    address = (address[0], first.getsockname()[1], *address[2:])
                    first.close()
                    count = self._workers
                    group = [_listener(family, kind, protocol, address, shares_port=True) for _ in range(count)]
                else:
                    group = [first]
            except OSError:
                if family == socket.AF_INET6 and not host and groups:
                    # A machine without IPv6, where every interface was asked for.
                    continue
                for sock in (s for g in groups for s in g):
                    sock.close()
                raise
            groups.append(group)
        for sock in (s for group in groups for s in group):
            sock.listen(BACKLOG)
        return groups

    def _steer(self) -> None:
        """Have the kernel choose among the sockets of workers that accept."""
        if not self._shares_port:
            return
        present = [n for n in range(self._workers) if n + 1 not in self._away] or list(range(self._workers))
        for group in (g for groups in self._bound.values() for g in groups):
            try:
                _attach(group[0], present)
            except OSError as e:
                logger.debug("New connections may wait for a worker that restarts: %s", e)


def _listener(family: int, kind: int, protocol: int, address: tuple[object, ...], *, shares_port: bool) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def instructions(present: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Return the filter that gives each connection to one of these sockets, by their places in the group."""
    chosen = [LOAD_RANDOM, (MODULO, 0, 0, len(present))]
    for i, place in enumerate(present[:-1]):
        chosen += [(IS, 0, 1, i), (GIVE, 0, 0, place)]
    return [*chosen, (GIVE, 0, 0, present[-1])]


def _attach(sock: socket.socket, present: Sequence[int]) -> None:
    packed = b"".join(struct.pack("HBBI", *one) for one in instructions(present))
    held = ctypes.create_string_buffer(packed, len(packed))
    sock.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("HxxxxxxP", len(packed) // 8, ctypes.addressof(held)))
