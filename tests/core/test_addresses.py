"""Addresses: which are the open internet's, in whatever dress they come."""

from __future__ import annotations

import pytest

from sluicegate.addresses import is_address, is_loopback, is_public, matches_any, normalize_host


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "nonsense",
    ],
)
def test_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    ("host", "same"),
    [("API.Anthropic.com.", "api.anthropic.com"), ("[::1]", "::1"), ("::ffff:127.0.0.1", "127.0.0.1"), ("0:0:0:0:0:0:0:1", "::1")],
)
def test_names_are_compared_in_one_spelling(host, same):
    assert normalize_host(host) == same


def test_patterns_and_loopback():
    assert matches_any(["*.example.com"], "a.example.com")
    assert not matches_any(["*.example.com"], "example.com")
    assert is_loopback("127.0.0.2")
    assert not is_loopback("localhost")
    assert is_address("::1")
    assert not is_address("1.2.3")
