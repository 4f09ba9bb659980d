"""Answers in one piece say what they cost in their headers; streams, errors and what is long pass as before."""

from __future__ import annotations

import socket
import threading

import orjson
import pytest

from runtime.streams.held_answers import MAX_HELD_BYTES
from sluicegate.values import usd
from support.fake_provider import FakeProvider, message, plain, streamed
from support.harness import VK, Gateway, ask, policy_text, receive

pytestmark = pytest.mark.wire

COST = "x-sluicegate-cost-usd"
DIRECT, RELAYED = "claude-opus-5-5", "claude-haiku-4-5"

ROUTES = [{"name": "twice", "when": {"model": RELAYED}, "targets": [{"provider": "anthropic"}], "retry": {"attempts": 2}}]


@pytest.fixture(scope="module")
def gw(tmp_path_factory):
    with FakeProvider() as fake, Gateway(tmp_path_factory.mktemp("cost"), policy_text(fake.url, routes=ROUTES)) as gateway:
        gateway.fake = fake
        yield gateway


def call(gw, script, model=DIRECT, **fields):
    """Make one call; return its answer and its record."""
    before = gw.recorded()
    gw.fake.script = script
    reply = gw.post(ask(model=model, **fields))
    return reply, gw.calls(before + 1)[-1]


def in_pieces(body, *headers):
    """Send an answer without a length, a byte in the first piece."""
    head = ["content-type: application/json", "transfer-encoding: chunked", *headers]

    def script(peer, _seen):
        peer.head(200, *head)
        for piece in (body[:1], body[1:5], body[5:]):
            peer.chunk(piece)
        peer.end()

    return script


ANSWER = message(input_tokens=11, output_tokens=13)


@pytest.mark.parametrize("model", [DIRECT, RELAYED])
@pytest.mark.parametrize("script", [plain(ANSWER), in_pieces(ANSWER)], ids=["with a length", "in pieces"])
def test_an_answer_in_one_piece_says_what_the_call_was_charged(gw, model, script):
    reply, row = call(gw, script, model)
    assert (reply.status, reply.body) == (200, ANSWER)
    assert reply.headers[COST] == usd(row["cost_nano"])
    assert row["cost_nano"] > 0
    assert row["ttft_ms"] is not None
    assert row["response_bytes"] == len(ANSWER)


@pytest.mark.parametrize("model", [DIRECT, RELAYED])
def test_streams_and_errors_say_no_cost(gw, model):
    for script, fields in ((streamed(), {"stream": True}), (plain(b'{"type":"error"}', 400), {}), (streamed(), {})):
        reply, _ = call(gw, script, model, **fields)
        assert COST not in reply.headers


def test_a_long_answer_passes_as_it_arrives(gw):
    """The provider sends the rest only once the client has had the beginning."""
    body = orjson.loads(ANSWER)
    body["content"] = [{"type": "text", "text": "x" * (2 * MAX_HELD_BYTES)}]
    long, seen = orjson.dumps(body), threading.Event()
    half = MAX_HELD_BYTES + 1000

    def script(peer, _seen):
        peer.head(200, "content-type: application/json", f"content-length: {len(long)}")
        peer.send(long[:half])
        assert seen.wait(60)
        peer.send(long[half:])

    gw.fake.script, before = script, gw.recorded()
    asked = ask(model=DIRECT)
    with gw.raw() as client:
        head = f"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nx-api-key: {VK}\r\nContent-Length: {len(asked)}\r\n\r\n"
        client.sendall(head.encode() + asked)
        got = receive(client, b"x" * 1000)
        seen.set()
        while len(got) < len(long):
            got += client.recv(1 << 20)
        assert got.endswith(long)
        assert COST.encode() not in got[:2000].lower()
    row = gw.calls(before + 1)[-1]
    assert (row["output_tokens"], row["response_bytes"]) == (13, len(long))


def test_an_answer_that_breaks_off_before_it_is_whole_is_an_error_in_words_and_charged(gw):
    def script(peer, _seen):
        peer.head(200, "content-type: application/json", f"content-length: {len(ANSWER)}")
        peer.send(ANSWER[:-5])
        peer.conn.shutdown(socket.SHUT_RDWR)

    reply, row = call(gw, script)
    assert (reply.status, row["outcome"]) == (502, "failed")
    assert b"provider" in reply.body.lower()
    assert row["cost_nano"] > 0
    assert row["response_bytes"] == len(ANSWER) - 5


CLAUDE_CODE = {"user_agent": "claude-cli/2.1.332 (external, cli)"}
ACCOUNT_S_OWN = ("anthropic-ratelimit-unified-status: rejected", "anthropic-ratelimit-unified-5h-utilization: 0.9")


@pytest.mark.parametrize("model", [DIRECT, RELAYED])
@pytest.mark.parametrize("how", [plain, streamed], ids=["in one piece", "streamed"])
def test_claude_code_learns_of_its_own_budget_and_nothing_of_the_account(gw, model, how):
    script = plain(ANSWER, 200, *ACCOUNT_S_OWN) if how is plain else streamed(None, *ACCOUNT_S_OWN)
    gw.fake.script = script
    replies = [gw.post(ask(model=model, stream=how is streamed), **headers) for headers in (CLAUDE_CODE, {})]
    own = {n.rpartition("unified-")[2]: v for n, v in replies[0].headers.items() if n.startswith("anthropic-ratelimit")}
    assert int(own.pop("reset")) == int(own.pop("overage-reset"))
    expected = {"status": "allowed", "overage-status": "allowed", "representative-claim": "overage", "overage-utilization": "0.00"}
    assert own == expected
    assert not [name for name in replies[1].headers if name.startswith("anthropic-ratelimit")]
    assert replies[0].body == replies[1].body
