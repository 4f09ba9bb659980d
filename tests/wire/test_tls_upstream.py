"""A provider behind TLS, as the real ones are: verified, named by its own name, and never without."""

from __future__ import annotations

import pytest

from support.certificates import server_context
from support.fake_provider import FakeProvider, sse, streamed
from support.harness import PROVIDER_KEY, ask, policy_text

pytestmark = pytest.mark.wire


@pytest.fixture
def secure(tmp_path):
    """A provider with a certificate for localhost, and the file that vouches for it."""
    context, pem = server_context(tmp_path)
    with FakeProvider(streamed(), tls=context) as provider:
        yield provider, pem


@pytest.mark.parametrize("way", ["base_url", "proxy"])
def test_calls_reach_a_verified_provider_by_its_own_name(gateway, secure, way):
    provider, pem = secure
    gw = gateway(policy_text(f"https://localhost:{provider.port}"), "--set", f"ssl_verify_upstream_trusted_ca={pem}")
    for _ in range(2):
        reply = (gw.post if way == "base_url" else gw.proxied)(ask(stream=True))
        assert (reply.status, reply.body) == (200, b"".join(sse()))
    assert [r["cost_nano"] for r in gw.calls(2)] == [1_400_000] * 2
    assert provider.seen[0].header("x-api-key") == PROVIDER_KEY
    assert set(provider.sni) == {"localhost"}
    assert provider.seen[0].header("host") == f"localhost:{provider.port}"


def test_a_provider_that_cannot_be_verified_gets_nothing_and_costs_nothing(gateway, secure):
    provider, _ = secure
    gw = gateway(policy_text(f"https://localhost:{provider.port}"))
    reply = gw.proxied()
    assert reply.status == 502
    assert "cannot be reached" in reply.message
    assert not provider.seen
    (row,) = gw.calls(1)
    assert (row["outcome"], row["cost_nano"]) == ("failed", 0)
    gw.stop()
    assert PROVIDER_KEY not in "\n".join(gw.output)
