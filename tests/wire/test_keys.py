"""A provider key revoked while the gateway runs: the next call goes out with the next key."""

from __future__ import annotations

import pytest

from support.fake_provider import message, plain
from support.harness import VK, policy_text

pytestmark = pytest.mark.wire


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_key_is_set_aside_and_the_next_one_used(gateway, provider, status):
    revoked: set[str] = set()

    def script(peer, seen):
        if seen.header("x-api-key") in revoked:
            plain(b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}', status)(peer, seen)
        else:
            plain(message())(peer, seen)

    provider.script = script
    keys = [{"name": n, "value": f"env.{n.upper()}"} for n in ("first", "second")]
    policy = policy_text(provider.url, providers={"anthropic": {"base_url": provider.url, "keys": keys}})
    gw = gateway(policy, env={"FIRST": "sk-first-key", "SECOND": "sk-second-key"})
    revoked.add("sk-first-key")
    answers = [gw.post() for _ in range(30)]
    bad = [a for a in answers if a.status != 200]
    assert [a.status for a in bad] == [status] * len(bad)
    assert len(bad) <= 1
    assert all(b"invalid x-api-key" in a.body for a in bad)
    if bad:
        health = {k["name"]: k for k in gw.admin("/health").json["providers"]["anthropic"]["keys"]}
        assert health["first"]["set_aside_until"] is not None
        assert health["second"]["set_aside_until"] is None
        assert b'sluicegate_provider_key_ok{key="first",provider="anthropic"} 0.0' in gw.admin("/metrics").body
        gw.wait_for(f"anthropic answered {status} to provider key first: set aside until")
    revoked.add("sk-second-key")
    # With every key rejected, the provider's own words reach the caller.
    assert {gw.post().status for _ in range(3)} == {status}
    assert "sk-first" not in "\n".join(gw.output)


def test_what_a_key_may_not_do_beside_the_models_says_nothing_of_it(gateway, provider):
    def script(peer, seen):
        plain(b"{}", 401)(peer, seen) if seen.target == "/api/claude_code/settings" else plain(message())(peer, seen)

    provider.script = script
    keys = [{"name": n, "value": f"env.{n.upper()}"} for n in ("first", "second")]
    policy = policy_text(provider.url, providers={"anthropic": {"base_url": provider.url, "keys": keys}})
    gw = gateway(policy, env={"FIRST": "sk-first-key", "SECOND": "sk-second-key"})
    asked = {"x-api-key": VK}
    assert {gw.request("GET", "/api/claude_code/settings", headers=asked).status for _ in range(10)} == {401}
    health = gw.admin("/health").json["providers"]["anthropic"]["keys"]
    assert [k["set_aside_until"] for k in health] == [None, None]


def test_one_caller_of_several_cannot_turn_the_gauge_of_a_key(gateway, provider):
    """A caller can have its own calls rejected on purpose; an operator would be called for it."""
    bad = b'{"type":"error","error":{"type":"permission_error","message":"not with this header"}}'

    def script(peer, seen):
        plain(*((bad, 403) if seen.header("anthropic-beta") else (message(),)))(peer, seen)

    provider.script = script
    gw = gateway(policy_text(provider.url, teams=[], customers=[], users=[], virtual_keys=[{"id": "vk-a"}, {"id": "vk-b"}]))

    def shown() -> tuple[bool, str, str]:
        (key,) = gw.admin("/health").json["providers"]["anthropic"]["keys"]
        (listed,) = gw.admin("/api/providers/anthropic").json["keys"]
        assert listed["set_aside_until"] == key["set_aside_until"]
        lines = dict(
            x.rsplit(" ", 1) for x in gw.admin("/metrics").body.decode().splitlines() if "provider_key" in x and x[0] != "#"
        )
        labels = '{key="key-1",provider="anthropic"}'
        gauges = [lines[f"sluicegate_provider_key_{name}{labels}"] for name in ("ok", "rejected")]
        return key["set_aside_until"] is not None, *gauges

    assert {gw.post(key="vk-a", anthropic_beta="x").status for _ in range(3)} == {403}
    assert shown() == (False, "1.0", "1.0")
    assert gw.post(key="vk-b", anthropic_beta="x").status == 403
    assert shown() == (True, "0.0", "2.0")
    assert gw.post(key="vk-b").status == 200
    assert shown() == (False, "1.0", "0.0")
