"""TLS records by OpenSSL's own functions, against pyOpenSSL's and mitmproxy's layer on the same connections."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.proxy import commands
from mitmproxy.proxy.layers.tls import TLSLayer
from OpenSSL import SSL

from runtime.streams import tls_records
from runtime.streams.tls_records import MAX_RECORD_BYTES, Decryption, encryption
from support.certificates import server_context
from support.server_records import NOT_A_RECORD

Pair = tuple[SSL.Connection, SSL.Connection]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    server_context(folder)
    return str(folder / "server-with-key.pem")


@pytest.fixture
def pair(files) -> Pair:
    """Return the ends of an established connection, the client's first."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate_file(files)
    context.use_privatekey_file(files)
    client, server = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD)), SSL.Connection(context)
    client.set_connect_state()
    server.set_accept_state()
    for end, other in ((client, server), (server, client), (client, server), (server, client)):
        try:
            end.do_handshake()
        except SSL.WantReadError:
            pass
        if sent := everything(end):
            other.bio_write(sent)
    with pytest.raises(SSL.WantReadError):
        client.recv(1)
    return client, server


def everything(end: SSL.Connection) -> bytes:
    sent = b""
    while True:
        try:
            sent += end.bio_read(65535)
        except SSL.WantReadError:
            return sent


def layer_of(end: SSL.Connection) -> Any:
    """Return a layer of mitmproxy's of which only what sends is used."""
    layer = TLSLayer.__new__(TLSLayer)
    layer.tls = end
    layer.conn = SimpleNamespace()  # type: ignore[assignment]
    layer.debug = None
    return layer


def errors() -> int:
    """Return the number of the first error that OpenSSL has noted for this thread; 0 if there is none."""
    return SSL._lib.ERR_peek_error()  # type: ignore[attr-defined, no-any-return, unused-ignore]


def test_records_are_shown_one_by_one_and_stay_until_they_are_read(pair):
    client, server = pair
    reading = Decryption(client)
    server.send(b"a" * MAX_RECORD_BYTES)
    server.send(b"bc")
    reading.put(everything(server))
    assert reading.peek() == reading.peek() == b"a" * MAX_RECORD_BYTES
    reading.skip(MAX_RECORD_BYTES)
    assert reading.peek() == b"bc"
    reading.skip(1)
    assert client.recv(10) == b"c"
    assert reading.peek() == b""
    assert reading.waits()
    assert reading.answer() == b""


def test_half_a_record_is_waited_for(pair):
    client, server = pair
    reading = Decryption(client)
    server.send(b"abc")
    sent = everything(server)
    for at in range(len(sent) - 1):
        reading.put(sent[at : at + 1])
        assert reading.peek() == b""
        assert reading.waits()
    reading.put(sent[-1:])
    assert reading.peek() == b"abc"


@pytest.mark.parametrize("ending", ["close", "no record"])
def test_an_end_or_an_error_is_left_to_the_layer_and_to_no_other_connection(pair, ending):
    client, server = pair
    reading = Decryption(client)
    server.shutdown()
    reading.put(NOT_A_RECORD if ending == "no record" else everything(server))
    assert reading.peek() == b""
    assert not reading.waits()
    assert errors() == 0
    with pytest.raises(SSL.ZeroReturnError if ending == "close" else SSL.Error):
        client.recv(1)
    # What tells the other end of the error.
    assert bool(reading.answer()) == (ending == "no record")


@pytest.mark.parametrize("length", [1, MAX_RECORD_BYTES, MAX_RECORD_BYTES + 1, 5 * MAX_RECORD_BYTES])
@pytest.mark.parametrize("unsent", [0, 200_000])
def test_all_that_is_to_be_sent_is_returned(pair, length, unsent):
    client, server = pair
    encrypt = encryption(layer_of(client))
    client.sendall(b"b" * unsent)
    server.bio_write(encrypt(b"a" * length))
    assert everything(client) == b""
    received = b""
    while len(received) < unsent + length:
        received += server.recv(65535)
    assert received == b"b" * unsent + b"a" * length


def test_what_cannot_be_sent_any_more_is_treated_as_the_layer_does(pair):
    client, _ = pair
    encrypt = encryption(layer_of(client))
    client.shutdown()
    outcomes = []
    for send in (lambda: b"".join(command.data for command in layer_of(client).send_data(b"a")), lambda: encrypt(b"a")):
        try:
            outcomes.append(send())
        except SSL.Error as e:
            outcomes.append(str(e))
        assert errors() == 0
        everything(client)
    assert outcomes[1] in (outcomes[0], b"")


def test_a_layer_that_sends_in_a_way_of_its_own_is_asked(pair):
    class Own(TLSLayer):
        def send_data(self, data: bytes) -> Any:
            yield commands.SendData(self.conn, b"own " + data)

    layer = layer_of(pair[0])
    layer.__class__ = Own
    assert encryption(layer)(b"a") == b"own a"


@pytest.mark.parametrize("name", ["SSL_peek", "ERR_clear_error", "SSL_ERROR_WANT_READ"])
def test_a_missing_name_is_said(monkeypatch, name):
    assert tls_records.lacking() is None
    known = {each: getattr(tls_records._lib, each) for each in dir(tls_records._lib) if each != name}
    monkeypatch.setattr(tls_records, "_lib", SimpleNamespace(**known))
    assert tls_records.lacking() == f"OpenSSL.SSL._lib.{name}"
