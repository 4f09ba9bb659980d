"""The main road: both ways in, the bytes, the record, the charge at four levels."""

from __future__ import annotations

import threading

import pytest

from support.fake_provider import plain, sse, streamed
from support.harness import OPUS, PROVIDER_KEY, VK, ask, policy_text, receive

LEVELS = ("virtual_key/vk-dev-alice", "user/alice", "team/team-engineering", "customer/customer-acme")
COST = 100 * 4000 + 50 * 20000
"""Nano-dollars of the fake provider's usual answer: 100 tokens in at $4, 50 out at $20 a million."""

pytestmark = pytest.mark.wire


@pytest.mark.parametrize("way", ["base_url", "anthropic_prefix", "proxy", "proxy_user"])
def test_a_call_is_identified_charged_at_every_level_and_recorded(gateway, provider, way):
    provider.script = streamed()
    gw = gateway(policy_text(provider.url), forked=False)
    body = ask(stream=True)
    if way == "base_url":
        reply = gw.post(body)
    elif way == "anthropic_prefix":
        reply = gw.post(body, path="/anthropic/v1/messages?beta=true")
    elif way == "proxy":
        reply = gw.proxied(body)
    else:
        reply = gw.proxied(body, key="anything-at-all", user=VK)
    assert (reply.status, reply.body) == (200, b"".join(sse()))
    (row,) = gw.calls(1)
    assert row["virtual_key_id"] == VK
    assert (row["user_id"], row["team_id"], row["customer_id"]) == ("alice", "team-engineering", "customer-acme")
    assert (row["model_requested"], row["model_served"], row["outcome"], row["status"]) == (
        OPUS,
        OPUS,
        "completed",
        200,
    )
    assert (row["input_tokens"], row["output_tokens"], row["cost_nano"], row["estimated"]) == (100, 50, COST, 0)
    assert row["cost_usd"] == "0.0014"
    assert gw.journal() == gw.rows()
    assert [gw.usage()[f"{x}/usd"]["used_usd"] for x in LEVELS] == ["0.0014"] * 4
    assert provider.seen[0].header("x-api-key") == PROVIDER_KEY
    assert provider.seen[0].target.startswith("/v1/messages")


def test_request_bytes_are_the_clients_but_for_the_excepted_headers_in_order(gateway, provider):
    gw = gateway(policy_text(provider.url), forked=False)
    body = b'{"model":"claude-opus-5-5",  "messages":[{"role":"system","content":"\\ud83d"}],"x":1.0e2,\n"max_tokens":7}'
    head = (
        "POST /v1/messages?beta=true&x=%2f HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: vk-dev-alice\r\nAnthropic-Beta: a,b\r\n"
        "authorization: Bearer other\r\nx-b: 1\r\nX-A: 2\r\nx-b: 3\r\nx-bf-user-id: alice\r\nX-Sluicegate-X: y\r\nCookie: c=d\r\n"
        f"Accept-Encoding: gzip, br\r\nProxy-Connection: keep-alive\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    gw.send_raw(head.encode() + body)
    seen = provider.seen[0]
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


def test_each_piece_leaves_before_the_next_one_comes(gateway, provider):
    """The provider sends a piece only after the client has had the one before: anything held would hang."""
    pieces = sse()
    got: list[bytes] = []
    over = threading.Event()
    with gateway(policy_text(provider.url), forked=False).raw() as client:

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


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/event_logging/v2/batch"),
        ("GET", "/api/claude_code/settings"),
        ("GET", "/v1/models?limit=1000"),
        ("POST", "/v1/messages/count_tokens"),
        ("GET", "/v1/models/claude-opus-5-5"),
    ],
)
def test_what_is_free_is_forwarded_with_its_key_recorded_and_free(gateway, provider, method, path):
    poor = [
        {
            "id": VK,
            "budget": {"max_limit": 0, "reset_duration": "1M"},
            "rate_limit": {"request_max_limit": 0, "request_reset_duration": "1h"},
        }
    ]
    gw = gateway(policy_text(provider.url, virtual_keys=poor))
    provider.script = plain(b'{"input_tokens":3}')
    reply = gw.request(method, path, ask() if method == "POST" else None, {"x-api-key": VK})
    assert (reply.status, reply.body) == (200, b'{"input_tokens":3}')
    assert provider.seen[0].header("x-api-key") == PROVIDER_KEY
    (row,) = gw.calls(1)
    assert (row["cost_nano"], row["outcome"], row["virtual_key_id"]) == (0, "completed", VK)
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
