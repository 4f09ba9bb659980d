"""Routed calls on the wire: clients on HTTP/2, a provider that cannot be verified, trailers, and a reload between attempts."""

from __future__ import annotations

import pytest

from support import http2_client
from support.certificates import server_context
from support.fake_provider import FakeProvider, message, plain, sse, streamed
from support.harness import Gateway, ask, eventually, policy_text

pytestmark = pytest.mark.wire

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
OVERLOADED = plain(b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', 529)


@pytest.fixture(scope="module")
def upstreams(tmp_path_factory):
    """Two providers, and one behind TLS whose authority nobody trusts."""
    context, _ = server_context(tmp_path_factory.mktemp("tls"))
    with FakeProvider() as first, FakeProvider() as second, FakeProvider(tls=context) as secure:
        yield {"anthropic": first, "second": second, "secure": secure}


def policy_of(upstreams, *names):
    urls = {n: fake.url if n != "secure" else f"https://localhost:{fake.port}" for n, fake in upstreams.items()}
    providers = {
        n: {"base_url": urls[n], "keys": [{"name": "k", "value": f"sk-real-{n}"}]}
        | ({} if n == "anthropic" else {"protocol": "anthropic"})
        for n in names
    }
    routes = [
        {"name": n, "when": {"model": f"{model}*"}, "targets": [{"provider": n}, {"provider": "second", "weight": 0}]}
        for n, model in (("anthropic", HAIKU), ("secure", SONNET))
        if {n, "second"} <= set(names)
    ]
    return policy_text(providers=providers, routes=routes)


@pytest.fixture(scope="module")
def edge(tmp_path_factory, upstreams):
    with Gateway(tmp_path_factory.mktemp("relay"), policy_of(upstreams, *upstreams)) as gw:
        yield gw


@pytest.fixture(autouse=True)
def fresh(upstreams):
    for fake in upstreams.values():
        fake.seen.clear()
        fake.script = plain(message(HAIKU))


def recorded(edge, session):
    """The record of the call that was made under this session."""
    return eventually(lambda: [r for r in edge.rows() if r["session_id"] == session])[0]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_client_on_http2_gets_the_answer_of_the_next_target(edge, upstreams, stream):
    upstreams["anthropic"].script = OVERLOADED
    upstreams["second"].script = streamed(sse(model=HAIKU)) if stream else plain(message(HAIKU))
    session = (("x-claude-code-session-id", f"h2-{stream}"),)
    reply = http2_client.post(edge, ask(model=f"{HAIKU}-2{stream:d}", stream=stream), headers=session)
    assert (reply.status, reply.body) == (200, b"".join(sse(model=HAIKU)) if stream else message(HAIKU))
    assert reply.headers["x-sluicegate-route"] == f"second/{HAIKU}-2{stream:d}; attempt=2"
    row = recorded(edge, f"h2-{stream}")
    assert (row["provider"], row["outcome"], row["output_tokens"]) == ("second", "completed", 50)


def test_a_provider_that_cannot_be_verified_gets_nothing_and_the_next_one_answers(edge, upstreams):
    reply = edge.post(ask(model=SONNET), x_claude_code_session_id="tls")
    assert (reply.status, reply.headers["x-sluicegate-route"]) == (200, f"second/{SONNET}; attempt=2")
    assert not upstreams["secure"].seen
    attempts = recorded(edge, "tls")["attempts"]
    assert '"connect"' in attempts
    assert "its certificate is not trusted" in attempts


def test_trailers_of_an_answer_neither_reach_the_client_nor_harm_the_next_call(edge, upstreams):
    def trailing(peer, _):
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked", "trailer: x-checksum")
        for piece in sse(model=HAIKU):
            peer.chunk(piece)
        peer.send(b"0\r\nx-checksum: abc\r\nx-api-key: sk-other\r\n\r\n")

    upstreams["anthropic"].script = trailing
    for number in range(2):
        reply = edge.post(ask(model=f"{HAIKU}-3", stream=True), x_claude_code_session_id=f"trailers-{number}")
        assert (reply.status, reply.body) == (200, b"".join(sse(model=HAIKU)))
        assert "trailer" not in reply.headers
        assert recorded(edge, f"trailers-{number}")["output_tokens"] == 50
    with edge.raw() as conn:
        body = ask(model=f"{HAIKU}-3", stream=True)
        head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: vk-dev-alice\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        conn.sendall(head.encode() + body)
        answer = b""
        while got := conn.recv(65536):
            answer += got
    assert b"message_stop" in answer
    assert b"x-checksum" not in answer.lower()
    assert b"sk-other" not in answer


def test_a_reload_between_attempts_leaves_a_call_with_the_policy_that_it_began_with(edge, upstreams):
    """Even where the new policy has neither its route nor the provider that is tried next; the next call goes by the new one."""

    def revision():
        return edge.admin("/health").json["policy"]["revision"]

    before = revision()

    def reloading(peer, seen):
        edge.govern(policy_of(upstreams, "anthropic"))
        eventually(lambda: revision() != before)
        OVERLOADED(peer, seen)

    upstreams["anthropic"].script = reloading
    try:
        reply = edge.post(ask(model=f"{HAIKU}-4"), x_claude_code_session_id="reload")
        assert (reply.status, reply.headers["x-sluicegate-route"]) == (200, f"second/{HAIKU}-4; attempt=2")
        assert upstreams["second"].seen[0].header("x-api-key") == "sk-real-second"
        row = recorded(edge, "reload")
        assert (row["policy_revision"], row["outcome"], row["provider"]) == (before, "completed", "second")
        upstreams["anthropic"].script = OVERLOADED
        assert edge.post(ask(model=f"{HAIKU}-4")).status == 529
    finally:
        edge.govern(policy_of(upstreams, *upstreams))
        eventually(lambda: revision() == before)
