"""Certificates of authorities: making one with its key, and what people compare it by."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_FOR = timedelta(days=3650)

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

BACKDATED = timedelta(days=2)
"""For clients whose clocks are behind."""


def make_authority(now: datetime) -> tuple[bytes, bytes]:
    """Return a new authority's key and certificate, both as PEM.

    The key is on an elliptic curve (P-256): servers' certificates carry it too, and each handshake signs with it. Each
    authority has a name of its own, so that a client that trusts two does not try the wrong one.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"sluicegate CA {now:%Y-%m-%d} {identifier.digest.hex()[:8]}"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "sluicegate"),
        ]
    )
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return secret, certificate.public_bytes(serialization.Encoding.PEM)


def certificates_in(pem: bytes) -> bytes:
    """Return the certificates of a PEM file, without what else is in it."""
    return b"".join(found + b"\n" for found in _CERTIFICATE.findall(pem))


def is_key(pem: bytes, certificate: x509.Certificate | None = None) -> bool:
    """Return whether a PEM file has a private key, of this certificate if one is given."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except TypeError:
        # It has a password, which mitmproxy's option cert_passphrase names.
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return certificate is None or key.public_key() == certificate.public_key()


def fingerprint(certificate: x509.Certificate) -> str:
    """Return a certificate's SHA-256 in pairs of hex digits."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest().hex(":").upper()


def moment(ms: int) -> datetime:
    """Return epoch milliseconds as a date with its time zone."""
    return datetime.fromtimestamp(ms / 1000, UTC)
