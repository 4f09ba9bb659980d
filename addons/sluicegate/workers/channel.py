"""The channel between the supervisor and one worker: a pair of sockets, with one JSON object to a line.

A worker asks for the sockets it listens on, and gets them with the answer; later it says that it serves, and then once a second
that it answers. When the supervisor's
end is closed, the supervisor has ended, and the worker stops.
"""

from __future__ import annotations

import array
import contextlib
import socket
from typing import Any

import orjson

MAX_SOCKETS = 8
"""Sockets of one address at most: IPv4 and IPv6, for each address that a name stands for."""

MESSAGE_BYTES = 4096


class ChannelError(OSError):
    """The supervisor cannot do what it was asked, or has ended."""


class Channel:
    """A worker's end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.set_inheritable(False)

    def listen(self, host: str, port: int) -> list[socket.socket]:
        """Return sockets that listen on an address, bound by the supervisor. Blocking, for microseconds. Raises OSError."""
        self.sock.sendall(orjson.dumps({"listen": [host, port]}) + b"\n")
        data, fds = _receive(self.sock)
        if not data:
            raise ChannelError("the supervisor has ended")
        answer = orjson.loads(data)
        if "error" in answer:
            raise ChannelError(answer["errno"], answer["error"])
        return [socket.socket(fileno=fd) for fd in fds]

    def report_ready(self, grace_period_s: float) -> None:
        """Say that the worker serves, and how long its calls get to end when it stops. Raises OSError."""
        self.sock.sendall(orjson.dumps({"ready": grace_period_s}) + b"\n")

    def report_alive(self) -> None:
        """Say that the worker answers. A supervisor that is stopped misses it; one that has ended is noticed elsewhere."""
        with contextlib.suppress(OSError):
            self.sock.send(b'{"alive": true}\n', socket.MSG_DONTWAIT)


def answer_listen(sock: socket.socket, sockets: list[socket.socket]) -> None:
    """Send a worker the sockets that it has asked for. Raises OSError."""
    fds = array.array("i", [s.fileno() for s in sockets])
    sock.sendmsg([b"{}\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])


def answer_error(sock: socket.socket, error: OSError) -> None:
    """Tell a worker why it gets none. Raises OSError."""
    sock.sendall(orjson.dumps({"error": error.strerror or str(error), "errno": error.errno or 0}) + b"\n")


def requests_in(data: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """Return what a worker has said, and the beginning of what it goes on saying."""
    *lines, rest = data.split(b"\n")
    return [orjson.loads(line) for line in lines if line], rest


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    fds = array.array("i")
    data, ancillary, _, _ = sock.recvmsg(MESSAGE_BYTES, socket.CMSG_SPACE(MAX_SOCKETS * fds.itemsize))
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)
