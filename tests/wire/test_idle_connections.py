"""Connections that cost and bring nothing: silent clients, half-sent bodies, more clients than descriptors."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time

import pytest

from support.harness import ADDONS, PROVIDER, VK, WAIT_S, Gateway, ask, eventually, policy_text, receive

pytestmark = pytest.mark.wire

IMPATIENT = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))

from runtime import idle_connections
idle_connections.SILENCE_S, idle_connections.SPARED_S = 1.5, 0.5
idle_connections.STALL_S, idle_connections.SWEEP_INTERVAL_S, idle_connections.SWEEPS_PER_BODY_CHECK = 4.0, 0.1, 1
"""
ROOM_FOR_TWO = """
from runtime import size_limits
size_limits.MAX_HELD_BYTES_PER_CALLER = 8 << 20
"""

OTHER = "vk-dev-bob"
HEAD = (
    "POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"
)


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    """A gateway with few descriptors that waits for seconds where others wait longer: a busy machine may not let us send for one."""
    folder = tmp_path_factory.mktemp("idle")
    script = folder / "impatient.py"
    script.write_text(IMPATIENT)
    keys = [{"id": VK}, {"id": OTHER}]
    with Gateway(folder, policy_text(virtual_keys=keys), scripts=(script, ADDONS / "gateway.py")) as gw:
        yield gw


@pytest.fixture
def patient(tmp_path):
    """A gateway with room for two large bodies a caller, which waits for bodies for as long as it does in use: sending six may take seconds."""
    script = tmp_path / "room_for_two.py"
    script.write_text(ROOM_FOR_TWO)
    keys = [{"id": VK}, {"id": OTHER}]
    with Gateway(tmp_path, policy_text(virtual_keys=keys), scripts=(script, ADDONS / "gateway.py")) as gw:
        yield gw


def connect(gw):
    return socket.create_connection(("127.0.0.1", gw.port), timeout=WAIT_S)


def is_ended(conn):
    try:
        return conn.recv(1) == b""
    except ConnectionError:
        return True


def test_the_operator_is_told_of_a_low_limit(edge):
    assert edge.wait_for(r"only 160 files may be open, enough for some 5\d calls at once")


def test_who_says_nothing_is_ended_and_who_has_said_something_is_not(edge):
    began = time.monotonic()
    with connect(edge) as silent, connect(edge) as begun, connect(edge) as kept:
        begun.sendall(b"POST /v1/mess")
        kept.sendall(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        receive(kept, b"}")
        assert is_ended(silent)
        assert time.monotonic() - began > 1.5
        assert is_ended(begun)
        time.sleep(0.3)
        kept.sendall(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert b"200 OK" in receive(kept, b"}")


def test_more_silent_clients_than_descriptors_keep_nobody_out(edge):
    lines = len(edge.output)
    with contextlib.ExitStack() as opened:
        for number in range(299):
            opened.enter_context(connect(edge))
            if not number % 60:
                assert edge.request("GET", "/health").status == 200
        for _ in range(5):
            assert edge.post().status == 200
    unusual = [x for x in edge.output[lines:] if "client connect" not in x and "client disconnect" not in x]
    assert len(unusual) < 60
    assert not [x for x in unusual if "Traceback" in x or "out of system resource" in x]


def test_a_body_that_does_not_arrive_is_answered_408(edge):
    with connect(edge) as conn:
        conn.sendall(HEAD.format(VK, 5000).encode() + b'{"model":')
        answer = receive(conn)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert "less than 32 KB of its body arrived" in json.loads(body)["error"]["message"]
    eventually(lambda: [call["outcome"] for call in edge.rows() if call["model_requested"] is None][:1] == ["failed"])


def test_a_body_that_does_not_arrive_inside_of_a_tunnel_is_answered_too(edge):
    trust = ssl.create_default_context(cafile=str(edge.ca))
    with connect(edge) as raw:
        raw.sendall(f"CONNECT {PROVIDER}:443 HTTP/1.1\r\nHost: {PROVIDER}:443\r\n\r\n".encode())
        receive(raw, b"\r\n\r\n")
        with trust.wrap_socket(raw, server_hostname=PROVIDER) as conn:
            conn.sendall(HEAD.format(VK, 5000).encode())
            assert receive(conn).startswith(b"HTTP/1.1 408 ")
    assert edge.proxied().status == 200


def test_a_body_that_arrives_slowly_is_waited_for(edge):
    body = ask("x" * 200_000)
    with connect(edge) as conn:
        conn.sendall(HEAD.format(VK, len(body)).encode())
        for at in range(0, len(body), 40_000):
            conn.sendall(body[at : at + 40_000])
            # All together take longer than a body may stand still.
            time.sleep(0.8)
        assert receive(conn, b"200 OK").startswith(b"HTTP/1.1 200 OK")


def test_one_callers_half_sent_bodies_leave_room_for_others(patient):
    large = ask("z" * (3 << 20))
    with contextlib.ExitStack() as opened:
        waiting = [opened.enter_context(connect(patient)) for _ in range(6)]
        for conn in waiting:
            conn.sendall(HEAD.format(VK, len(large)).encode() + large[:-1])
        eventually(lambda: patient.post(large).status == 503)
        assert patient.post(large, key=OTHER).status == 200
    eventually(lambda: patient.post(large).status == 200)
