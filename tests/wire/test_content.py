"""The content of calls, kept where policy says so: as it was said, without touching the stream, for who may see the call."""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
import threading

import pytest

from sluicegate.calls.limit_checks import describe
from sluicegate.storage.content_store import zstd
from support.fake_provider import message, plain, sse, streamed
from support.harness import OPUS, PROVIDER_KEY, VK, ask, eventually, policy_text, receive

pytestmark = pytest.mark.wire


def logged(gw, number=0):
    """The newest call but ``number``, as the API shows it."""
    call_id = gw.admin("/api/logs?limit=5").json["logs"][number]["id"]
    return gw.admin(f"/api/logs/{call_id}").json


def test_a_stream_is_kept_as_it_came_and_leaves_as_it_came(gateway, provider):
    """The provider sends a piece only after the client has had the one before: anything held would hang."""
    pieces = sse("Grüße")
    over = threading.Event()
    gw = gateway(policy_text(provider.url, content="full"))
    got: list[bytes] = []
    with gw.raw() as client:

        def script(peer, _seen):
            peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
            for piece in pieces:
                peer.chunk(piece)
                got.append(receive(client, piece))
            peer.end()
            over.set()

        provider.script = script
        body = ask("What is in main.py?", stream=True)
        client.sendall(
            b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nx-api-key: vk-dev-alice\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        assert over.wait(60)
        receive(client, b"0\r\n\r\n")
    assert all(piece in seen for piece, seen in zip(pieces, got, strict=True))
    kept = logged(gw)
    assert kept["content"] == {
        "request": body.decode(),
        "request_encoding": "utf-8",
        "request_truncated": False,
        "response": b"".join(pieces).decode(),
        "response_encoding": "utf-8",
        "response_truncated": False,
    }
    (row,) = gw.rows()
    assert {n: v for n, v in kept.items() if n not in ("content", "adjustments")} == row | {"limits": describe(row["limits"])}


def test_nothing_is_kept_unless_policy_says_so_and_edits_count_at_once(gateway, provider):
    keys = [{"id": VK}, {"id": "vk-kept", "content": "full"}]
    gw = gateway(policy_text(provider.url, virtual_keys=keys))
    gw.post()
    assert logged(gw)["content"] is None
    assert not (gw.state / "content.db").exists()
    gw.post(key="vk-kept")
    assert logged(gw)["content"]["response"] == message().decode()
    gw.govern(policy_text(provider.url, virtual_keys=[{"id": VK}, {"id": "vk-kept", "content": "off"}]))
    eventually(lambda: gw.post(key="vk-kept") and logged(gw)["content"] is None)
    assert logged(gw)["content"] is None


def test_refused_calls_keep_what_was_asked(gateway, provider):
    poor = [{"id": VK, "content": "full", "budget": {"max_limit": 0, "reset_duration": "1M"}}]
    gw = gateway(policy_text(provider.url, virtual_keys=poor))
    assert gw.post(ask("a secret plan")).reason == "budget_exceeded"
    kept = logged(gw)
    assert kept["reason"] == "budget_exceeded"
    assert "a secret plan" in kept["content"]["request"]
    assert "Budget exceeded" in kept["content"]["response"]
    assert gw.post(b"no json").reason == "invalid_request"
    assert logged(gw)["content"]["request"] == "no json"
    assert gw.post(ask("z" * 1_000_000)).reason == "budget_exceeded"
    kept = logged(gw)["content"]
    # Whoever has nothing left could fill the disk otherwise, for nothing.
    assert (len(kept["request"]), kept["request_truncated"], kept["response_truncated"]) == (64 << 10, True, False)
    assert gw.post(ask("who?"), key="stranger").status == 401
    gw.stop()
    assert b"who?" not in (gw.state / "content.db").read_bytes()
    assert len(gw.rows()) == 3


def test_what_was_cut_off_is_kept_as_far_as_it_came(gateway, provider):
    gw = gateway(policy_text(provider.url, content="full"))
    for how in ("provider", "client"):

        def script(peer, _seen):
            peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
            for piece in sse()[:3]:
                peer.chunk(piece)
            if how == "provider":  # noqa: B023
                peer.reset()
            else:
                receive(peer.conn)

        provider.script = script
        body = ask(stream=True)
        with gw.raw() as client:
            client.sendall(
                b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: vk-dev-alice\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            receive(client, sse()[2] if how == "client" else None)
    first, second = (r["outcome"] for r in gw.calls(2))
    assert (first, second) == ("failed", "cancelled")
    for number in (0, 1):
        assert logged(gw, number)["content"]["response"] == b"".join(sse()[:3]).decode()


def test_compressed_and_binary_bodies(gateway, provider):
    gw = gateway(policy_text(provider.url, content="full"))
    provider.script = plain(gzip.compress(b'{"data":[]}'), 200, "content-encoding: gzip")
    reply = gw.request("GET", "/v1/models", headers={"x-api-key": VK, "accept-encoding": "gzip"})
    assert gzip.decompress(reply.body) == b'{"data":[]}'
    kept = logged(gw)["content"]
    assert (kept["request"], kept["response"]) == ("", '{"data":[]}')
    provider.script = plain(b"\xff\x00\x01", 200)
    gw.request("GET", "/v1/models/1", headers={"x-api-key": VK})
    kept = logged(gw)["content"]
    assert (kept["response_encoding"], kept["response"]) == ("base64", "/wAB")


def test_a_body_beyond_the_measure_is_cut_and_marked(gateway, provider):
    gw = gateway(policy_text(provider.url, content="full"))
    provider.script = streamed([*sse()[:3], *(b": " + b"x" * 1_000_000 + b"\n\n" for _ in range(9)), *sse()[3:]])
    reply = gw.post(json.dumps({"model": OPUS, "stream": True, "messages": [], "x": "ü" * 5_000_000}, ensure_ascii=False).encode())
    assert len(reply.body) > 9_000_000
    kept = logged(gw)["content"]
    assert (kept["request_encoding"], kept["request_truncated"]) == ("utf-8", True)
    assert (8 << 20) - 1 <= len(kept["request"].encode()) <= 8 << 20
    assert (len(kept["response"]), kept["response_truncated"]) == (8 << 20, True)
    assert gw.calls(1)[0]["output_tokens"] == 50


def test_content_is_for_who_may_see_the_call_and_holds_no_credential(gateway, provider):
    secret = "sk-sg-the-virtual-key"
    keys = [
        {"id": "vk-hashed", "value_hash": "sha256:" + hashlib.sha256(secret.encode()).hexdigest()},
        {"id": "vk-other"},
    ]
    gw = gateway(policy_text(provider.url, virtual_keys=keys, content="full"))
    provider.script = streamed()
    gw.post(ask("mine", stream=True), key=secret, cookie="c=secret-cookie")
    provider.script = plain()
    gw.post(key="vk-other")
    call_id = gw.calls(2)[0]["id"]
    own = gw.request("GET", f"/api/logs/{call_id}", headers={"x-bf-vk": secret})
    assert "mine" in own.json["content"]["request"]
    assert gw.request("GET", f"/api/logs/{call_id}", headers={"x-bf-vk": "vk-other"}).status == 404
    assert gw.request("GET", f"/api/logs/{call_id}").status == 401
    assert "content" not in gw.admin("/api/logs").json["logs"][0]
    gw.stop()
    with sqlite3.connect(gw.state / "content.db") as conn:
        rows = conn.execute("SELECT * FROM content").fetchall()
    conn.close()
    said = b"".join(zstd.decompress(x) if isinstance(x, bytes) else str(x).encode() for row in rows for x in row)
    assert len(rows) == 2
    for forbidden in (secret, PROVIDER_KEY, "secret-cookie", gw.token):
        assert forbidden.encode() not in said
    assert all(f.stat().st_mode & 0o077 == 0 for f in gw.state.iterdir())


def test_content_is_forgotten_when_its_time_is_over_and_its_record_is_not(gateway, provider):
    gw = gateway(policy_text(provider.url, content="full", content_retention="1s"))
    gw.post()
    (row,) = gw.calls(1)
    eventually(lambda: gw.admin(f"/api/logs/{row['id']}").json["content"] is None)
    assert gw.admin(f"/api/logs/{row['id']}").json["cost_nano"] == row["cost_nano"]


def test_a_full_disk_for_content_stops_no_call_and_is_told(gateway, provider):
    gw = gateway(policy_text(provider.url, content="full"))
    (gw.state / "content.db").mkdir()
    assert gw.post().status == 200
    told = eventually(lambda: gw.admin("/health").json["content"]["error"])
    assert gw.admin("/health").json["content"]["dropped"] == 1
    assert "directory" in told.lower()
    gw.wait_for("content of calls cannot be kept")
    assert sum("content of calls cannot be kept" in line for line in gw.output) == 1
