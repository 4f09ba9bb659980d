"""Authorities trusted on the way out: those that are trusted anyway, and the company's own of ``server.ca_bundle``."""

from __future__ import annotations

import hashlib
import os
import ssl
from pathlib import Path

from sluicegate.atomic_write import write_private

SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where systems keep their authorities in one file: Debian and Alpine, Fedora, openSUSE, macOS and the BSDs."""

MAX_BUNDLE_BYTES = 8 << 20
"""Largest bundle that is read; a system's whole store has a quarter of a megabyte."""

BEGIN = "-----BEGIN CERTIFICATE-----"
END = "-----END CERTIFICATE-----"


class TrustError(ValueError):
    """What should hold authorities does not."""


def read_bundle(path: str) -> str:
    """Return the certificates of a PEM file. Raises TrustError, which names the file and what to do."""
    from cryptography import x509

    where = f"server.ca_bundle: {path}"
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait forever.
        with os.fdopen(os.open(Path(path).expanduser(), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            data = file.read(MAX_BUNDLE_BYTES + 1) or b""
    except (OSError, RuntimeError) as e:
        raise TrustError(f"{where} cannot be read: {getattr(e, 'strerror', None) or e}") from e
    if len(data) > MAX_BUNDLE_BYTES:
        raise TrustError(f"{where} is larger than {MAX_BUNDLE_BYTES >> 20} MiB")
    text = data.decode("latin-1")
    if "PRIVATE KEY" in text:
        raise TrustError(f"{where} holds a private key: give certificates alone")
    parts = _certificates(text)
    if not parts or text.count(BEGIN) != len(parts):
        raise TrustError(f"{where} is not a complete PEM file of certificates; for a DER file: openssl x509 -inform der -in FILE")
    for number, part in enumerate(parts, 1):
        try:
            x509.load_pem_x509_certificate(part.encode("latin-1"))
        except ValueError as e:
            raise TrustError(f"{where}: its certificate number {number} cannot be read") from e
    return "".join(parts)


def _certificates(text: str) -> list[str]:
    """Return the certificates among what else a PEM file says."""
    return [BEGIN + part.rpartition(BEGIN)[2] + END + "\n" for part in text.split(END)[:-1] if BEGIN in part]


def trusted_anyway() -> list[str]:
    """Return the authorities of the system, or those that the environment names in their place, and certifi's."""
    import certifi

    own = ssl.get_default_verify_paths().cafile
    candidates = (*([own] if own else []), *SYSTEM_BUNDLES)
    system = next((found for path in candidates if (found := _read(Path(path)))), "")
    return [system, _read(Path(certifi.where()))]


def _read(path: Path) -> str:
    try:
        return path.read_text("latin-1")
    except OSError:
        return ""


class Trust:
    """What is trusted now, for mitmproxy as a file in the state folder, for our own HTTP client as it is."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.bundle: str | None = None
        """The operator's file, as the policy names it."""
        self.count = 0
        """Authorities in it."""
        self.file: Path | None = None
        """All authorities together; None while there is no bundle. Another one whenever they change."""

    def follow(self, bundle: str | None) -> None:
        """Trust what a policy names from now on. Blocking. Raises TrustError or OSError, and then nothing has changed."""
        # The command line needs only the names above, and its commands would take twice as long to start.
        from sluicegate.http_client.trust import trust

        extra = None if bundle is None else read_bundle(bundle)
        file = None if extra is None else self._write(extra)
        trust(extra)
        self.bundle, self.count, self.file = bundle, (extra or "").count(BEGIN), file
        for old in self._state_dir.glob("trusted-*.pem"):
            if old != file:
                old.unlink(missing_ok=True)

    def _write(self, extra: str) -> Path:
        parts = (part for text in (*trusted_anyway(), extra) for part in _certificates(text))
        data = "".join(dict.fromkeys(parts)).encode("latin-1")
        # Named by its content: mitmproxy keeps what it has read from a file of a name.
        file = self._state_dir / f"trusted-{hashlib.sha256(data).hexdigest()[:16]}.pem"
        if not file.exists():
            write_private(file, data)
        return file
