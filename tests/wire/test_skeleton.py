"""The main road: both ways in, the bytes, the record, the charge at four levels."""

from __future__ import annotations

import threading

import pytest

from support.fake_provider import FakeProvider, plain, sse, streamed
from support.harness import OPUS, PROVIDER_KEY, VK, Gateway, ask, eventually, policy_text, receive

WAYS = ("base_url", "anthropic_prefix", "proxy", "proxy_user")
COST = 100 * 4000 + 50 * 20000
"""Nano-dollars of the fake provider's usual answer: 100 tokens in at $4, 50 out at $20 a million."""

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Return a gateway that was started as a user starts it, and its provider; each way has a key, user, team and customer."""
    month = {"max_limit": 50, "reset_duration": "1M"}
    policy = {
        "customers": [{"id": f"customer-{w}", "budget": month} for w in WAYS],
        "teams": [{"id": f"team-{w}", "customer_id": f"customer-{w}", "budget": month} for w in WAYS],
        "users": [{"id": f"user-{w}", "team_id": f"team-{w}", "budget": month} for w in WAYS],
        "virtual_keys": [{"id": VK}]
        + [{"id": f"vk-{w}", "team_id": f"team-{w}", "user_id": f"user-{w}", "budget": month} for w in WAYS],
    }
    with FakeProvider() as provider:
        running = Gateway(tmp_path_factory.mktemp("shared"), policy_text(provider.url, **policy), forked=False).start()
        yield running, provider
        running.discard()


@pytest.mark.parametrize("way", WAYS)
def test_a_call_is_identified_charged_at_every_level_and_recorded(shared, way):
    gw, provider = shared
    provider.script, key = streamed(), f"vk-{way}"
    provider.seen.clear()
    body = ask(stream=True)
    if way == "base_url":
        reply = gw.post(body, key=key)
    elif way == "anthropic_prefix":
        reply = gw.post(body, key=key, path="/anthropic/v1/messages?beta=true")
    elif way == "proxy":
        reply = gw.proxied(body, key=key)
    else:
        reply = gw.proxied(body, key="anything-at-all", user=key)
    assert (reply.status, reply.body) == (200, b"".join(sse()))
    of_key = f"SELECT * FROM calls WHERE virtual_key_id = '{key}'"
    (row,) = eventually(lambda: gw.rows(of_key))
    assert (row["user_id"], row["team_id"], row["customer_id"]) == (f"user-{way}", f"team-{way}", f"customer-{way}")
    assert (row["model_requested"], row["model_served"], row["outcome"], row["status"]) == (
        OPUS,
        OPUS,
        "completed",
        200,
    )
    assert (row["input_tokens"], row["output_tokens"], row["cost_nano"], row["estimated"]) == (100, 50, COST, 0)
    assert row["cost_usd"] == "0.0014"
    assert gw.journal() == gw.rows()
    levels = (f"virtual_key/{key}", f"user/user-{way}", f"team/team-{way}", f"customer/customer-{way}")
    assert [gw.usage()[f"{x}/usd"]["used_usd"] for x in levels] == ["0.0014"] * 4
    (seen,) = provider.seen
    assert seen.header("x-api-key") == PROVIDER_KEY
    assert seen.target.startswith("/v1/messages")


def test_request_bytes_are_the_clients_but_for_the_excepted_headers_in_order(shared):
    gw, provider = shared
    provider.script = plain()
    body = b'{"model":"claude-opus-5-5",  "messages":[{"role":"system","content":"\\ud83d"}],"x":1.0e2,\n"max_tokens":7}'
    head = (
        "POST /v1/messages?beta=true&x=%2f HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: vk-dev-alice\r\nAnthropic-Beta: a,b\r\n"
        "authorization: Bearer other\r\nx-b: 1\r\nX-A: 2\r\nx-b: 3\r\nx-bf-user-id: alice\r\nX-Sluicegate-X: y\r\nCookie: c=d\r\n"
        f"Accept-Encoding: gzip, br\r\nProxy-Connection: keep-alive\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    gw.send_raw(head.encode() + body)
    seen = provider.seen[-1]
    assert seen.target == "/v1/messages?beta=true&x=%2f"
    assert seen.body == body
    assert [(n, v) for n, v in seen.headers if n not in ("x-api-key",)] == [
        ("Host", f"127.0.0.1:{provider.port}"),
        ("Anthropic-Beta", "a,b"),
        ("x-b", "1"),
        ("X-A", "2"),
        ("x-b", "3"),
        ("Accept-Encoding", "identity"),
        ("Content-Length", str(len(body))),
    ]
    assert seen.header("x-api-key") == PROVIDER_KEY


def test_each_piece_leaves_before_the_next_one_comes(shared):
    """The provider sends a piece only after the client has had the one before: anything held would hang."""
    pieces = sse()
    got: list[bytes] = []
    over = threading.Event()
    gw, provider = shared
    with gw.raw() as client:

        def script(peer, _seen):
            peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
            for piece in pieces:
                peer.chunk(piece)
                got.append(receive(client, piece))
            peer.end()
            over.set()

        provider.script = script
        body = ask(stream=True)
        client.sendall(
            b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nx-api-key: vk-dev-alice\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        assert over.wait(60)
        rest = receive(client, b"0\r\n\r\n")
    assert len(got) == len(pieces)
    assert all(piece in seen for piece, seen in zip(pieces, got, strict=True))
    assert rest.endswith(b"0\r\n\r\n")


FREE = [
    ("POST", "/api/event_logging/v2/batch"),
    ("GET", "/api/claude_code/settings"),
    ("GET", "/v1/models?limit=1000"),
    ("POST", "/v1/messages/count_tokens"),
    ("GET", "/v1/models/claude-opus-5-5"),
]


def test_what_is_free_is_forwarded_with_its_key_recorded_and_free(gateway, provider):
    rate = {"request_max_limit": 0, "request_reset_duration": "1h"}
    gw = gateway(
        policy_text(
            provider.url,
            virtual_keys=[{"id": VK, "budget": {"max_limit": 0, "reset_duration": "1M"}, "rate_limit": rate}],
        )
    )
    provider.script = plain(b'{"input_tokens":3}')
    for count, (method, path) in enumerate(FREE, 1):
        reply = gw.request(method, path, ask() if method == "POST" else None, {"x-api-key": VK})
        assert (reply.status, reply.body) == (200, b'{"input_tokens":3}'), path
        assert provider.seen[-1].header("x-api-key") == PROVIDER_KEY
        row = gw.calls(count)[-1]
        assert (row["cost_nano"], row["outcome"], row["virtual_key_id"]) == (0, "completed", VK), path
    assert gw.post().status == 429


def test_without_a_provider_key_the_gateway_starts_and_answers_503(gateway, provider):
    gw = gateway(policy_text(provider.url), env={"PROVIDER_KEY": ""})
    gw.wait_for("PROVIDER_KEY is not set")
    reply = gw.post()
    assert (reply.status, reply.reason) == (503, "provider_unavailable")
    assert "PROVIDER_KEY" in reply.message
    assert not provider.seen


def test_the_banner_says_what_an_operator_and_a_developer_need(gateway):
    gw = gateway()
    said = "\n".join(gw.output)
    for words in (
        f"http://127.0.0.1:{gw.port}",
        str(gw.policy),
        "revision",
        str(gw.state),
        str(gw.ca),
        "SHA-256",
        "export HTTPS_PROXY",
        "cooperative",
    ):
        assert words in said
    assert gw.token not in said


def test_open_paths_hold_no_secret_and_admin_paths_need_the_token(gateway):
    gw = gateway()
    assert gw.request("GET", "/health").json == {"status": "ok", "same-user": "cooperative"}
    assert gw.request("GET", "/ready").status == 200
    assert gw.request("GET", "/ca.pem").body.startswith(b"-----BEGIN CERTIFICATE-----")
    assert b"HTTPS_PROXY" in gw.request("GET", "/setup").body
    for path in ("/metrics", "/api/usage", "/api/governance/teams"):
        assert gw.request("GET", path).status == 401
        assert gw.request("GET", path, headers={"authorization": "Bearer wrong"}).status == 401
    assert gw.admin("/metrics").status == 200
    detail = gw.admin("/health").json
    assert detail["policy"]["error"] is None
    assert detail["ledger"]["reservations"] == 0
