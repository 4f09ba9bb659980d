"""A gateway in a network that lets machines out through a proxy alone."""

from __future__ import annotations

import pytest

from support.connect_proxy import ConnectProxy
from support.harness import PROVIDER_KEY, VK, policy_text, receive

pytestmark = pytest.mark.wire

HOST = "provider.corp.test"
"""A name that only the proxy knows."""


@pytest.fixture
def proxy(provider):
    made = ConnectProxy({HOST: provider.port, "git.corp.test": provider.port}, credentials="gate:way")
    yield made
    if made.listener.fileno() >= 0:
        made.close()


def policy(provider, **server):
    keys = [{"id": VK, "user_id": "alice"}]
    return policy_text(f"http://{HOST}:{provider.port}", virtual_keys=keys, server=server, egress={"allow": ["git.corp.test"]})


def test_calls_and_tunnels_leave_through_the_proxy_and_not_without_it(gateway, provider, proxy):
    way = {"OUT": f"http://gate:way@127.0.0.1:{proxy.port}"}
    gw = gateway(policy(provider, upstream_proxy="env.OUT"), env=way)
    gw.wait_for(rf"way out +through http://127\.0\.0\.1:{proxy.port} \(server\.upstream_proxy\)")
    assert gw.post().status == 200
    assert proxy.asked == [f"{HOST}:{provider.port}"]
    with gw.raw() as conn:
        conn.sendall(f"CONNECT git.corp.test:{provider.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert receive(conn, b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        conn.sendall(b"GET /nothing HTTP/1.0\r\nHost: git.corp.test\r\n\r\n")
        assert b"HTTP/1." in receive(conn, b"\r\n")
    assert proxy.asked[1:] == [f"git.corp.test:{provider.port}"]
    assert proxy.refused == []
    proxy.close()
    refused = gw.post()
    assert (refused.status, refused.reason) == (502, "provider_unreachable")
    gw.wait_for(rf"the upstream proxy http://127\.0\.0\.1:{proxy.port} cannot be reached")
    said = "\n".join(gw.output)
    assert "gate:way" not in said
    assert PROVIDER_KEY not in said


def test_a_proxy_that_asks_for_credentials_says_so(gateway, provider, proxy):
    gw = gateway(policy(provider), env={"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"})
    assert gw.post().status == 502
    gw.wait_for("refused the way to provider.corp.test:.*407.*put them into its URL")
    assert proxy.asked == []
