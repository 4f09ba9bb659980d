"""Certificate of the port: read again when its files change, and the last pair that fitted stays in use while they do not."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import SSL

from sluicegate import atomic_write
from sluicegate.background import PeriodicThread

logger = logging.getLogger("sluicegate")

CHECK_INTERVAL_S = 0.5
"""Seconds between two looks at the files. Unlike events, a look also notices swapped links, as Kubernetes swaps them."""

HTTP1 = b"http/1.1"


class CertificateError(ValueError):
    """A certificate and key that no client could be served with."""


class PortCertificate:
    """The TLS context of the port, and the thread that keeps it up to date."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read both files. Raises CertificateError."""
        self.files = (certificate, key)
        self._seen = self._fingerprint()
        self.context = read_context(certificate, key)
        """Replaced whole, so connections that have begun keep the one they began with."""
        self._thread = PeriodicThread("sluicegate-certificate", CHECK_INTERVAL_S, self._watch)

    def start(self) -> None:
        """Look at the files from now on, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._thread.stop()

    def refresh(self) -> bool:
        """Read the files again if they have changed; return whether another certificate is in use now."""
        found = self._fingerprint()
        if found == self._seen:
            return False
        # Also where they do not fit: they are reported once, and read again when they change again.
        self._seen = found
        try:
            self.context = read_context(*self.files)
        except CertificateError as e:
            logger.error("The certificate of the port cannot be renewed; the last one stays in use: %s", e)
            return False
        logger.warning("The port shows the certificate that %s holds now", self.files[0])
        return True

    def _watch(self) -> None:
        try:
            self.refresh()
        except Exception:
            logger.exception("The certificate of the port cannot be watched; the last one stays in use")

    def _fingerprint(self) -> tuple[Any, ...]:
        """Return times, sizes and inodes of the files; what cannot be looked at counts as changed once."""
        found: list[Any] = []
        for file in self.files:
            try:
                found.append(atomic_write.fingerprint(file.stat()))
            except OSError as e:
                found.append(type(e).__name__)
        return tuple(found)


def read_context(certificate: Path, key: Path) -> SSL.Context:
    """Return the TLS context for a certificate, with the chain that follows it, and its key. Raises CertificateError."""
    for file, what in ((certificate, "certificate"), (key, "key")):
        try:
            content = file.read_bytes()
        except OSError as e:
            raise CertificateError(f"{file} cannot be read: {e.strerror}") from e
        if what == "certificate":
            try:
                x509.load_pem_x509_certificates(content)
            except ValueError as e:
                raise CertificateError(f"{file} holds no PEM certificate: give the certificate, followed by its chain") from e
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    # Without this OpenSSL would ask for a passphrase on the terminal.
    context.set_passwd_cb(lambda *_: b"")
    try:
        context.use_certificate_chain_file(str(certificate))
    except SSL.Error as e:
        raise CertificateError(f"{certificate} holds a certificate that OpenSSL refuses") from e
    try:
        context.use_privatekey_file(str(key))
    except SSL.Error as e:
        raise CertificateError(f"{key} holds no PEM key without a passphrase, or not the key of {certificate}") from e
    try:
        context.check_privatekey()
    except SSL.Error as e:
        raise CertificateError(f"{key} is not the key of {certificate}") from e
    context.set_alpn_select_callback(_choose_protocol)
    return context


def _choose_protocol(_: SSL.Connection, offered: list[bytes]) -> Any:
    """Return the protocol to speak: a proxy's clients send CONNECT, which mitmproxy reads in HTTP/1.1 alone."""
    return HTTP1 if HTTP1 in offered else SSL.NO_OVERLAPPING_PROTOCOLS
