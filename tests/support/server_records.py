"""Records of a TLS 1.3 server, made from its secret: also those that its library sends only when it likes to."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

CIPHER, HASH, KEY_BYTES, IV_BYTES = "TLS_AES_256_GCM_SHA384", hashes.SHA384, 32, 12
ALERT, HANDSHAKE, DATA = 21, 22, 23
"""What a record holds."""

CLOSE_NOTIFY, INTERNAL_ERROR = b"\x01\x00", b"\x02\x50"
"""Alerts: that nothing more will come, and that something has failed."""

TICKET = b"\x04" + (20).to_bytes(3) + (7200).to_bytes(4) + b"abcd" + b"\x01n" + b"\x00\x06ticket" + b"\x00\x00"
"""A message that allows the client to resume its session, with a ticket that nobody takes."""

NOT_A_RECORD = b"\x17\x03\x03\x00\x20" + b"x" * 32
"""A record that no key fits."""


class ServerRecords:
    """Encrypts as a server does whose connection has been established, and has sent so many records since."""

    def __init__(self, context: ssl.SSLContext, connection: ssl.SSLObject) -> None:
        cipher = connection.cipher()
        assert cipher is not None
        assert cipher[0] == CIPHER
        lines = Path(context.keylog_filename or "").read_text().splitlines()
        self.use(bytes.fromhex(next(line for line in reversed(lines) if line.startswith("SERVER_TRAFFIC_SECRET_0")).split()[2]))
        self.sent = context.num_tickets

    def use(self, secret: bytes) -> None:
        """Encrypt by the keys of this secret from the next record on."""
        self.secret, self.sent = secret, 0
        self.cipher, self.iv = AESGCM(expand(secret, "key", KEY_BYTES)), int.from_bytes(expand(secret, "iv", IV_BYTES))

    def record(self, kind: int, data: bytes, padding: int = 0) -> bytes:
        """Return a record with this data, followed by so many bytes without a meaning."""
        inner = data + bytes([kind]) + bytes(padding)
        head = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2)
        nonce = (self.iv ^ self.sent).to_bytes(IV_BYTES)
        self.sent += 1
        return head + self.cipher.encrypt(nonce, inner, head)

    def change_keys(self, *, asks: bool) -> bytes:
        """Return the record that announces new keys, and asks for the same of the client or does not."""
        record = self.record(HANDSHAKE, b"\x18\x00\x00\x01" + bytes([asks]))
        self.use(expand(self.secret, "traffic upd", HASH.digest_size))
        return record

    def odd(self, what: str) -> bytes:
        """Return a record without data: a ``ticket``, new ``keys``, the same ``keys, asking``, or ``nothing``; or none for ``""``."""
        if what.startswith("keys"):
            return self.change_keys(asks=what.endswith("asking"))
        if what == "ticket":
            return self.record(HANDSHAKE, TICKET)
        return self.record(DATA, b"", padding=5) if what == "nothing" else b""


def expand(secret: bytes, label: str, length: int) -> bytes:
    """Return what TLS 1.3 derives from a secret under this label."""
    name = f"tls13 {label}".encode()
    return HKDFExpand(HASH(), length, length.to_bytes(2) + bytes([len(name)]) + name + b"\x00").derive(secret)
