"""The only HTTP client of the running product: webhooks, telemetry, bills, tokens, and the command line's requests to a gateway.

All follow no redirects, verify TLS, and read nothing from the environment themselves: ``.netrc`` would add credentials that were
never configured here. A gateway sets its proxy with ``choose_proxies``.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import logging
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from sluicegate import __version__
from sluicegate.addresses import refusal_of_server

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

WEBHOOK_IO_TIMEOUT_S = 5.0
"""Time to wait for a connection to a webhook, or for its next byte."""

WEBHOOK_DEADLINE_S = 10.0
"""Time the whole exchange with a webhook may take, however slowly the bytes come."""

MAX_RESPONSE_BYTES = 256 * 1024 * 1024
"""Largest answer of a gateway that is read; a list of all keys of a large policy is some tens of megabytes."""

_HEADERS = {"user-agent": f"sluicegate/{__version__}", "accept-encoding": "identity", "connection": "close"}

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
        _context_with(extra)  # so that nobody waits for it later, and what cannot be used changes nothing
    _extra_authorities = extra


def _proxy_of(url: str) -> httpx.Proxy | None:
    """Return the proxy for a URL. Raises httpx.InvalidURL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise httpx.InvalidURL(str(e)) from e
    chosen = _choose_proxy(parts.hostname or "", port or (443 if parts.scheme == "https" else 80))
    return _httpx_proxy(*chosen) if chosen is not None else None


def _httpx_proxy(url: str, authorization: str | None) -> httpx.Proxy:
    return httpx.Proxy(url, headers={"proxy-authorization": authorization} if authorization else None)


class UnreachableError(Exception):
    """The server could not be reached, or gave no complete answer in time."""


class InvalidAnswerError(UnreachableError):
    """The server does not speak HTTP, or the URL is invalid."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """By name in any case."""

    def json(self) -> Any:
        """Return the body as JSON; raises ValueError if it is not."""
        return json.loads(self.body)


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float,
    max_bytes: int = MAX_RESPONSE_BYTES,
    needs_body: bool = True,
) -> Response:
    """Send one request and return the answer, whatever its status; with ``needs_body`` False, without a body that cannot be read.

    ``timeout_s`` bounds the time to connect, each wait for bytes, and all of its body. Raises UnreachableError.
    """
    try:
        with (
            httpx.Client(verify=_ssl_context(url), trust_env=False, timeout=timeout_s, proxy=_proxy_of(url)) as client,
            client.stream(method, url, headers=_HEADERS | dict(headers or {}), content=body) as answer,
        ):
            received, end = bytearray(), time.monotonic() + timeout_s
            # Of what is compressed, though nobody asked for that, a few bytes could become gigabytes.
            is_encoded = answer.headers.get("content-encoding", "identity").lower() != "identity"
            for chunk in answer.iter_raw():
                received += chunk
                if is_encoded or len(received) > max_bytes or time.monotonic() > end:
                    if not needs_body:
                        return Response(answer.status_code, b"", answer.headers)
                    raise UnreachableError("its answer is too long, too slow or compressed")
            return Response(answer.status_code, bytes(received), answer.headers)
    except (httpx.InvalidURL, httpx.ProtocolError) as e:
        raise InvalidAnswerError(str(e)) from e
    except (httpx.HTTPError, OSError, ValueError) as e:
        raise UnreachableError(str(e) or type(e).__name__) from e


def post_webhook(url: str, body: bytes, headers: Mapping[str, str]) -> str | None:
    """Return None if the receiver accepted the POST (2xx), else what went wrong, without the URL."""
    if why := _refusal_of_receiver(url):
        return why
    try:
        status = asyncio.run(_post(url, body, headers))
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as e:
        if (untrusted := _innermost(e, ssl.SSLCertVerificationError)) is not None:
            return f"its certificate is not trusted: {untrusted.verify_message}"
        # Only the class: the text of some errors quotes the URL, or what was sent or received.
        return f"it could not be reached ({type(_innermost(e, OSError) or e).__name__})"
    if 200 <= status < 300:
        return None
    return f"it answered {status}" + ("; redirects are not followed" if 300 <= status < 400 else "")


class NotSentError(UnreachableError):
    """No connection was made, so nothing was sent."""


class NoAnswerError(UnreachableError):
    """The request was sent and no answer came: the connection broke off, or what came is no HTTP."""


class TooSlowError(NoAnswerError):
    """No answer, or no more of it, came in time."""


@dataclass(slots=True)
class StreamedAnswer:
    """An answer whose body is still to come. ``close`` it, however it ends."""

    status: int
    headers: list[tuple[bytes, bytes]]
    chunks: AsyncIterator[bytes]
    """The body as it arrives, as it is encoded. Raises UnreachableError where it breaks off."""
    close: Callable[[], Awaitable[None]]


class StreamingClient:
    """Sends requests whose answers are read as they arrive, on connections that are kept. Use it in one event loop."""

    def __init__(self, ca_file: str | None = None) -> None:
        """``ca_file`` holds the authorities to trust in place of the system's."""
        self._ca_file = ca_file
        self._client: httpx.AsyncClient | None = None
        self._context: ssl.SSLContext | None = None
        self._extra: str | None = None
        self._left: list[httpx.AsyncClient] = []  # whose authorities have changed; answers may still be read from them
        self._proxied: dict[tuple[str, str | None], httpx.AsyncClient] = {}
        """By proxy and its authorization."""

    @property
    def is_open(self) -> bool:
        """Return whether the client behind it has been made."""
        return self._client is not None

    def open(self) -> httpx.AsyncClient:
        """Return the client behind it, made once. Blocks for 20 ms then, while the authorities are loaded."""
        if self._client is not None and self._extra is not _extra_authorities:
            self._left += [self._client, *self._proxied.values()]
            self._client, self._proxied = None, {}
        if self._client is None:
            self._extra = _extra_authorities
            self._context = ssl.create_default_context(cafile=self._ca_file) if self._ca_file else _context_with(_extra_authorities)
            self._client = self._make(None)
        return self._client

    def _make(self, proxy: httpx.Proxy | None) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=200, keepalive_expiry=60)
        return httpx.AsyncClient(verify=self._context or True, trust_env=False, limits=limits, proxy=proxy)

    def _client_for(self, host: str, port: int) -> httpx.AsyncClient:
        """Return the client for a server: that of the proxy on the way, or the one without."""
        direct = self.open()
        if (chosen := _choose_proxy(host, port)) is None:
            return direct
        if chosen not in self._proxied:
            self._proxied[chosen] = self._make(_httpx_proxy(*chosen))
        return self._proxied[chosen]

    async def send(
        self,
        method: str,
        server: tuple[str, str, int],
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        on_sent: Callable[[], None] = lambda: None,
    ) -> StreamedAnswer:
        """Send a request to ``server`` (scheme, host, port) and return its answer once its headers are there.

        ``on_sent`` is called when its first bytes leave. Nothing is added to ``headers`` but what frames the body.
        Raises NotSentError or NoAnswerError.
        """
        scheme, host, port = server
        timeout = httpx.Timeout(read_timeout_s, connect=connect_timeout_s, pool=connect_timeout_s)
        try:
            url = httpx.URL(scheme=scheme, host=host, port=port)
            request = httpx.Request(method, url, headers=headers, content=body)
            # The target apart from the URL, in which httpx would write some of its characters in another way.
            request.extensions = _Extensions(timeout=timeout.as_dict(), target=target, trace=_tracing(on_sent))
            answer = await self._client_for(host, port).send(request, stream=True, follow_redirects=False)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as e:
            raise NotSentError(_reason_of(e)) from e
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as e:
            raise _no_answer(e) from e
        return StreamedAnswer(answer.status_code, answer.headers.raw, _chunks_of(answer), answer.aclose)

    async def close(self) -> None:
        """Close all connections."""
        for client in filter(None, (self._client, *self._proxied.values(), *self._left)):
            await client.aclose()


