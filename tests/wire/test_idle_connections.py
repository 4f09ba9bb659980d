"""Connections that cost and bring nothing: silent clients, half-sent bodies, more clients than descriptors."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl

import pytest

from support.clock import Clock
from support.harness import ADDONS, PROVIDER, VK, WAIT_S, Gateway, ask, eventually, policy_text, receive

pytestmark = pytest.mark.wire

SPARED_S, SILENCE_S, STALL_S = 50, 400, 250
"""Long, so that a busy machine cannot let one of them pass, but below the 600 s after which mitmproxy ends a connection."""

LIMITS = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))

from runtime.resources import idle_connections
idle_connections.SILENCE_S, idle_connections.SPARED_S, idle_connections.STALL_S = {SILENCE_S}, {SPARED_S}, {STALL_S}
idle_connections.SWEEP_INTERVAL_S, idle_connections.SWEEPS_PER_BODY_CHECK = 0.05, 1
"""
ROOM_FOR_TWO = """
from runtime.resources import size_limits
size_limits.MAX_HELD_BYTES_PER_CALLER = 8 << 20
"""

OTHER = "vk-dev-bob"
HEAD = (
    "POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"
)


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    return Clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def edge(tmp_path_factory, clock):
    """A gateway with few descriptors, and with a clock that is put forward."""
    folder = tmp_path_factory.mktemp("idle")
    script = folder / "limits.py"
    script.write_text(LIMITS)
    keys = [{"id": VK}, {"id": OTHER}]
    before, gateway = clock.scripts
    with Gateway(folder, policy_text(virtual_keys=keys), scripts=(before, script, gateway), imported=True) as gw:
        yield gw


@pytest.fixture
def patient(tmp_path):
    """A gateway with room for two large bodies a caller, which waits for bodies for as long as it does in use: sending six may take seconds."""
    script = tmp_path / "room_for_two.py"
    script.write_text(ROOM_FOR_TWO)
    keys = [{"id": VK}, {"id": OTHER}]
    with Gateway(tmp_path, policy_text(virtual_keys=keys), scripts=(script, ADDONS / "gateway.py"), imported=True) as gw:
        yield gw


USUAL = ("client connect", "client disconnect", "the clock is")


def connect(gw):
    return socket.create_connection(("127.0.0.1", gw.port), timeout=WAIT_S)


def is_ended(conn):
    try:
        return conn.recv(1) == b""
    except ConnectionError:
        return True


def is_silent(conn):
    return not select.select([conn], [], [], 0)[0]


def told_after_a_stall(clock, gw, conn):
    """Return what comes once a body has stood still for too long."""
    eventually(gw.has_read_all)
    # With the first second it looks at the body: it counts from then on.
    clock.advance(gw, 1)
    clock.advance(gw, STALL_S + 1)
    conn.settimeout(WAIT_S / 3)
    while True:
        try:
            return conn.recv(65536) + receive(conn)
        except TimeoutError:
            clock.advance(gw, STALL_S + 1)


def test_the_operator_is_told_of_a_low_limit(edge):
    assert edge.wait_for(r"only 160 files may be open, enough for some 5\d calls at once")


def test_who_says_nothing_is_ended_and_who_has_said_something_is_not(edge, clock):
    with connect(edge) as silent, connect(edge) as begun, connect(edge) as kept:
        begun.sendall(b"POST /v1/mess")
        kept.sendall(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        receive(kept, b"}")
        clock.advance(edge, SILENCE_S // 2)
        assert edge.request("GET", "/health").status == 200
        assert is_silent(silent)
        assert is_silent(begun)
        clock.advance(edge, SILENCE_S // 2 + 1)
        assert is_ended(silent)
        assert is_ended(begun)
        kept.sendall(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert b"200 OK" in receive(kept, b"}")


def test_more_silent_clients_than_descriptors_keep_nobody_out(edge, clock):
    lines = len(edge.output)
    with contextlib.ExitStack() as opened:
        for number in range(299):
            opened.enter_context(connect(edge))
            if not number % 60:
                assert edge.request("GET", "/health").status == 200
                # Those that have been opened so far make room for the next; nobody's silence is long enough to be ended for it.
                clock.advance(edge, SPARED_S + 1)
        for _ in range(5):
            assert edge.post().status == 200
    unusual = [x for x in edge.output[lines:] if not any(usual in x for usual in USUAL)]
    assert len(unusual) < 60
    assert not [x for x in unusual if "Traceback" in x or "out of system resource" in x]


def test_a_body_that_does_not_arrive_is_answered_408(edge, clock):
    with connect(edge) as conn:
        conn.sendall(HEAD.format(VK, 5000).encode() + b'{"model":')
        answer = told_after_a_stall(clock, edge, conn)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert "less than 32 KB of its body arrived" in json.loads(body)["error"]["message"]
    eventually(lambda: [call["outcome"] for call in edge.rows() if call["model_requested"] is None][:1] == ["failed"])


def test_a_body_that_does_not_arrive_inside_of_a_tunnel_is_answered_too(edge, clock):
    trust = ssl.create_default_context(cafile=str(edge.ca))
    with connect(edge) as raw:
        raw.sendall(f"CONNECT {PROVIDER}:443 HTTP/1.1\r\nHost: {PROVIDER}:443\r\n\r\n".encode())
        receive(raw, b"\r\n\r\n")
        with trust.wrap_socket(raw, server_hostname=PROVIDER) as conn:
            conn.sendall(HEAD.format(VK, 5000).encode())
            assert told_after_a_stall(clock, edge, conn).startswith(b"HTTP/1.1 408 ")
    assert edge.proxied().status == 200


def test_a_body_that_arrives_slowly_is_waited_for(edge, clock):
    """It takes five times as long as a body may stand still, and has grown enough each time."""
    body = ask("x" * 200_000)
    with connect(edge) as conn:
        conn.sendall(HEAD.format(VK, len(body)).encode())
        for at in range(0, len(body), 40_000):
            conn.sendall(body[at : at + 40_000])
            clock.advance(edge, STALL_S - 50)
        assert receive(conn, b"200 OK").startswith(b"HTTP/1.1 200 OK")


def test_one_callers_half_sent_bodies_leave_room_for_others(patient):
    large = ask("z" * (3 << 20))
    with contextlib.ExitStack() as opened:
        for _ in range(6):
            conn = opened.enter_context(connect(patient))
            conn.sendall(HEAD.format(VK, len(large)).encode() + large[:-1])
            # Of bodies that grow side by side any may be the one that is refused.
            eventually(patient.has_read_all)
        assert patient.post(large).status == 503
        assert patient.post(large, key=OTHER).status == 200
    eventually(lambda: patient.post(large).status == 200)
