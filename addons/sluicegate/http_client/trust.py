"""Whom connections trust: the system's authorities, certifi's, and those that a gateway adds."""

from __future__ import annotations

import functools
import os
import ssl

_extra_authorities: str | None = None


def trust(extra: str | None) -> None:
    """Trust these authorities too from now on, PEM; None for no others than are trusted anyway. Blocks for some 20 ms."""
    global _extra_authorities
    if extra is not None:
        _context_with(extra, *_system_authorities())  # so that nobody waits for it later, and what cannot be used changes nothing
    _extra_authorities = extra


def extra_authorities() -> str | None:
    """Return what ``trust`` was given last."""
    return _extra_authorities


def ssl_context(url: str) -> ssl.SSLContext:
    """Return a context that verifies; one without any authority for plain HTTP, where loading them would cost 20 ms."""
    return trusting_context() if url.lower().startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def trusting_context() -> ssl.SSLContext:
    """Return a context with all authorities that are trusted now."""
    return _context_with(_extra_authorities, *_system_authorities())


def _system_authorities() -> tuple[str | None, ...]:
    """Return where the environment says that the system's authorities are."""
    return os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")


@functools.lru_cache(maxsize=4)
def _context_with(extra: str | None, file: str | None, folder: str | None) -> ssl.SSLContext:
    """Return a context with the system's authorities, which OpenSSL finds by ``file`` and ``folder``, certifi's and ``extra``."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if extra is not None:
        context.load_verify_locations(cadata=extra)
        # Companies' authorities often lack what newer rules ask for; mitmproxy, which calls providers, does not ask for it either.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
