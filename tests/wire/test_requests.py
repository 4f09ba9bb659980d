"""Requests that two readers might read in two ways are refused; what is forwarded is written in one."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from support.fake_provider import FakeProvider, sse
from support.harness import VK, Gateway, ask, eventually, policy_text, receive, receive_until_silence
from support.http2_client import statuses as http2

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    """One gateway and provider for all of these."""
    with FakeProvider() as fake:
        gw = Gateway(tmp_path_factory.mktemp("requests"), policy_text(fake.url)).start()
        gw.fake = fake
        yield gw
        gw.stop()


def request(*fields, line=b"POST /v1/messages HTTP/1.1", host=b"Host: localhost\r\n", body=None, length=None):
    """A model call, byte by byte."""
    body = ask() if body is None else body
    head = [line, b"x-api-key: " + VK.encode(), b"connection: close", *fields]
    framing = b"content-length: %d\r\n" % len(body) if length is None else length
    return b"\r\n".join(head) + b"\r\n" + host + framing + b"\r\n" + body


@pytest.mark.parametrize(
    ("odd", "path"),
    [
        ({"line": b"POST /v1/\xff/messages HTTP/1.1"}, r"/v1/\udcff/messages"),
        ({"line": b"POST /v1/\xc3\xa9/messages HTTP/1.1"}, r"/v1/\xe9/messages"),
        ({"line": b"POST /v1/messages\x01 HTTP/1.1"}, r"/v1/messages\x01"),
        ({"line": b"POST /v1/messages HTTP/1.2"}, "/v1/messages"),
        ({"line": b"POST /v1/messages HTTP/2.0"}, "/v1/messages"),
        ({"fields": [b"x-a: 1\x00"]}, "/v1/messages"),
        ({"fields": [b"x-a: 1\rx-b: 2"]}, "/v1/messages"),
        ({"fields": [b"x-a: 1\r\n x-b: 2"]}, "/v1/messages"),
        ({"length": b"transfer-encoding: gzip, chunked\r\n", "body": b"0\r\n\r\n"}, "/v1/messages"),
    ],
)
def test_what_reads_in_two_ways_is_refused_and_recorded(edge, odd, path):
    before = edge.recorded(), edge.fake.connections
    # On the gateway's own port such a path leads nowhere.
    answer = edge.send_inside(request(*odd.pop("fields", ()), **odd))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"x-sluicegate-reason: invalid_request" in answer
    row = edge.calls(before[0] + 1)[-1]
    assert (row["virtual_key_id"], row["status"], row["path"]) == (VK, 400, path)
    assert edge.journal()[-1]["id"] == row["id"]
    assert edge.fake.connections == before[1]
    # The record used to be one that no database takes, and nothing was written any more until the next start.
    assert edge.post().status == 200
    edge.calls(before[0] + 2)


@pytest.mark.parametrize(
    "odd",
    [
        {"host": b"Host: api.anthropic.com\r\n"},
        {"host": b"Host: API.Anthropic.COM.:80\r\n"},
        {"host": b"", "line": b"POST /v1/messages HTTP/1.0"},
        {"line": b"POST http://api.anthropic.com/v1/messages HTTP/1.1", "host": b"Host: api.anthropic.com:80\r\n"},
    ],
)
def test_a_provider_is_sent_a_path_and_its_own_name_once(edge, odd):
    version = odd.get("line", b"HTTP/1.1")[-8:]
    absolute = odd | {"line": b"POST http://api.anthropic.com/v1/messages " + version}
    for answer in (edge.send_inside(request(**odd)), edge.send_raw(request(**absolute))):
        assert answer.startswith(b"HTTP/1.1 200 ")
        seen = edge.fake.seen[-1]
        assert seen.lines[0].startswith(b"POST /v1/messages HTTP/1.")
        assert [v for n, v in seen.headers if n.lower() == "host"] == [f"127.0.0.1:{edge.fake.port}"]


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (b"", b"no Host header"),
        (b"Host: a\r\nHost: b\r\n", b"'host' twice"),
        (b"Host: api.anthropic.com\r\nhost: api.anthropic.com\r\n", b"'host' twice"),
        (b"Host: a:\xc2\xb2\r\n", b"not a host and port"),
        (b"Host: a:" + b"9" * 5000 + b"\r\n", b"not a host and port"),
    ],
)
def test_a_request_names_one_host(edge, host, said):
    """Two used to be forwarded as one: the gateway's own."""
    before = edge.fake.connections
    for answer in (
        edge.send_inside(request(host=host)),
        edge.send_raw(request(line=b"POST http://api.anthropic.com/v1/messages HTTP/1.1", host=host)),
    ):
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert said in answer
    assert edge.fake.connections == before


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"GET /health HTTP/1.0", b'{"status":"ok"'),
        (b"HEAD /ready HTTP/1.0", b" 200 "),
        (b"GET /health HTTP/1.1", b" 400 "),
        (b"GET /api/config HTTP/1.0", b" 400 "),
        (b"POST /v1/messages HTTP/1.0", b" 400 "),
    ],
)
def test_a_probe_in_http_1_0_need_not_name_a_host(edge, line, answer):
    """As load balancers ask; nothing else is answered without one."""
    got = edge.send_raw(line + b"\r\nconnection: close\r\n\r\n")
    assert answer in got.replace(b'": "', b'":"')


