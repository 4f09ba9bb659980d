"""Certificates of tests: of a server for localhost that vouches for itself, and of the authority that gateways are given."""

from __future__ import annotations

import datetime
import ssl
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate for localhost, and the same followed by its key."""
    made, secret = self_signed("localhost", (x509.SubjectAlternativeName([x509.DNSName("localhost")]), False))
    public, both = folder / "server.pem", folder / "server-with-key.pem"
    public.write_bytes(made)
    both.write_bytes(made + secret)
    return public, both


@cache
def authority() -> dict[str, bytes]:
    """Return the files of a CA folder of mitmproxy's, by name, with one key for all gateways of this process.

    The key is on an elliptic curve: an RSA key, as mitmproxy makes one for itself, is checked whenever it is read, which
    takes a third of a gateway's start.
    """
    usage = {name: name in ("key_cert_sign", "crl_sign") for name in KEY_USAGES}
    made, secret = self_signed("mitmproxy", (x509.KeyUsage(**usage), True))
    return {"mitmproxy-ca.pem": secret + made, "mitmproxy-ca-cert.pem": made}


KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def self_signed(common_name: str, *extensions: tuple[x509.ExtensionType, bool]) -> tuple[bytes, bytes]:
    """Return a certificate that may sign others and its key, both as PEM; an extension is given with whether it is critical."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), secret


def server_context(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Return a server's TLS context with such a certificate, and the file by which clients trust it."""
    public, both = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, public
