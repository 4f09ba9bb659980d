"""PROXY headers, judged by the protocol's own examples and by what may never happen, whatever the bytes."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.network.listener.proxy_protocol import (
    MAX_V1_BYTES,
    MAX_V2_BYTES,
    NONE,
    V2,
    Header,
    HeaderError,
    may_begin,
    read_header,
)

FOUR = st.ip_addresses(v=4)
SIX = st.ip_addresses(v=6).filter(lambda a: a.ipv4_mapped is None)
PORT = st.integers(0, 65535)


def v1(source, destination, port, other):
    return f"PROXY TCP{source.version} {source} {destination} {port} {other}\r\n".encode()


def v2(source, destination, port, other, extension=b"", command=0x21):
    family = 0x11 if source.version == 4 else 0x21
    body = source.packed + destination.packed + struct.pack("!HH", port, other) + extension
    return V2 + struct.pack("!BBH", command, family, len(body)) + body


HEADERS = st.builds(
    lambda write, pair, port, other: (write(*pair, port, other), (str(pair[0]), port)),
    st.sampled_from([v1, v2, lambda *named: v2(*named, extension=b"\x04\x00\x03abc")]),
    st.one_of(st.tuples(FOUR, FOUR), st.tuples(SIX, SIX)),
    PORT,
    PORT,
)


@given(HEADERS, st.binary(max_size=40))
def test_a_header_is_read_to_its_end_and_no_further(written, follows):
    header, source = written
    assert read_header(header + follows) == Header(len(header), source)


@given(HEADERS, st.integers(0, 200))
def test_a_part_of_a_header_is_waited_for(written, cut):
    header, _ = written
    part = header[: cut % len(header)]
    assert may_begin(part)
    assert read_header(part) is None


@given(
    st.one_of(st.binary(max_size=300), st.builds(lambda a, b: a + b, st.sampled_from([b"PROXY ", b"PROXY TCP4 ", V2]), st.binary()))
)
def test_any_bytes_are_a_header_or_none_or_refused(data):
    try:
        header = read_header(data)
    except HeaderError:
        assert may_begin(data)
        return
    if header is None:
        assert len(data) < MAX_V2_BYTES
    else:
        assert header.size_bytes <= len(data)
        assert header.source is None or ipaddress.ip_address(header.source[0])
        # What comes later changes nothing.
        assert read_header(data + b"x") == header


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"POST /", b"PUT", b"PROXY/", b"\x16\x03\x01", b"\r\n\r\nGET", b"proxy TCP4"]
)
def test_what_begins_otherwise_is_no_header(data):
    assert not may_begin(data)
    assert read_header(data) == NONE


@pytest.mark.parametrize(
    ("data", "size_bytes"),
    [
        (b"PROXY UNKNOWN\r\n", 15),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\nGET /", 43),
        (V2 + b"\x20\x00\x00\x00GET", 16),
        (V2 + b"\x20\x11\x00\x0c" + b"\x01" * 12, 28),
        (V2 + b"\x21\x00\x00\x02ab", 18),
        (V2 + b"\x21\x31\x00\xd8" + b"\x00" * 216, 232),
    ],
)
def test_a_proxy_may_name_nobody(data, size_bytes):
    """It checks the gateway's health, or its own client came by what has no address."""
    assert read_header(data) == Header(size_bytes, None)


@pytest.mark.parametrize("write", [v1, v2])
def test_an_ipv4_client_is_the_same_in_ipv6_clothes(write):
    wrapped = ipaddress.ip_address("::ffff:10.1.2.3")
    header = read_header(write(wrapped, wrapped, 1, 2))
    assert header is not None
    assert header.source == ("10.1.2.3", 1)


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4\t1.2.3.4 1 2\r\n",
        b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 localhost 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 +2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 \xb2 2\r\n",
        b"PROXY /v1/messages HTTP/1.1\r\n",
        b"PROXY UNKNOWN" + b"x" * MAX_V1_BYTES,
        V2 + b"\x11\x11\x00\x0c" + b"\x01" * 12,
        V2 + b"\x22\x11\x00\x0c" + b"\x01" * 12,
        V2 + b"\x21\x12\x00\x0c" + b"\x01" * 12,
        V2 + b"\x21\x41\x00\x0c" + b"\x01" * 12,
        V2 + b"\x21\x11\x00\x0b" + b"\x01" * 11,
        V2 + b"\x21\x21\x00\x0c" + b"\x01" * 12,
        V2 + b"\x21\x11\xff\xff",
    ],
)
def test_what_readers_could_read_in_two_ways_is_refused(data):
    with pytest.raises(HeaderError):
        read_header(data)