def test_trailers_are_left_out_both_ways(edge):
    body = ask()
    chunks = b"%x\r\n%s\r\n0\r\nx-api-key: %s\r\n\r\n" % (len(body), body, VK.encode())

    def script(peer, _):
        peer.head(200, "content-type: application/json", "transfer-encoding: chunked")
        peer.chunk(b"{}")
        peer.send(b"0\r\nx-trailer: 1\r\n\r\n")

    edge.fake.script, stock = script, edge.fake.script
    answer = edge.send_raw(request(length=b"transfer-encoding: chunked\r\n", body=chunks))
    edge.fake.script = stock
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"2\r\n{}\r\n0\r\n\r\n")
    assert edge.fake.seen[-1].body == body
    assert not [x for x in edge.output if "has crashed" in x or "Traceback" in x]


def test_trailers_of_http2_are_left_out(edge):
    """Over them mitmproxy used to give the connection up, and quote them."""
    assert http2(edge, ask(), trailers=((b"x-api-key", b"sk-sg-in-a-trailer"),)) == 200
    assert edge.fake.seen[-1].body == ask()
    assert not [x for x in edge.output if "has crashed" in x or "Traceback" in x or "sk-sg-in-a-trailer" in x]


def test_what_is_refused_before_anybody_is_named_leaves_no_record(edge):
    """Else a stranger could fill the disk."""
    blocked = request(host=b"Host: api.anthropic.com\r\n").replace(VK.encode(), b"sk-nobody")
    for _ in range(3):
        assert b"x-sluicegate-reason: blocked_by_policy" in edge.send_raw(blocked)
    assert edge.post(x_claude_code_session_id="after").status == 200
    eventually(lambda: [r for r in edge.rows() if r["session_id"] == "after"])
    assert not [r for r in edge.rows() if r["virtual_key_id"] is None]


def test_a_tunnel_that_names_a_provider_inside_is_refused_in_words(edge):
    """Named in the Host only, with a target of its own: neither a tunnel any more nor a call."""
    with edge.raw() as conn:
        conn.sendall(b"CONNECT example.invalid:80 HTTP/1.1\r\nHost: x\r\n\r\n")
        receive(conn, b"\r\n\r\n")
        conn.sendall(request(line=b"POST http://127.0.0.1:1/v1/messages HTTP/1.1", host=b"Host: api.anthropic.com\r\n"))
        answer = receive(conn)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"x-sluicegate-reason: blocked_by_policy" in answer


