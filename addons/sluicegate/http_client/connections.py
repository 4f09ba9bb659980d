"""What all connections share: the library, whom they trust, the proxy on their way, and what may go wrong with them."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import ssl
import sys
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

# httpx imports its own command line, with rich and pygments, whenever these are installed, which doubles the time of the
# import. None in sys.modules makes that inner import fail, and httpx handles the failure.
_modules = cast("dict[str, object]", sys.modules)
_blocked = _modules.setdefault("httpx._main", None) is None
import httpx  # noqa: E402

if _blocked:
    del _modules["httpx._main"]

# httpcore asks for sniffio several times in each request; where it is not installed, each time all folders are searched for it.
if importlib.util.find_spec("sniffio") is None:
    _modules["sniffio"] = None

# httpx logs the URL of every request at INFO, and a webhook's URL is a secret: anyone who has it can post there.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


ProxyChooser = Callable[[str, int], tuple[str, str | None] | None]
"""Returns, for a host and port, the URL of the proxy on the way and its ``Proxy-Authorization``; None for no proxy."""

_choose_proxy: ProxyChooser = lambda host, port: None  # noqa: E731
_extra_authorities: str | None = None


def choose_proxies(chooser: ProxyChooser | None) -> None:
    """Set what chooses proxies from now on; commands that talk to gateways never use one."""
    global _choose_proxy
    _choose_proxy = chooser or (lambda host, port: None)


def trust(extra: str | None) -> None:
    """Trust these authorities too from now on, PEM; None for no others than are trusted anyway. Blocks for some 20 ms."""
    global _extra_authorities
    if extra is not None:
        _context_with(extra, *_system_authorities())  # so that nobody waits for it later, and what cannot be used changes nothing
    _extra_authorities = extra


def extra_authorities() -> str | None:
    """Return what ``trust`` was given last."""
    return _extra_authorities


def proxy_to(host: str, port: int) -> tuple[str, str | None] | None:
    """Return the proxy on the way to a server, and its authorization, as what ``choose_proxies`` was given last chooses it."""
    return _choose_proxy(host, port)


def proxy_of(url: str) -> httpx.Proxy | None:
    """Return the proxy for a URL. Raises httpx.InvalidURL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise httpx.InvalidURL(str(e)) from e
    chosen = proxy_to(parts.hostname or "", port or (443 if parts.scheme == "https" else 80))
    return httpx_proxy(*chosen) if chosen is not None else None


def httpx_proxy(url: str, authorization: str | None) -> httpx.Proxy:
    """Return a proxy in httpx's form."""
    return httpx.Proxy(url, headers={"proxy-authorization": authorization} if authorization else None)


class UnreachableError(Exception):
    """The server could not be reached, or gave no complete answer in time."""


class InvalidAnswerError(UnreachableError):
    """The server does not speak HTTP, or the URL is invalid."""


class NotSentError(UnreachableError):
    """No connection was made, so nothing was sent."""


class InvalidRequestError(NotSentError):
    """What was to be sent is no request of HTTP, so no server was asked."""


class NoAnswerError(UnreachableError):
    """The request was sent and no answer came: the connection broke off, or what came is no HTTP."""


class TooSlowError(NoAnswerError):
    """No answer, or no more of it, came in time."""


def innermost[E: BaseException](error: BaseException | None, kind: type[E]) -> E | None:
    """Return the last error of this kind among an error and its causes: httpx and anyio wrap what the system said."""
    found = None
    while error is not None:
        found = error if isinstance(error, kind) else found
        error = error.__cause__ or error.__context__
    return found


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
