"""Addresses: one spelling for every host, and which are the open internet's, in whatever notation they come."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.addresses import (
    is_address,
    is_host,
    is_loopback,
    is_public,
    matches_any,
    normalize_host,
    refusal_of_server,
)

SPELLINGS = {
    "127.0.0.1": [
        *("127.1", "127.0.1", "2130706433", "0x7f000001", "0X7F000001", "017700000001", "0177.0.0.1", "0x7f.0.0.1", "0x7f.1"),
        *("127.0x0.0.01", "0000000000000177.0.0.1", "127.0.0.1.", "127.0.0.1...", " 127.0.0.1 ", "::ffff:127.0.0.1"),
        *("[::ffff:127.0.0.1]", "::FFFF:7F00:1", "0:0:0:0:0:ffff:7f00:0001", "::127.0.0.1", "[::7f00:1]", "64:ff9b::7f00:1"),
        *("64:ff9b::127.0.0.1", "2002:7f00:1::", "2002:7f00:0001:abcd::5", "[::ffff:127.0.0.1%lo]", "::ffff:127.0.0.1%25eth0"),
        *("１２７.0.0.1", "１２７。０。０。１", "127．0．0．1", "127｡0｡0｡1", "①②⑦.⓪.⓪.①", "１２７．１", "２１３０７０６４３３"),
    ],
    "::1": ["[::1]", "0:0:0:0:0:0:0:1", "0000::0001", "::1%lo", "[::1%25lo]", "::0.0.0.1"],
    "::": ["[::]", "0:0::0", "::0.0.0.0"],
    "0.0.0.0": ["0", "0x0", "00", "0.0", "0.0.0.0.", "::ffff:0:0"],
    "169.254.169.254": [
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[::ffff:a9fe:a9fe]",
        "64:ff9b::a9fe:a9fe",
    ],
    "1.1.1.1": ["1.1.257", "1.65793", "16843009", "0x01010101", "::ffff:101:101", "64:ff9b::101:101", "2002:101:101::"],
    "255.255.255.255": ["4294967295", "0xffffffff", "037777777777"],
    "api.anthropic.com": [
        *("API.Anthropic.COM", "api.anthropic.com.", "api.anthropic.com..", "\tapi.anthropic.com\n", "ＡＰＩ.anthropic.com"),
        *("api。anthropic。com", "api．anthropic｡com", "ⓐⓟⓘ.anthropic.com", "api\u00ad.anthropic.com", "api.anthropic.ｃｏｍ．"),
    ],
    "localhost": ["LocalHost", "localhost.", "ｌｏｃａｌｈｏｓｔ", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ"],
    "xn--bcher-kva.example": ["bücher.example", "BÜCHER.example", "XN--bcher-kva.example"],
}


@pytest.mark.parametrize(("host", "spelling"), [(host, s) for host, some in SPELLINGS.items() for s in (host, *some)])
def test_every_spelling_of_a_host_is_compared_as_one(host, spelling):
    assert (normalize_host(spelling), is_host(spelling)) == (host, True)


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "a..b", ".a", "-a.b", "a-.b", "a b", "a/b", "a@b", "a\x00b", "a_b\n.c", "a" * 64, ".".join(["abc"] * 70)),
        *("127.0.0.1.5", "256.1.1.1", "1.256.1.1", "1.2.65536", "4294967296", "0x100000000", "08.1.1.1", "1.2.3.09", "0x", "1.0x"),
        *("a.1", "example.0x7f", "0xg.1", "1.2.3.4.0x5", "9" * 50, "[127.0.0.1]", "[localhost]", "[]", "[::1", "::1]", "1::2::3"),
        *(
            "%31%32%37.0.0.1",
            "127%2e0.0.1",
            "api%2Eanthropic%2Ecom",
            "localhost%00",
            "127.0.0.1%lo",
            "::g",
            "12345::",
            "::ffff:127.1",
        ),
        *(
            "::ffff:0177.0.0.1",
            "xn--api-",
            "xn--127-",
            "xn--",
            "xn--\x7f",
            "xn--99999999999",
            "٣.0.0.1",
            "faß.example",
            "a\u200db.example",
        ),
    ],
)
def test_what_readers_would_read_in_two_ways_is_no_host(text):
    assert not is_host(text)
    assert refusal_of_server(text) is not None


@pytest.mark.parametrize(
    "host", ["xn--strae-oqa.example", "xn--i-7iq.ws", "_dmarc.example", "a_b.example", "1.example", "0x7f.example", "x"]
)
def test_unusual_names_are_hosts(host):
    assert (normalize_host(host), is_host(host)) == (host, True)


@given(
    st.integers(0, (1 << 32) - 1),
    st.lists(st.sampled_from(["{}", "0x{:x}", "0{:o}", "0X{:X}", "000{:o}"]), min_size=4, max_size=4),
    st.integers(1, 4),
)
def test_every_notation_of_an_ipv4_address_is_that_address(number, notations, count):
    """Any mix of decimal, octal and hexadecimal, in one to four parts."""
    parts = [(number >> (24 - 8 * i)) & 0xFF for i in range(count - 1)] + [number & ((1 << (8 * (5 - count))) - 1)]
    text = ".".join(notation.format(part) for notation, part in zip(notations, parts, strict=False))
    assert normalize_host(text) == str(ipaddress.IPv4Address(number))


@given(st.integers(0, (1 << 32) - 1), st.sampled_from(["::ffff:{}", "[::FFFF:{}]", "64:ff9b::{}", "[::ffff:{}%eth0]"]))
def test_an_address_inside_another_is_as_public_as_itself(number, notation):
    plain = str(ipaddress.IPv4Address(number))
    wrapped = normalize_host(notation.format(plain))
    assert wrapped == plain
    assert is_public(notation.format(plain).strip("[]")) == is_public(plain)


@given(st.text(max_size=80))
def test_no_text_breaks_it_and_what_is_returned_is_its_own_spelling(text):
    once = normalize_host(text)
    if is_host(text):
        assert (normalize_host(once), is_host(once)) == (once, True)
        assert once.isascii()


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "169.254.170.2"),
        *("100.64.0.1", "100.100.100.200", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
        *("192.0.2.1", "192.0.0.192", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "168.63.129.16"),
        *(
            "::1",
            "::",
            "::2",
            "fe80::1",
            "fe80::1%eth0",
            "fec0::1",
            "feff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "ff02::1",
        ),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::10.0.0.1", "::ffff:0:10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1.1.1.1"),
        *("64:ff9b:1:abcd::a00:1", "2002:7f00:1::", "2002:a00:1::", "2001:0:53aa:64c::1", "2001:2::1", "2001:db8::1", "3fff::1"),
        *("100::1", "200::1", "400::1", "4000::1", "5f00::1", "8000::1", "e000::1", "nonsense", "", "1" * 100),
    ],
)
def test_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "93.184.216.34", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "168.63.129.17", "223.255.255.255"),
        *("2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450::1", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"),
    ],
)
def test_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    ("host", "is_refused"),
    [
        *(
            (x, True)
            for x in ("169.254.169.254", "2852039166", "[fe80::1]", "::ffff:169.254.0.1", "168.63.129.16", "fd00:ec2::254")
        ),
        *(
            (x, True)
            for x in ("0.0.0.0", "0", "::", "224.0.0.1", "255.255.255.255", "fec0::1", "ff02::1", "100.100.100.200", "0.0.0.1")
        ),
        *((x, False) for x in ("127.0.0.1", "127.1", "10.1.2.3", "[::1]", "fd12::1", "api.anthropic.com", "llm.corp", "localhost")),
    ],
)
def test_a_server_may_be_private_but_neither_metadata_nor_nowhere(host, is_refused):
    assert (refusal_of_server(host) is not None) == is_refused


def test_patterns_and_loopback():
    assert matches_any(["*.example.com"], "a.example.com")
    assert not matches_any(["*.example.com"], "example.com")
    assert is_loopback("127.0.0.2")
    assert is_loopback("::ffff:127.0.0.2")
    assert not is_loopback("localhost")
    assert is_address("::1")
    assert not is_address("1.2.3")
