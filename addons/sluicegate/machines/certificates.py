"""Certificates on a developer machine: the gateway's, and the authorities that the machine trusts anyway."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sluicegate.machines.shells import MACOS_KEYCHAINS, SYSTEM_BUNDLES
from sluicegate.machines.variables import OWN_CA_VARIABLES

BEGIN = b"-----BEGIN CERTIFICATE-----"

KEYCHAIN_TIMEOUT_S = 30


def fingerprint(path: Path) -> str:
    """Return a PEM certificate's SHA-256 in pairs of hex digits; empty if there is none yet."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return ""
    from cryptography.hazmat.primitives.serialization import Encoding

    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest().hex(":").upper()


def bundle(gateway: bytes, env: Mapping[str, str]) -> bytes:
    """Return the gateway's certificate with the system's authorities, and those that the developer's variables name, in PEM.

    A bundle of ours that the variables name already is left out: it holds an authority of this gateway or another.
    """
    own = [Path(path).expanduser() for name in OWN_CA_VARIABLES if (path := env.get(name)) and "sluicegate" not in path]
    contents = [_system_authorities(), *(_read(path) for path in dict.fromkeys(own)), gateway]
    return b"\n".join(content for content in contents if BEGIN in content)


def _system_authorities() -> bytes:
    """Return the system's certificate authorities in PEM, or certifi's where the system shows none."""
    found = b""
    if sys.platform == "darwin":
        command = ["security", "find-certificate", "-a", "-p", *MACOS_KEYCHAINS]
        found = subprocess.run(command, capture_output=True, timeout=KEYCHAIN_TIMEOUT_S, check=False).stdout
    elif sys.platform == "win32":
        trusted = ssl.create_default_context().get_ca_certs(binary_form=True)
        found = "".join(map(ssl.DER_cert_to_PEM_cert, trusted)).encode()
    if BEGIN in found:
        return found
    for candidate in SYSTEM_BUNDLES:
        if BEGIN in (found := _read(Path(candidate))):
            return found
    import certifi

    return _read(Path(certifi.where()))


def _read(path: Path) -> bytes:
    """Return a file's content, nothing if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
