"""Kept streams given again at their pace by a real gateway: while the call lasts, and where client or gateway end before it."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
from base64 import b64decode, b64encode

import msgspec
import pytest
from h2.errors import ErrorCodes
from h2.events import DataReceived

from sluicegate.caching.pacing import PieceTimes
from support import http2_client
from support.fake_provider import FakeProvider, sse, streamed
from support.harness import Gateway, ask, eventually, policy_text

pytestmark = pytest.mark.wire

VK = "vk-alice-1"
HOUR_S = 3600.0
FIRST, SIZE = len(sse()[0]), sum(map(len, sse()))
"""Bytes of the first event of the provider's answer, and of the whole."""


def policy(url: str, *, is_active: bool = True, pacing: str = "natural") -> str:
    limit = {"max_concurrent": 1, "request_max_limit": 100, "request_reset_duration": "1d"}
    return policy_text(
        url,
        cache={"exact": {"enabled": True, "pacing": pacing}},
        virtual_keys=[{"id": VK, "is_active": is_active, "rate_limit": limit}, {"id": "vk-other"}],
    )


def slow_down(gw: Gateway) -> None:
    """Give each kept answer, while the gateway is not there, a pace with a pause after its first event."""
    with sqlite3.connect(gw.state / "cache.db") as conn:
        for number, head in conn.execute("SELECT number, head FROM answers").fetchall():
            told = json.loads(head)
            # What the gateway has noted covers the whole answer.
            assert sum(msgspec.msgpack.decode(b64decode(told[4]))[1::2]) == SIZE
            times = PieceTimes(0.0)
            times.note(0.0, FIRST)
            # As long as any pause may be; four of them.
            for n in range(1, 5):
                times.note(n * HOUR_S, SIZE - 4 + n)
            slow = json.dumps([*told[:4], b64encode(times.packed()).decode()])
            conn.execute("UPDATE answers SET head = ? WHERE number = ?", (slow, number))
    conn.close()


def begin(gw: Gateway, words: str) -> tuple[socket.socket, bytes]:
    """Make a streamed call, and return its connection and what came of the answer before its first pause."""
    conn, body = socket.create_connection(("127.0.0.1", gw.port), 60), ask(words, stream=True)
    head = f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1:{gw.port}\r\nx-api-key: {VK}\r\nconnection: close\r\n"
    conn.sendall(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    seen = b""
    while b"message_start" not in seen:
        seen += conn.recv(65536)
    return conn, seen


def rest(conn: socket.socket) -> bytes:
    found = b""
    try:
        while more := conn.recv(65536):
            found += more
    except ConnectionResetError:
        pass
    conn.close()
    return found


def test_a_call_lasts_as_long_as_its_answer_and_ends_as_any_stream_does(tmp_path):
    provider = FakeProvider(streamed())
    with provider as upstream, Gateway(tmp_path, policy(upstream.url)) as gw:
        for words in ("left", "reset", "killed", "stopped", "whole"):
            assert gw.post(ask(words, stream=True), VK).headers["x-sluicegate-cache"] == "miss"
        gw.stop()
        slow_down(gw)
        gw.start()

        # It counts under its limits until its client leaves; others are served meanwhile.
        conn, _ = begin(gw, "left")
        assert gw.post(ask("whole"), VK).reason == "concurrency_limited"
        assert gw.post(ask("other", stream=True), "vk-other").status == 200
        conn.close()
        # In one piece it has no pace.
        whole = eventually(lambda: (found := gw.post(ask("whole"), VK)).status == 200 and found)
        assert whole.headers["x-sluicegate-cache"] == "hit"
        tls, h2 = http2_client.connect(gw)
        h2.send_headers(1, http2_client.request_headers(key=VK))
        h2.send_data(1, ask("reset", stream=True), end_stream=True)
        tls.sendall(h2.data_to_send())
        while not any(isinstance(event, DataReceived) for event in h2.receive_data(tls.recv(65536))):
            tls.sendall(h2.data_to_send())
        h2.reset_stream(1, ErrorCodes.CANCEL)
        tls.sendall(h2.data_to_send())
        left = "SELECT response_bytes, cost_nano, cache FROM calls WHERE outcome = 'cancelled' ORDER BY rowid"
        ended = eventually(lambda: len(found := gw.rows(left)) == 2 and found)
        assert ended == [{"response_bytes": FIRST, "cost_nano": 0, "cache": "hit"}] * 2
        tls.close()

        # What a killed gateway had begun to give is cut, and costs nothing.
        conn, _ = begin(gw, "killed")
        gw.stop(signal.SIGKILL)
        assert b"message_stop" not in rest(conn)
        gw.start()

        # A key that is revoked meanwhile gets the rest of this answer and no other; all of that at once when the gateway stops.
        conn, seen = begin(gw, "stopped")
        gw.govern(policy(upstream.url, is_active=False))
        eventually(lambda: gw.post(ask("stopped", stream=True), VK).status == 401)
        gw.process.send_signal(signal.SIGTERM)
        body = (seen + rest(conn)).partition(b"\r\n\r\n")[2]
        assert body == b"".join(sse())
        assert gw.exit_code() == 0
        assert len(provider.seen) == 6
        assert [row["outcome"] for row in gw.rows("SELECT outcome FROM calls WHERE cache = 'hit' ORDER BY rowid")][
            -1
        ] == "completed"
        assert sum(row["cost_nano"] for row in gw.rows("SELECT cost_nano FROM calls WHERE cache = 'hit'")) == 0
