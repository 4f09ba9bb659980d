"""The sockets of workers: one port, nothing lost that waits, and no connection for a worker that is away."""

from __future__ import annotations

import socket
import sys

import pytest

from sluicegate.workers.listening import Listeners

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all workers accept from one socket")


def accepted(sock: socket.socket) -> int:
    """Accept all that waits; return how many connections that were."""
    count = 0
    while True:
        try:
            sock.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def connect(port: int, count: int) -> None:
    for _ in range(count):
        socket.create_connection(("127.0.0.1", port)).close()


def test_each_worker_has_a_socket_of_one_port_and_gets_a_part_of_the_connections():
    listeners = Listeners(3)
    (first,) = listeners.of(1, "127.0.0.1", 0)
    sockets = [first, *(listeners.of(n, "127.0.0.1", 0)[0] for n in (2, 3))]
    (port,) = {sock.getsockname()[1] for sock in sockets}
    assert len({sock.fileno() for sock in sockets}) == 3
    connect(port, 300)
    counts = [accepted(sock) for sock in sockets]
    assert sum(counts) == 300
    # The chance that a fair choice gives one of three fewer than 50 of 300 is below 10**-9.
    assert min(counts) > 50
    listeners.close()


def test_a_worker_that_is_away_gets_no_connection_and_loses_none_that_waits():
    listeners = Listeners(2)
    sockets = [listeners.of(n, "127.0.0.1", 0)[0] for n in (1, 2)]
    port = sockets[0].getsockname()[1]
    connect(port, 60)
    listeners.set_away(2, is_away=True)
    connect(port, 60)
    first = accepted(sockets[0])
    listeners.set_away(2, is_away=False)
    assert 60 < first < 120
    assert first + accepted(sockets[1]) == 120
    connect(port, 60)
    assert accepted(sockets[1]) > 0
    # Where all are away, each keeps its part until it is back.
    listeners.set_away(1, is_away=True)
    listeners.set_away(2, is_away=True)
    connect(port, 20)
    assert sum(map(accepted, sockets)) > 20
    listeners.close()


def test_a_port_that_another_program_listens_on_is_refused():
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other, pytest.raises(OSError, match="Address already in use"):
        Listeners(2).of(1, "127.0.0.1", other.getsockname()[1])
