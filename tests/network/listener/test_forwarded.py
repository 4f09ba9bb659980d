"""Who sent a request, by what proxies say of it: nothing that a client claims about itself counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.network.listener.forwarded import client_address, is_trusted

TRUSTED = ("10.0.0.0/8", "127.0.0.1/32", "fd00::/8")
PROXY = "10.0.0.1"
CLAIMS = st.lists(st.one_of(st.text(max_size=80), st.ip_addresses().map(str), st.just("127.0.0.1"), st.just(PROXY)), max_size=5)
OUTSIDE = st.ip_addresses(v=4, network="192.0.2.0/24").map(str) | st.ip_addresses(v=6, network="2001:db8::/32").map(str)


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "wanted"),
    [
        ("192.0.2.1", ["1.1.1.1"], "192.0.2.1"),
        (PROXY, [], PROXY),
        (PROXY, ["192.0.2.1"], "192.0.2.1"),
        (PROXY, ["1.1.1.1, 192.0.2.1"], "192.0.2.1"),
        (PROXY, ["1.1.1.1", "192.0.2.1"], "192.0.2.1"),
        (PROXY, ["192.0.2.1, 10.2.2.2, 10.3.3.3"], "192.0.2.1"),
        (PROXY, ["10.2.2.2"], "10.2.2.2"),
        (PROXY, ["192.0.2.1:4711"], "192.0.2.1"),
        (PROXY, ["[2001:db8::1]:443"], "2001:db8::1"),
        (PROXY, ["[2001:db8::1]"], "2001:db8::1"),
        (PROXY, ["2001:DB8::0001"], "2001:db8::1"),
        (PROXY, ["::ffff:192.0.2.1"], "192.0.2.1"),
        ("::ffff:10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("fd00::1%eth0", ["192.0.2.1"], "192.0.2.1"),
        (PROXY, ["192.0.2.1, unknown"], PROXY),
        (PROXY, ["192.0.2.1, "], PROXY),
        (PROXY, ["192.0.2.1, garbage, 10.9.9.9"], "10.9.9.9"),
        (PROXY, ["192.0.2.1,"], PROXY),
        (PROXY, ["127.1"], PROXY),
        (PROXY, ["x" * 100_000], PROXY),
        ("?", ["192.0.2.1"], "?"),
    ],
)
def test_the_last_address_that_a_trusted_proxy_has_written_counts(peer, forwarded_for, wanted):
    assert client_address(peer, forwarded_for, TRUSTED) == wanted


@given(CLAIMS, OUTSIDE, st.booleans())
def test_what_a_client_claims_changes_nothing(claims, client, is_one_line):
    added = [*claims, client]
    values = [", ".join(added)] if is_one_line else added
    assert client_address(PROXY, values, TRUSTED) == client_address(PROXY, [client], TRUSTED)
    assert client_address(client, values, TRUSTED) == client


@given(CLAIMS)
def test_an_address_is_always_one_that_was_written(claims):
    found = client_address(PROXY, claims, TRUSTED)
    assert found == PROXY or is_trusted(found, ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"))


def test_a_long_row_of_proxies_ends():
    assert client_address(PROXY, [", ".join(["192.0.2.1", *["10.1.1.1"] * 100])], TRUSTED) == "10.1.1.1"
