"""Bodies that nobody will read take no memory, said or unsaid how long they are, and who sends them is told why."""

from __future__ import annotations

import json
import re
import socket
import ssl
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, WindowUpdated

from support.api import DANA, POLICY, VERA, Api
from support.harness import ADDONS, PROVIDER, VK, Gateway, Reply, ask, eventually, policy_text, receive

pytestmark = pytest.mark.wire

PIECE = b"x" * (1 << 20)
NOBODY = {"x-api-key": "sk-nobody"}


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    """One gateway for all of these."""
    with Gateway(tmp_path_factory.mktemp("bodies"), POLICY) as gw:
        yield gw


def resident(gw):
    """Megabytes of memory the gateway holds."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{gw.process.pid}/status").read_text())[1]) >> 10


def opened(gw, path, headers, size):
    """A connection on which a body of ``size`` bytes has been announced, or one of unknown length."""
    conn = socket.create_connection(("127.0.0.1", gw.port), timeout=60)
    length = "transfer-encoding: chunked" if size is None else f"content-length: {size}"
    fields = {"host": "127.0.0.1", "content-type": "application/json", "connection": "close"} | headers
    head = [f"POST {path} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items()), length, "", ""]
    conn.sendall("\r\n".join(head).encode())
    return conn


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def sent(gw, path, data, chunked, **headers):
    """The answer to a body sent to its end."""
    with opened(gw, path, {k.replace("_", "-"): v for k, v in headers.items()}, None if chunked else len(data)) as conn:
        conn.sendall(b"".join(chunk(data[i : i + 65536]) for i in range(0, len(data), 65536)) + b"0\r\n\r\n" if chunked else data)
        head, _, body = receive(conn).partition(b"\r\n\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head.decode().splitlines()[1:])
    return Reply(int(head[9:12]), fields, body)


@pytest.mark.covering
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
@pytest.mark.parametrize(
    ("path", "headers", "status", "says"),
    [
        ("/v1/messages", NOBODY, 401, "not a known virtual key"),
        ("/v1/messages", {}, 401, "No virtual key was sent"),
        ("/api/governance/teams", {}, 413, "at most 65536 bytes are accepted; send the admin token"),
        ("/api/policy", {"authorization": "Bearer wrong"}, 413, "at most 65536 bytes are accepted"),
        ("/health", {}, 413, "at most 65536 bytes are accepted"),
        ("/nowhere", {}, 404, "There is no page with that name"),
    ],
)
def test_bodies_of_strangers_take_no_memory_and_get_an_answer(edge, path, headers, status, says, chunked):
    before = resident(edge)
    conns = [opened(edge, path, headers, None if chunked else 21 << 20) for _ in range(6)]
    try:
        for _ in range(20):
            for conn in conns:
                conn.sendall(chunk(PIECE) if chunked else PIECE)
        assert resident(edge) < before + 30
        conns[0].sendall(chunk(PIECE) + b"0\r\n\r\n" if chunked else PIECE)
        answer = receive(conns[0])
    finally:
        for conn in conns:
            conn.close()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert says in error["message"]


def pour(conn, data, times):
    """Send data again and again until the other side hangs up; how often it was sent."""
    for count in range(times):
        try:
            conn.sendall(data)
        except ConnectionError:
            return count
    return times


@pytest.mark.parametrize("key", ["sk-nobody", VK])
def test_a_body_without_end_is_ended_and_its_connection_closed(edge, key):
    """The first time the socket was closed by luck: the collector had just found it."""
    for _ in range(4):
        with opened(edge, "/v1/messages", {"x-api-key": key}, None) as conn:
            conn.settimeout(60)
            assert 60 < pour(conn, chunk(PIECE), 200) < 110
            answer = receive(conn)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 413 ")
    assert edge.post().status == 200


@pytest.mark.parametrize("key", ["sk-nobody", VK])
@pytest.mark.parametrize("framing", [b"1" * 20 + b";", b"1;", b"0\r\nx-a: "], ids=["size", "extension", "trailer"])
def test_framing_of_a_body_without_end_is_ended_and_takes_no_memory(edge, framing, key):
    """Not a byte of it is a byte of the body, so no limit of bodies held."""
    before = resident(edge)
    with opened(edge, "/v1/messages", {"x-api-key": key}, None) as conn:
        conn.sendall(framing)
        assert pour(conn, b"1" * (1 << 16), 1000) < 400
    assert resident(edge) < before + 20
    assert edge.post().status == 200


@pytest.mark.parametrize("key", ["sk-nobody", VK])
def test_a_body_in_tiny_chunks_is_ended(edge, key):
    """A chunk of one byte takes as long as one of a thousand, so their number is what stops all other calls."""
    with opened(edge, "/v1/messages", {"x-api-key": key}, None) as conn:
        assert pour(conn, chunk(b" ") * 5000, 1000) < 500
    assert edge.post().status == 200


def test_a_body_in_small_chunks_is_a_body(edge):
    body = ask(words="x" * 40_000)
    with opened(edge, "/v1/messages", {"x-api-key": VK}, None) as conn:
        conn.sendall(b"".join(chunk(body[i : i + 30]) for i in range(0, len(body), 30)) + b"0\r\n\r\n")
        assert receive(conn, b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_who_is_known_may_send_what_they_need(edge, chunked):
    def answer(path, size, token):
        body = json.dumps({"name": "x" * (size - 12)}).encode()
        reply = sent(edge, path, body, chunked, authorization=f"Bearer {token}")
        return reply.status, reply.json["error"]["message"]

    team, policy = "/api/governance/teams", "/api/policy/validate"
    assert answer(team, 900_000, DANA)[0] == 400
    assert answer(team, 2 << 20, DANA) == (413, "The body is too large: at most 1048576 bytes are accepted")
    assert answer(team, 900_000, VERA)[0] == 403
    assert answer(policy, 2 << 20, DANA)[0] == 400
    assert answer(policy, 2 << 20, VERA) == (413, "The body is too large: at most 1048576 bytes are accepted")
    assert answer(policy, 33 << 20, DANA) == (413, "The body is too large: at most 33554432 bytes are accepted")
    assert answer(team, 60_000, "wrong")[0] == 401
    login = edge.request("POST", "/api/session/login", json.dumps({"token": DANA}).encode(), {"content-type": "application/json"})
    page = {"cookie": login.headers["set-cookie"].partition(";")[0], "sec-fetch-site": "same-origin"}
    large = json.dumps({"name": "x" * (2 << 20)}).encode()
    assert sent(edge, login.json["place"] + policy, large, chunked, **page).status == 400
    assert sent(edge, policy, large, chunked, **page).status == 413
    assert Api(edge).ok("GET", "/api/usage")


def test_a_length_that_is_no_number_of_bytes_is_no_way_round(edge):
    for length in ("9" * 30, "9" * 5000, "-1", "1e9", "\xb2"):
        head = (
            f"POST /api/session HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        )
        answer = edge.send_raw(head.encode("latin-1"))
        assert answer[9:12] in (b"400", b"413"), answer
    assert not [x for x in edge.output if "Traceback" in x]


def test_a_refused_body_of_somebody_known_is_measured_whole_and_kept_in_part(gateway, provider):
    gw = gateway(policy_text(provider.url, content="full", required_headers=["x-ticket"]))
    body = ask("y" * 300_000)
    for chunked in (False, True):
        assert sent(gw, "/v1/messages", body, chunked, x_api_key=VK).status == 400
    for row in gw.calls(2):
        assert (row["reason"], row["request_bytes"]) == ("missing_required_headers", len(body))
        kept = gw.admin(f"/api/logs/{row['id']}").json["content"]
        assert (kept["request"], kept["request_truncated"]) == (body[:65536].decode(), True)
    assert provider.seen == []


HEAD = b"HTTP/1.1 200 X\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "begins", [HEAD + b"x-a: ", CHUNKED + b"1;", CHUNKED + b"0\r\nx-a: "], ids=["head", "extension", "trailer"]
)
def test_an_answer_without_end_is_ended_and_takes_no_memory(gateway, provider, begins):
    gw, taken = gateway(policy_text(provider.url)), []

    def script(peer, _):
        peer.send(begins)
        taken.append(pour(peer.conn, b"1" * (1 << 16), 1000))

    assert gw.proxied().status == 200
    provider.script, before = script, resident(gw)
    with opened(gw, "/v1/messages", {"x-api-key": VK}, len(ask())) as conn:
        conn.sendall(ask())
        answer = receive(conn)
    assert answer.startswith(b"HTTP/1.1 502 ")
    (count,) = eventually(lambda: taken)
    assert count < 400
    assert resident(gw) < before + 20
    assert [r["outcome"] for r in gw.calls(2)] == ["completed", "failed"]


def test_a_strangers_body_over_http2_takes_no_memory(edge):
    before = resident(edge)
    trust = ssl.create_default_context(cafile=str(edge.ca))
    trust.set_alpn_protocols(["h2"])
    talk = H2Connection(H2Configuration(header_encoding="utf-8"))
    talk.initiate_connection()
    head = {":method": "POST", ":scheme": "https", ":authority": PROVIDER, ":path": "/v1/messages"} | NOBODY
    talk.send_headers(1, list(head.items()))
    left, answer, status, over = 24 << 20, b"", None, False
    with edge.raw() as raw:
        raw.sendall(f"CONNECT {PROVIDER}:443 HTTP/1.1\r\nHost: {PROVIDER}:443\r\n\r\n".encode())
        receive(raw, b"\r\n\r\n")
        with trust.wrap_socket(raw, server_hostname=PROVIDER) as road:
            while not over:
                while left and (room := min(talk.local_flow_control_window(1), talk.max_outbound_frame_size, left)):
                    left -= room
                    talk.send_data(1, b"x" * room, end_stream=not left)
                road.sendall(talk.data_to_send())
                assert resident(edge) < before + 30
                for event in talk.receive_data(road.recv(65536)):
                    match event:
                        case ResponseReceived():
                            status = dict(event.headers)[":status"]
                        case DataReceived():
                            answer += event.data
                        case StreamEnded():
                            over = True
                        case WindowUpdated():
                            pass
    assert status == "401"
    assert "not a known virtual key" in json.loads(answer)["error"]["message"]


def test_a_tls_greeting_without_end_is_ended(edge):
    """It was read anew with each piece: a few connections kept the loop busy for good."""
    before = resident(edge)
    first = b"\x01\xff\xff\xff\x03\x03" + b"a" * 16378
    with edge.raw() as conn:
        conn.settimeout(60)
        conn.sendall(f"CONNECT {PROVIDER}:443 HTTP/1.1\r\nHost: {PROVIDER}:443\r\n\r\n".encode())
        receive(conn, b"\r\n\r\n")
        conn.sendall(b"\x16\x03\x01\x40\x00" + first)
        assert pour(conn, b"\x16\x03\x01\x40\x00" + b"a" * 16384, 1000) < 400
    assert resident(edge) < before + 20
    assert edge.proxied().status == 200


def test_a_tls_greeting_that_cannot_be_parsed_is_ended_and_not_quoted(edge):
    """Its bytes went into the log, and those after it made mitmproxy crash."""
    before = len(edge.output)
    with edge.raw() as conn:
        conn.settimeout(60)
        pour(conn, b"\x16\x03\x01\x00\x04\x01\x00\xff\xff" + b"a" * 16380, 60)
        port = conn.getsockname()[1]
    eventually(lambda: any(f":{port}" in x and "client disconnect" in x for x in edge.output[before:]))
    assert [x for x in edge.output[before:] if "Cannot parse ClientHello" in x]
    assert not [x for x in edge.output[before:] if "6161" in x or "has crashed" in x]
    assert edge.proxied().status == 200


ROOM_FOR_LITTLE = "from runtime.resources import size_limits\nsize_limits.MAX_HELD_BYTES = 8 << 20\n"


def test_large_bodies_of_all_callers_together_take_so_much_memory_and_no_more(gateway, provider, tmp_path):
    script = tmp_path / "room.py"
    script.write_text(ROOM_FOR_LITTLE)
    gw = gateway(policy_text(provider.url), scripts=[ADDONS / "gateway.py", script])
    known = {"x-api-key": VK}
    large = ask("z" * (3 << 20))
    before = resident(gw)
    waiting = [opened(gw, "/v1/messages", known, len(large)) for _ in range(2)]
    for conn in waiting:
        conn.sendall(large[:-1])
    # Of bodies that grow side by side any may be the one that is refused.
    eventually(gw.has_read_all)
    assert resident(gw) >= before + 5
    refused = sent(gw, "/v1/messages", large, False, x_api_key=VK)
    assert (refused.status, refused.headers["retry-after"]) == (503, "2")
    assert refused.message == "The gateway holds 8 MB of large requests and takes no more at this moment; try again"
    assert sent(gw, "http://upload.invalid/", large, True).status == 503
    assert sent(gw, "/v1/messages", ask(), False, x_api_key=VK).status == 200
    for conn in waiting:
        conn.sendall(large[-1:])
        assert receive(conn).startswith(b"HTTP/1.1 200")
        conn.close()
    assert sent(gw, "/v1/messages", large, True, x_api_key=VK).status == 200
    assert sorted(c["outcome"] for c in gw.calls(5)) == ["completed"] * 4 + ["denied"]
