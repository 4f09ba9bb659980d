"""The policy's section about the gateway's own port: whom it trusts."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sluicegate.policy.server_schema import Server


@pytest.mark.parametrize(
    ("section", "trusts_loopback"),
    [
        ({}, True),
        ({"trust_loopback": False}, False),
        ({"trust_loopback": True}, True),
        ({"trusted_proxies": ["10.0.0.0/8"]}, False),
        ({"trusted_proxies": ["10.0.0.0/8"], "trust_loopback": True}, True),
        ({"trusted_proxies": [], "trust_loopback": None}, True),
    ],
)
def test_the_own_machine_is_trusted_unless_others_come_by_it(section, trusts_loopback):
    server = Server.model_validate(section)
    for address in ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"):
        assert server.trusts(address) is trusts_loopback
    for address in ("10.0.0.1", "192.0.2.1", "?", "", "localhost", "169.254.169.254"):
        assert server.trusts(address) is False


@pytest.mark.parametrize(
    ("written", "means"),
    [("10.0.0.0/8", "10.0.0.0/8"), ("10.1.2.3", "10.1.2.3/32"), ("FD00::/8", "fd00::/8"), ("::1", "::1/128")],
)
def test_networks_are_kept_in_one_spelling(written, means):
    assert Server.model_validate({"trusted_proxies": [written]}).trusted_proxies == (means,)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("10.0.0.1/8", "bits after the prefix are zero"),
        ("10.0.0.0/33", "write a network"),
        ("10.0.0", "write a network"),
        ("proxy.acme.example", "write a network"),
        ("", "write a network"),
        ("0.0.0.0/0", "everybody"),
        ("::/0", "everybody"),
        (10, "string"),
    ],
)
def test_what_is_no_network_of_proxies_is_refused(written, said):
    with pytest.raises(ValidationError, match=said):
        Server.model_validate({"trusted_proxies": [written]})
