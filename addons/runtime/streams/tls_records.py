"""TLS records: a piece of an answer is decrypted and encrypted by OpenSSL's own functions, in one call each.

pyOpenSSL makes a buffer of 16 to 64 KB for each call, looks for errors after each, and says by an exception that nothing is left,
which is how every read of a record ends. Here a result says so, in one buffer for all. Whatever else OpenSSL says
(the end of TLS, an alert, a record that is no one's) is left to mitmproxy's layer, which asks again and gets the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mitmproxy.proxy.layers.tls import TLSLayer
from OpenSSL import SSL

_lib: Any = getattr(SSL, "_lib", None)
_ffi: Any = getattr(SSL, "_ffi", None)

MAX_RECORD_BYTES = 16 << 10
"""Bytes that a record of TLS carries at most."""

BUFFER_BYTES = 64 << 10

_buffer: Any = None if _ffi is None else _ffi.new("char[]", BUFFER_BYTES)
"""Where OpenSSL writes to. One for all: only mitmproxy's loop calls it here, and takes out at once what is in it."""
_view: Any = None if _ffi is None else _ffi.buffer(_buffer)


class Decryption:
    """Decrypts what comes on a TLS connection, record by record. What is not read stays in the connection."""

    __slots__ = ("incoming", "outgoing", "result", "ssl")

    def __init__(self, connection: SSL.Connection) -> None:
        known: Any = connection
        self.ssl, self.incoming, self.outgoing = known._ssl, known._into_ssl, known._from_ssl
        self.result = 0

    def put(self, data: bytes) -> None:
        """Take what has come. Raises MemoryError if OpenSSL has no room for it."""
        if _lib.BIO_write(self.incoming, data, len(data)) != len(data):
            raise MemoryError("OpenSSL did not take what had come")

    def peek(self) -> bytes:
        """Return the record that is next, and leave it there; nothing if no record has come whole, or there will be none."""
        self.result = length = _lib.SSL_peek(self.ssl, _buffer, MAX_RECORD_BYTES)
        return _view[:length] if length > 0 else b""

    def skip(self, length: int) -> None:
        """Read so much of the record that ``peek`` has returned. Raises RuntimeError if it is not there."""
        if _lib.SSL_read(self.ssl, _buffer, length) != length:
            raise RuntimeError("OpenSSL did not give what it had shown")

    def waits(self) -> bool:
        """Return whether ``peek`` has returned nothing because more has to come, and not because of an end or an error."""
        if _lib.SSL_get_error(self.ssl, self.result) == _lib.SSL_ERROR_WANT_READ:
            return True
        # Its errors are the thread's: another connection would take them for its own.
        _lib.ERR_clear_error()
        return False

    def answer(self) -> bytes:
        """Return what TLS itself has to send; hardly ever anything, as after a change of the keys."""
        return _drain(self.outgoing)


def encryption(layer: Any) -> Callable[[bytes], bytes]:
    """Return what encrypts by the TLS of a layer of mitmproxy's, as its ``send_data`` does."""
    known = layer.tls
    ssl, outgoing = known._ssl, known._from_ssl

    def encrypt(data: bytes) -> bytes:
        written = _lib.SSL_write(ssl, data, len(data))
        if written == len(data):
            return _drain(outgoing)
        if written < 0:
            _lib.ERR_clear_error()
            written = 0
        # More than one record, or an error, which comes again.
        return _by_layer(layer, data[written:])

    return encrypt if type(layer).send_data is TLSLayer.send_data else lambda data: _by_layer(layer, data)


def _by_layer(layer: Any, data: bytes) -> bytes:
    return b"".join([command.data for command in layer.send_data(data)])


def _drain(outgoing: Any) -> bytes:
    """Return all that OpenSSL has to send."""
    length = _lib.BIO_read(outgoing, _buffer, BUFFER_BYTES)
    if length < BUFFER_BYTES:
        return _view[:length] if length > 0 else b""
    sent = [_view[:length]]
    while (length := _lib.BIO_read(outgoing, _buffer, BUFFER_BYTES)) > 0:
        sent.append(_view[:length])
    return b"".join(sent)


def lacking() -> str | None:
    """Return which name of pyOpenSSL or mitmproxy that is used here is missing; None if they are all there."""
    functions = ("SSL_peek", "SSL_read", "SSL_write", "SSL_get_error", "BIO_read", "BIO_write", "ERR_clear_error")
    for name in (*functions, "SSL_ERROR_WANT_READ"):
        if not hasattr(_lib, name):
            return f"OpenSSL.SSL._lib.{name}"
    if _view is None:
        return "OpenSSL.SSL._ffi"
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD))
    for name in ("_ssl", "_into_ssl", "_from_ssl"):
        if getattr(connection, name, None) is None:
            return f"OpenSSL.SSL.Connection.{name}"
    return None if hasattr(TLSLayer, "send_data") else "TLSLayer.send_data"
