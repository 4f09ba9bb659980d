"""One HTTP/2 connection of a client carries many calls at once, while upstream connections come and go under it."""

from __future__ import annotations

import pytest

from support.fake_provider import Peer, Seen, message, plain, streamed
from support.harness import eventually, policy_text
from support.http2_client import many

pytestmark = pytest.mark.wire


def closing(peer: Peer, seen: Seen) -> None:
    """A plain answer, and the connection is over."""
    plain(message(), 200, "connection: close")(peer, seen)
    peer.conn.close()


def test_calls_begin_while_upstream_connections_end(gateway, provider):
    scripts = [closing, streamed(), plain()]

    def script(peer: Peer, seen: Seen) -> None:
        scripts[len(provider.seen) % 3](peer, seen)

    provider.script = script
    gw = gateway(policy_text(provider.url))
    ended = many(gw, 100, 20)
    assert ended["200"] + ended["left"] == 100
    assert len(gw.calls(100)) == 100
    eventually(lambda: gw.rows("SELECT * FROM reservations") == [])
    assert not any("crashed" in line or "Traceback" in line for line in gw.output)
