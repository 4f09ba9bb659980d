"""Certificates on a developer machine: the gateway's, and the authorities that the machine trusts anyway."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sluicegate.machines.shells import MACOS_KEYCHAINS
from sluicegate.machines.variables import ADDED_CA_VARIABLE, OWN_CA_VARIABLES
from sluicegate.network.outbound.trust import SYSTEM_BUNDLES

BEGIN = b"-----BEGIN CERTIFICATE-----"

KEYCHAIN_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What people compare one of the gateway's CAs by."""

    sha256: str
    signs_from: str | None = None
    """From when it signs, for one that does not yet."""

    def as_text(self) -> str:
        """Return it in words."""
        if self.signs_from is None:
            return f"Compare the SHA-256 of the gateway's CA: {self.sha256}"
        return f"The SHA-256 of the CA that takes its place on {self.signs_from[:10]}: {self.sha256}"


def added(gateway: bytes, env: Mapping[str, str]) -> bytes:
    """Return the gateway's certificate with those that the developer has Node add, in PEM."""
    return _joined([gateway, *_own(env, (ADDED_CA_VARIABLE,))])


def bundle(gateway: bytes, env: Mapping[str, str]) -> bytes:
    """Return the system's authorities, those that the developer's variables name, and the gateway's certificates, in PEM."""
    return _joined([_system_authorities(), *_own(env, OWN_CA_VARIABLES), gateway])


def _own(env: Mapping[str, str], variables: Sequence[str]) -> list[bytes]:
    """Return what variables name. A file of ours is left out: it holds an authority of this gateway, or of another."""
    paths = [Path(path).expanduser() for name in variables if (path := env.get(name)) and "sluicegate" not in path]
    return [_read(path) for path in dict.fromkeys(paths)]


def _joined(contents: Sequence[bytes]) -> bytes:
    """Return certificates in one file, whether or not each ends with a new line."""
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