class _Extensions(dict[str, Any]):
    """What httpcore is told of a request. It tells the same of the CONNECT before it, whose target is the server's name."""

    def __getitem__(self, name: str) -> Any:
        """Return a value; the target once."""
        return self.pop(name) if name == "target" else super().__getitem__(name)


def _tracing(on_sent: Callable[[], None]) -> Callable[[str, Any], Awaitable[None]]:
    """Return what httpcore calls at each step of a request."""

    async def trace(step: str, info: Any) -> None:
        if step == "http11.send_request_headers.started" and info["request"].method != b"CONNECT":
            on_sent()

    return trace


async def _chunks_of(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    except (httpx.HTTPError, OSError) as e:
        raise _no_answer(e) from e


def _no_answer(error: Exception) -> NoAnswerError:
    return (TooSlowError if isinstance(error, httpx.TimeoutException) else NoAnswerError)(_reason_of(error))


def _reason_of(error: Exception) -> str:
    """Return what went wrong, in words without an address or what was sent."""
    untrusted = _innermost(error, ssl.SSLCertVerificationError)
    if untrusted is not None:
        return f"its certificate is not trusted: {untrusted.verify_message}"
    if isinstance(error, httpx.TimeoutException):
        return "it took too long"
    cause = _innermost(error, OSError)
    return (cause and cause.strerror) or type(cause or error).__name__


def _refusal_of_receiver(url: str) -> str | None:
    """Return why nothing is posted to a URL: its name leads where no receiver can be, such as a cloud's metadata."""
    try:
        found = socket.getaddrinfo((parts := urlsplit(url)).hostname, parts.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return None  # the attempt itself will say so
    if any(refusal_of_server(str(address[0])) for *_, address in found):
        return "its host has a link-local, unspecified or reserved address; nothing was sent"
    return None


async def _post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Return the status of the answer; its body is never read. Async only for the deadline: httpx's begins again with each byte."""
    async with asyncio.timeout(WEBHOOK_DEADLINE_S):
        client = httpx.AsyncClient(verify=_ssl_context(url), trust_env=False, timeout=WEBHOOK_IO_TIMEOUT_S, proxy=_proxy_of(url))
        async with client, client.stream("POST", url, headers=_HEADERS | dict(headers), content=body) as answer:
            return answer.status_code


def _innermost[E: BaseException](error: BaseException | None, kind: type[E]) -> E | None:
    """Return the last error of this kind among an error and its causes: httpx and anyio wrap what the system said."""
    found = None
    while error is not None:
        found = error if isinstance(error, kind) else found
        error = error.__cause__ or error.__context__
    return found


def _ssl_context(url: str) -> ssl.SSLContext:
    """Return a context that verifies; one without any authority for plain HTTP, where loading them would cost 20 ms."""
    return _context_with(_extra_authorities) if url.lower().startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@functools.lru_cache(maxsize=4)
def _context_with(extra: str | None) -> ssl.SSLContext:
    """Return a context with the system's authorities, certifi's for systems that have none, and those of ``trust``."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if extra is not None:
        context.load_verify_locations(cadata=extra)
        # Companies' authorities often lack what newer rules ask for; mitmproxy, which calls providers, does not ask for it either.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