def resident(gw):
    """Megabytes of memory the gateway holds."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{gw.process.pid}/status").read_text())[1]) >> 10


def pour(conn, data, times):
    """Send data again and again until nobody takes it any more; how often it was taken."""
    conn.settimeout(60)
    for count in range(times):
        try:
            conn.sendall(data)
        except OSError:
            return count
    return times


@pytest.mark.parametrize("data", [b"x" * (1 << 16), b"a: b\r\n" * 10_000, b"\x00" * (1 << 16)])
def test_headers_without_end_are_refused_and_take_no_memory(edge, data):
    before = resident(edge)
    with edge.raw() as conn:
        conn.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nx-a: ")
        assert pour(conn, data[:-1] + b"\n", 5000) < 5000
    assert resident(edge) < before + 40
    answer = edge.send_raw(b"GET / HTTP/1.1\r\nx-a: " + b"x" * (1 << 19))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
    assert edge.post().status == 200


def test_who_sends_on_while_the_answer_is_on_its_way_is_let_go_and_charged(edge):
    before, held = resident(edge), threading.Event()

    def script(peer, _):
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        peer.chunk(sse(first={"input_tokens": 100})[0])
        held.wait(60)

    edge.fake.script, stock = script, edge.fake.script
    with edge.raw() as conn:
        conn.sendall(request(b"x-claude-code-session-id: pouring", body=ask(stream=True)))
        receive(conn, b"message_start")
        assert pour(conn, b"x" * (1 << 16), 5000) < 5000
    (row,) = eventually(lambda: [r for r in edge.rows() if r["session_id"] == "pouring"])
    held.set()
    edge.fake.script = stock
    assert (row["outcome"], row["input_tokens"]) == ("cancelled", 100)
    assert resident(edge) < before + 40
    assert edge.post().status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"POST /v1/messages HTTP/1.1\r\nx-api-key: sk-sg-half-a-request",
        b"POST /v1/messages HTTP/1.1\r\nx-api-key sk-sg-half-a-request\r\n\r\n",
        b"POST x sk-sg-half-a-request HTTP/1.1\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\ntransfer-encoding: chunked\r\n\r\nsk-sg-half-a-request\r\n",
    ],
)
def test_a_request_that_cannot_be_read_is_not_quoted_in_the_log(edge, data):
    before = len(edge.output)
    with edge.raw() as conn:
        conn.sendall(data)
        port = conn.getsockname()[1]
        receive_until_silence(conn, 0.2)
    eventually(lambda: any(f":{port}" in x and "client disconnect" in x for x in edge.output[before:]))
    assert not [x for x in edge.output if "sk-sg-half-a-request" in x]
    assert [x for x in edge.output[before:] if "bytes, not shown>" in x]


def test_calls_side_by_side_on_one_connection_of_http2_leave_it_whole(edge):
    """An upstream connection forgotten before the news of its end had come took the client's down, once in eight."""
    for _ in range(40):
        assert http2(edge, ask(), streams=3) == {200}
    assert not [x for x in edge.output if "has crashed" in x or "Traceback" in x]


def test_a_body_of_http2_does_not_reach_the_provider_as_the_next_request(edge):
    """It says nothing of its length, and used to be sent to an HTTP/1.1 provider without any: a second, unjudged call."""
    smuggled = b"POST /v1/messages HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"
    before = len(edge.fake.seen)
    assert http2(edge, smuggled, path=b"/api/claude_code/metrics") == 200
    assert http2(edge, ask()) == 200
    assert [(s.target, s.body) for s in edge.fake.seen[before:]] == [
        ("/api/claude_code/metrics", smuggled),
        ("/v1/messages", ask()),
    ]


def test_a_provider_is_told_its_name_where_http2_names_none(edge):
    assert http2(edge, ask(), authority=b"") == 200
    assert edge.fake.seen[-1].header("host") == f"127.0.0.1:{edge.fake.port}"


@pytest.mark.parametrize(
    "odd",
    [
        {"method": b"P OST"},
        {"method": b""},
        {"method": b"\xff"},
        {"method": b"GET /v1/models HTTP/1.1 x"},
        {"path": b"*"},
        {"path": b"v1/messages"},
        {"path": b"/v1/messages HTTP/1.1"},
    ],
)
def test_no_method_and_no_path_writes_the_request_line(edge, odd):
    before = edge.fake.connections
    assert http2(edge, ask(), **odd) in (400, None)
    assert edge.fake.connections == before
