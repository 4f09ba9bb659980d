"""A tunnel's first message: read whole, however it is cut, and never read in two ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.network.egress.client_hello import (
    Hello,
    HelloError,
    may_be_http,
    may_be_tls,
    read_client_hello,
    read_http_hosts,
)


def extension(kind, content):
    return kind.to_bytes(2) + len(content).to_bytes(2) + content


def server_names(*names, kind=0):
    listed = b"".join(bytes([kind]) + len(name).to_bytes(2) + name for name in names)
    return extension(0, len(listed).to_bytes(2) + listed)


def message(*extensions, tail=b""):
    """Return a ClientHello without its records."""
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    if extensions:
        joined = b"".join(extensions)
        body += len(joined).to_bytes(2) + joined
    body += tail
    return b"\x01" + len(body).to_bytes(3) + body


def records(data, size=1 << 14):
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)


HELLO = message(extension(10, b"\x00\x02\x00\x1d"), server_names(b"API.example.com"), extension(0x0A0A, b""))


@given(st.integers(1, len(HELLO) + 1), st.data())
def test_it_is_read_when_it_is_whole_and_not_before_however_it_is_cut(size, data):
    whole = records(HELLO, size)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert read_client_hello(whole) == Hello("API.example.com", is_encrypted=False)
    assert read_client_hello(whole[:cut]) is None
    assert read_client_hello(whole + b"\x17\x03\x03 more") == Hello("API.example.com", is_encrypted=False)
    assert may_be_tls(whole[: max(cut, 1)])


@pytest.mark.parametrize(
    ("extensions", "hello"),
    [
        ((), Hello(None, False)),
        ((extension(10, b"x"),), Hello(None, False)),
        ((server_names(b"a.b"), extension(0xFE0D, b"\x00" * 9)), Hello("a.b", True)),
        ((extension(0xFE0C, b""),), Hello(None, True)),
        ((extension(0xFFCE, b"x"),), Hello(None, True)),
    ],
)
def test_what_a_hello_says(extensions, hello):
    assert read_client_hello(records(message(*extensions))) == hello


BAD = {
    "two names": message(server_names(b"a.test", b"b.test")),
    "the extension twice": message(server_names(b"a.test"), server_names(b"b.test")),
    "another extension twice": message(extension(10, b""), extension(10, b"")),
    "a name of another type": message(server_names(b"a.test", kind=1)),
    "no name in the list": message(extension(0, b"\x00\x00")),
    "an empty name": message(server_names(b"")),
    "bytes after the list": message(extension(0, b"\x00\x04\x00\x00\x01a" + b"x")),
    "a name beyond its list": message(extension(0, b"\x00\x04\x00\x00\x09a")),
    "not ASCII": message(server_names("ä.test".encode())),
    "bytes after the extensions": message(server_names(b"a.test"), tail=b"x"),
    "an extension beyond the list": message(extension(0, b"")[:-1]),
    "cut fields": b"\x01\x00\x00\x05\x03\x03abc",
    "another message": b"\x02" + HELLO[1:],
}


@pytest.mark.parametrize("data", [*map(records, BAD.values())], ids=BAD)
def test_what_servers_could_read_differently_is_an_error(data):
    with pytest.raises(HelloError):
        read_client_hello(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x15\x03\x01\x00\x02\x01\x00" + records(HELLO),
        b"\x16\x03\x01\x00\x00" + records(HELLO),
        b"\x16\x03\x01\x40\x01" + HELLO,
        b"\x16\x02\x00" + records(HELLO)[3:],
        records(HELLO[:20]) + b"\x14\x03\x03\x00\x01\x01" + records(HELLO[20:]),
        records(b"\x01\x00\x40\x00" + bytes(2000), 1),
    ],
    ids=[
        "an alert first",
        "an empty record",
        "too long a record",
        "another version",
        "another record inside",
        "thousands of records",
    ],
)
def test_records_that_servers_could_read_differently_are_an_error(data):
    assert may_be_tls(data)
    with pytest.raises(HelloError):
        read_client_hello(data)


@given(st.binary(max_size=300))
def test_no_bytes_break_it(data):
    for text in (data, records(message(data[:250])), records(data or b"x")):
        try:
            read_client_hello(text)
        except HelloError:
            assert text
    read_http_hosts(data)
    assert isinstance(may_be_http(data), bool)


@pytest.mark.parametrize(
    ("data", "hosts"),
    [
        (b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", ["a.test"]),
        (b"GET / HTTP/1.1\nHOST:a.test:80\nhost : b.test\n\n", ["a.test:80", "b.test"]),
        (b"\r\n\r\nPOST https://u@a.test/x HTTP/1.1\r\n\r\nbody", ["a.test"]),
        (b"CONNECT a.test:443 HTTP/1.1\r\n\r\n", ["a.test:443"]),
        (b"GET / HTTP/1.0\r\n\r\n", []),
        (b"GET / HTTP/1.1\r\nX: y\rHost: a.test\r\n\r\n", ["a.test"]),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\n", None),
        (b"GE", None),
    ],
)
def test_the_hosts_that_a_request_names(data, hosts):
    assert may_be_http(data)
    assert read_http_hosts(data) == hosts


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n", b"\x00GET", b"ping", b"EHLO x\r\n", b"GETX / ", b"get / HTTP/1.1"])
def test_other_protocols_are_no_http(data):
    assert not may_be_http(data)
