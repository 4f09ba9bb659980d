"""One HTTP/2 connection of a client carries many calls at once, while upstream connections come and go under it."""

from __future__ import annotations

import json
import threading

import pytest

from support import http2_client
from support.fake_provider import Peer, Seen, held, message, plain, sse, streamed
from support.harness import PROVIDER, VK, Gateway, ask, eventually, policy_text, receive

pytestmark = pytest.mark.wire


def closing(peer: Peer, seen: Seen) -> None:
    """A plain answer, and the connection is over."""
    plain(message(), 200, "connection: close")(peer, seen)
    peer.conn.close()


def unfinished(peer: Peer, seen: Seen) -> None:
    """The beginning of a streamed answer, and nothing more until its client has left."""
    peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
    peer.chunk(sse()[0])
    receive(peer.conn)


def test_calls_begin_while_upstream_connections_end(gateway, provider):
    # With a pause, so that some clients have a part of an answer when they leave.
    scripts = [closing, streamed(pause=0.01), plain()]

    def script(peer: Peer, seen: Seen) -> None:
        if seen.target == http2_client.LEFT_PATH:
            unfinished(peer, seen)
        else:
            scripts[len(provider.seen) % 3](peer, seen)

    provider.script = script
    gw = gateway(policy_text(provider.url))
    assert http2_client.many(gw, 100, 20) == {"200": 80, "left": 20}
    assert len(gw.calls(100)) == 100
    eventually(lambda: gw.rows("SELECT * FROM reservations") == [])
    assert not any("crashed" in line or "Traceback" in line for line in gw.output)


def test_a_call_that_is_cancelled_on_a_connection_that_stays_is_recorded_as_such(gateway, provider):
    """HTTP/2 clients such as Codex reset the one stream and keep the connection."""
    go = threading.Event()
    provider.script = held(go)
    gw = gateway(policy_text(provider.url))
    tls, h2 = http2_client.connect(gw)
    with tls:
        http2_client.leave_once_answered(tls, h2)
        left = eventually(lambda: gw.rows("SELECT * FROM calls"))
        assert [(r["outcome"], r["status"], r["cost_nano"] > 0) for r in left] == [("cancelled", 200, True)]
        go.set()
        provider.script = plain()
        assert http2_client.ask_again(tls, h2) == "200"
    eventually(lambda: gw.rows("SELECT * FROM reservations") == [])


# -- what mitmproxy itself answers reaches every client as JSON ----------------------------------------------------------

DEAD = "http://127.0.0.1:9"
OPENAI = {"openai": {"base_url": "http://127.0.0.1:11", "keys": [{"name": "key-2", "value": "env.PROVIDER_KEY"}]}}


@pytest.fixture(scope="module")
def dead(tmp_path_factory):
    """A gateway whose providers cannot be reached."""
    providers = {"anthropic": {"base_url": DEAD, "keys": [{"name": "key-1", "value": "env.PROVIDER_KEY"}]}, **OPENAI}
    with Gateway(tmp_path_factory.mktemp("dead"), policy_text(DEAD, providers=providers)) as gw:
        yield gw


@pytest.mark.parametrize("over", ["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize(
    ("host", "path", "top"),
    [(PROVIDER, "/v1/messages", {"type", "error"}), ("api.openai.com", "/v1/chat/completions", {"error"})],
)
def test_a_provider_that_cannot_be_reached_is_told_as_json(dead, over, host, path, top):
    body = ask(model="gpt-5") if host != PROVIDER else ask()
    reply = dead.proxied(body, path=path, host=host) if over == "HTTP/1.1" else http2_client.post(dead, body, path, host)
    assert (reply.status, reply.reason) == (502, "provider_unreachable")
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-should-retry"] == "false"
    assert set(reply.json) == top
    assert reply.message.startswith("The provider cannot be reached: ")


def test_a_head_to_a_provider_that_cannot_be_reached_is_answered_without_a_body(dead):
    reply = http2_client.post(dead, b"", "/api/hello", method="HEAD")
    assert (reply.status, reply.reason, reply.body) == (502, "provider_unreachable", b"")


def test_an_invited_body_does_not_cost_the_client_the_answer(dead):
    """The "100 Continue" was taken for the answer, and the connection was closed without a word."""
    body = ask()
    head = f"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {VK}\r\nexpect: 100-continue\r\n"
    with dead.raw() as conn:
        conn.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode())
        assert receive(conn, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        conn.sendall(body)
        answer = receive(conn)
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"\r\nx-sluicegate-reason: provider_unreachable\r\n" in answer


@pytest.mark.parametrize("over", ["HTTP/1.1", "HTTP/2"])
def test_a_body_that_says_it_is_too_large_is_refused_as_json(dead, over):
    size = str(65 << 20)
    if over == "HTTP/1.1":
        reply = dead.proxied(b"{", content_length=size)
    else:
        reply = http2_client.post(dead, b"{" * 20_000, headers=(("content-length", size),))
    assert (reply.status, reply.reason) == (413, "invalid_request")
    assert (reply.headers["content-type"], reply.headers["x-should-retry"]) == ("application/json", "false")
    assert reply.message.startswith("The request is too large: ")


def test_a_head_that_cannot_be_parsed_is_refused_as_json(dead):
    head, _, body = dead.send_raw(b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1, 2\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"\r\ncontent-type: application/json\r\n" in head
    assert json.loads(body)["error"]["message"].startswith("The request failed: ")
